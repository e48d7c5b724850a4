package main

import (
	"runtime/debug"
	"testing"
)

func TestVersionOfABuild(t *testing.T) {
	const commit = "5b7fa23d0c1be7a4c0de5b7fa23d0c1be7a4c0de"
	build := func(module, revision, modified string) *debug.BuildInfo {
		return &debug.BuildInfo{
			Main:     debug.Module{Path: "igdd", Version: module},
			Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "arm"}, {Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}},
		}
	}
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{build("v1.2.0", commit, "false"), "v1.2.0"},
		{build("v1.2.1-0.20261126231400-5b7fa23d0c1b+dirty", commit, "true"), "v1.2.1-0.20261126231400-5b7fa23d0c1b+dirty"},
		{build("(devel)", commit, "false"), "5b7fa23d0c1b"},
		{build("", commit, "true"), "5b7fa23d0c1b-dirty"},
		{build("", "5b7fa", "false"), "5b7fa"},
		{build("(devel)", "", ""), ""},
		{new(debug.BuildInfo), ""},
	} {
		if got := versionOf(c.info); got != c.want {
			t.Errorf("%q with %v: %q, want %q", c.info.Main.Version, c.info.Settings, got, c.want)
		}
	}
}

func TestVersionIsAToken(t *testing.T) {
	for s, want := range map[string]string{
		"v1.2.0-3-g5b7fa23-dirty": "v1.2.0-3-g5b7fa23-dirty",
		"v1.2.0+dirty":            "v1.2.0+dirty",
		"release/1.2 (a)\r\nb":    "release-1.2--a---b",
		"Größe":                   "Gr--e",
	} {
		if got := tokenOf(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
	defer func(v string) { version = v }(version)
	version = "by/linker"
	if got := programVersion(); got != "by-linker" {
		t.Errorf("set by the linker: %q", got)
	}
	version = ""
	if got := programVersion(); got == "" || got != tokenOf(got) {
		t.Errorf("by the build info: %q", got)
	}
}

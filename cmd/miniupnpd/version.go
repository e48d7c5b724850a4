package main

import (
	"cmp"
	"runtime/debug"
	"strings"
)

// version is set by the linker where scripts/build.sh builds the program.
var version string

// revisionLength is how many digits of a commit's name are shown, as in Go's
// pseudo-versions.
const revisionLength = 12

// programVersion returns the version of this program.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return tokenOf(cmp.Or(version, versionOf(info), "unknown"))
}

// versionOf returns the version that go build has noted: that of the module,
// else the commit, "-dirty" if files differed from it, else "".
func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), revisionLength)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}

// tokenOf replaces what cannot stand in a token of HTTP (RFC 9110, section
// 5.6.2): the version is part of the field SERVER.
func tokenOf(s string) string {
	return strings.Map(func(c rune) rune {
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", c) {
			return c
		}
		return '-'
	}, s)
}

package netlab

import (
	"strings"
	"testing"
)

func TestLeftOutIsReportedInOneLine(t *testing.T) {
	var b strings.Builder
	var o omissions
	o.report(&b)
	if b.Len() > 0 {
		t.Errorf("nothing is left out, reported %q", b.String())
	}
	o.tests = map[string][]string{"-short": strings.Fields("A B C D E F G H I"), "mknod needs root": {"TestB/x", "TestA", "TestA"}}
	o.report(&b)
	if want := "netlab: left out: 9 tests (-short); TestA, TestB/x (mknod needs root)\n"; b.String() != want {
		t.Errorf("reported %q, want %q", b.String(), want)
	}
}

func TestLeftOutTestsAreSkipped(t *testing.T) {
	var o omissions
	o.tests = make(map[string][]string)
	var inner *testing.T
	t.Run("inner", func(t *testing.T) { inner = t; o.add(t, "why") })
	if !inner.Skipped() || len(o.tests["why"]) != 1 {
		t.Errorf("skipped %v, noted %q", inner.Skipped(), o.tests)
	}
}

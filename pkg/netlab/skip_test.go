package netlab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestSkipsAreReportedInOneLine(t *testing.T) {
	var b strings.Builder
	var s skips
	s.report(&b)
	if b.Len() > 0 {
		t.Errorf("nothing was skipped, reported %q", b.String())
	}
	s.tests = map[string][]string{"-short": strings.Fields("A B C D E F G H I"), "mknod needs root": {"TestB/x", "TestA", "TestA"}}
	s.report(&b)
	if want := "netlab: skipped: 9 tests (-short); TestA, TestB/x (mknod needs root)\n"; b.String() != want {
		t.Errorf("reported %q, want %q", b.String(), want)
	}
}

// fakeTest is a test that can be skipped.
type fakeTest struct {
	testing.TB
	reason string
}

func (f *fakeTest) Helper()          {}
func (f *fakeTest) Name() string     { return "TestFake" }
func (f *fakeTest) Skip(args ...any) { f.reason = fmt.Sprint(args...) }

func TestSkipsTheTest(t *testing.T) {
	s := skips{tests: make(map[string][]string)}
	var f fakeTest
	s.add(&f, "why")
	if f.reason != "why" || !slices.Equal(s.tests["why"], []string{"TestFake"}) {
		t.Errorf("skipped because of %q, noted %q", f.reason, s.tests)
	}
}

package control

import (
	"strings"
	"testing"
)

func TestMetrics(t *testing.T) {
	r := newRig(t)
	if got := r.tool("metrics"); got.status != exitDone || got.stdout != someMetrics || got.stderr != "" {
		t.Errorf("metrics: %+v, want %q", got, someMetrics)
	}
	for _, args := range [][]string{{"metrics", "--json"}, {"--json", "metrics"}} {
		if got := r.tool(args...); got.status != exitUsage || got.stdout != "" || !strings.Contains(got.stderr, "omit --json") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := r.tool("metrics", "now"); got.status != exitUsage {
		t.Errorf("with an argument: %+v", got)
	}
}

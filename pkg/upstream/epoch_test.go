package upstream

import (
	"testing"
	"time"
)

func TestEpochs(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		before, after uint32
		elapsed       time.Duration
		follows       bool
	}{
		"as long":                     {100, 160, time.Minute, true},
		"a little back":               {100, 99, 0, true},
		"back":                        {100, 98, 0, false},
		"from zero":                   {100, 0, time.Minute, false},
		"a slow clock":                {100, 158, time.Minute, true},
		"too slow":                    {1000, 1800, 1000 * time.Second, false},
		"too fast":                    {1000, 2200, 1000 * time.Second, false},
		"a restart of a router of 1s": {1, 1, time.Hour, false},
		"the largest":                 {1<<32 - 1, 0, time.Minute, false},
	} {
		p, e := promptEpoch(c.before, now), promptEpoch(c.after, now.Add(c.elapsed))
		if e.follows(p) != c.follows {
			t.Errorf("%s: follows is %v", name, !c.follows)
		}
	}
	if !(epoch{}).follows(promptEpoch(5, now)) || !promptEpoch(5, now).follows(epoch{}) {
		t.Error("a protocol without epoch resets")
	}
}

// promptEpoch returns that of an answer that comes at once.
func promptEpoch(seconds uint32, at time.Time) epoch { return epoch{seconds, at, at} }

// TestLateAnswers has answers that are long on their way, or the requests were.
func TestLateAnswers(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		before, after uint32
		elapsed       time.Duration // from the arrival of one answer to that of the other
		first, second time.Duration // from request to answer
		follows       bool
	}{
		"the first":                   {100, 106, 0, 6 * time.Second, 0, true},
		"the second":                  {100, 100, 6 * time.Second, 0, 6 * time.Second, true},
		"overtaken":                   {103, 100, 2 * time.Second, 0, 5 * time.Second, true},
		"faster than that explains":   {100, 110, 0, 6 * time.Second, 0, false},
		"slower than that explains":   {100, 100, 12 * time.Second, 0, 6 * time.Second, false},
		"further back than overtaken": {103, 98, time.Second, 0, 4 * time.Second, false},
	} {
		arrived := now.Add(c.elapsed)
		p, e := epoch{c.before, now.Add(-c.first), now}, epoch{c.after, arrived.Add(-c.second), arrived}
		if e.follows(p) != c.follows {
			t.Errorf("%s: follows is %v", name, !c.follows)
		}
	}
}

func TestPacer(t *testing.T) {
	var p pacer
	now := time.Now()
	for i, step := range []struct {
		after time.Duration
		taken bool
	}{
		{0, true}, {time.Second, false}, {time.Minute, true}, {time.Minute, false}, {time.Minute, true},
		{3 * time.Minute, false}, {24 * time.Hour, true}, {time.Minute, true},
	} {
		now = now.Add(step.after)
		if p.due = true; p.take(now) != step.taken {
			t.Errorf("step %d: taken is %v", i, !step.taken)
		}
	}
	if p.due = false; p.take(now.Add(24 * time.Hour)) {
		t.Error("taken though it is not due")
	}
}

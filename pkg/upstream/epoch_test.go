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
		p, e := epoch{c.before, now}, epoch{c.after, now.Add(c.elapsed)}
		if e.follows(p) != c.follows {
			t.Errorf("%s: follows is %v", name, !c.follows)
		}
	}
	if !(epoch{}).follows(epoch{5, now}) || !(epoch{5, now}).follows(epoch{}) {
		t.Error("a protocol without epoch resets")
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

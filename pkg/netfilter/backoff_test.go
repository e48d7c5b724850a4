package netfilter

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// origin is when the tables of this file begin.
var origin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestBackoff(t *testing.T) {
	t.Parallel()
	var b backoff
	if !b.isOver(origin) {
		t.Error("the first try has to wait")
	}
	now := origin
	for i, tt := range []struct{ took, pause time.Duration }{
		{0, 500 * time.Millisecond},
		{10 * time.Millisecond, time.Second},
		{3 * time.Second, 3 * time.Second},
		{0, 4 * time.Second},
		{20 * time.Second, 20 * time.Second},
		{0, 16 * time.Second},
		{0, 32 * time.Second},
		{0, time.Minute},
		{0, time.Minute},
		{2 * time.Minute, 2 * time.Minute},
		{0, time.Minute},
	} {
		began := now
		now = now.Add(tt.took)
		b.fail(began, now)
		if b.isOver(now.Add(tt.pause-1)) || !b.isOver(now.Add(tt.pause)) {
			t.Errorf("failure %d: the pause is %v, want %v", i+1, b.until.Sub(now), tt.pause)
		}
		now = b.until
	}
	for range 100 {
		b.fail(now, now)
	}
	if got := b.until.Sub(now); got != time.Minute {
		t.Errorf("after 100 failures the pause is %v", got)
	}
}

// A family takes no rules while its last failure is recent.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	var f family
	if err := f.unavailable(origin); err != nil {
		t.Error(err)
	}
	f.failing = errors.New("reason")
	f.retry.fail(origin, origin)
	if err := f.unavailable(origin); !errors.Is(err, portmap.ErrUnavailable) || !errors.Is(err, f.failing) {
		t.Errorf("in the pause: %v", err)
	}
	if err := f.unavailable(f.retry.until); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	var limit tokens
	now := origin
	for i := range repairBurst {
		if wait := limit.wait(now); wait > 0 {
			t.Fatalf("repair %d has to wait for %v", i, wait)
		}
		limit.take(now)
		now = now.Add(time.Millisecond)
	}
	for _, tt := range []struct {
		after time.Duration // the repair before
		waits bool
	}{
		{0, true},
		{repairInterval / 2, true},
		{repairInterval, false},
		{repairInterval / 2, true},
		{3 * repairInterval, false},
		{0, false},
		{0, false},
		{0, true},
	} {
		now = now.Add(tt.after)
		wait := limit.wait(now)
		if (wait > 0) != tt.waits || wait > repairInterval {
			t.Errorf("%v later: %v", tt.after, wait)
		}
		if wait <= 0 {
			limit.take(now)
		}
	}
	if limit.isFull(now.Add(repairInterval)) || !limit.isFull(now.Add((repairBurst+1)*repairInterval)) {
		t.Error("tokens do not come back one by one")
	}
	if !new(tokens).isFull(origin) {
		t.Error("not all are there at the start")
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	type step struct {
		at   time.Duration
		what string
		due  time.Duration // afterwards, since origin
	}
	const ms = time.Millisecond
	for name, steps := range map[string][]step{
		"one change":          {{0, "change", 100 * ms}},
		"a change in silence": {{0, "looked", slowLook}, {time.Minute, "change", time.Minute + 100*ms}},
		"a firewall script": {
			{0, "change", 100 * ms}, {90 * ms, "change", 190 * ms}, {180 * ms, "change", 280 * ms}, {270 * ms, "change", 370 * ms},
			{360 * ms, "change", 460 * ms}, {450 * ms, "change", 500 * ms}, {490 * ms, "change", 500 * ms},
			{520 * ms, "looked", slowLook + 520*ms}, {530 * ms, "change", 630 * ms},
		},
		"own work all the time": {
			{0, "looked", slowLook}, {10 * ms, "doubt", 10*ms + unsureDelay}, {20 * ms, "doubt", 10*ms + unsureDelay}, {1200 * ms, "doubt", 10*ms + unsureDelay},
			{1520 * ms, "looked", slowLook + 1520*ms}, {1530 * ms, "doubt", 1530*ms + unsureDelay},
		},
		"a change during own work": {{0, "doubt", unsureDelay}, {10 * ms, "change", 110 * ms}},
		"doubt about a change":     {{0, "change", 100 * ms}, {10 * ms, "doubt", 100 * ms}},
		"a look that failed": {
			{0, "failed", 8000 * ms}, {1 * ms, "doubt", 8000 * ms}, {7000 * ms, "doubt", 8000 * ms},
			{7100 * ms, "change", 7200 * ms}, {7200 * ms, "failed", 15200 * ms}, {7201 * ms, "doubt", 15200 * ms},
			{15200 * ms, "looked", slowLook + 15200*ms}, {15300 * ms, "doubt", 15300*ms + unsureDelay},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := schedule{due: origin.Add(slowLook)}
			for _, step := range steps {
				now := origin.Add(step.at)
				switch step.what {
				case "change":
					s.change(now)
				case "doubt":
					s.doubt(now)
				case "looked":
					s.looked(now, slowLook, false)
				case "failed":
					s.looked(now, 8*time.Second, true)
				}
				if got := s.due.Sub(origin); got != step.due {
					t.Fatalf("%s at %v: due at %v, want %v", step.what, step.at, got, step.due)
				}
			}
		})
	}
}

// A look that was limited, or repeated for forwards, comes at the earliest time.
func TestNextLook(t *testing.T) {
	t.Parallel()
	pause := func(d time.Duration) backoff { return backoff{until: origin.Add(d)} }
	for name, tt := range map[string]struct {
		family *family
		want   time.Duration
	}{
		"all is well":           {&family{}, slowLook},
		"a failure":             {&family{retry: pause(time.Second)}, time.Second},
		"a refused mapping":     {&family{refusals: pause(time.Minute)}, time.Minute},
		"both":                  {&family{retry: pause(time.Second), refusals: pause(time.Minute)}, time.Second},
		"pauses that are over":  {&family{retry: pause(0), refusals: pause(-time.Second)}, slowLook},
		"forwards that settle":  {&family{again: 2 * time.Second}, 2 * time.Second},
		"forwards, and failure": {&family{again: 2 * time.Second, retry: pause(time.Second)}, time.Second},
	} {
		if got := tt.family.next(origin); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestRepeatedErrors(t *testing.T) {
	t.Parallel()
	refused := func(ports ...uint16) error {
		m := make(map[portmap.Key]error)
		for _, p := range ports {
			m[portmap.Key{Protocol: portmap.TCP, External: p}] = fmt.Errorf("line %d failed", p)
		}
		return newRefusal(m)
	}
	for _, tt := range []struct {
		now, before error
		repeats     bool
	}{
		{fs.ErrInvalid, nil, false},
		{fs.ErrInvalid, fs.ErrInvalid, true},
		{fs.ErrInvalid, fs.ErrExist, false},
		{errors.New("line 12 failed"), errors.New("line 305 failed"), true},
		{refused(1), refused(1), true},
		{refused(1), refused(2), false},
		{refused(1, 2, 3), refused(3, 2, 1), true},
		{refused(1, 2, 3), refused(1, 2), false},
		{refused(1), nil, false},
		{refused(1), errors.New("line 1 failed"), false},
		{errors.New("line 1 failed"), refused(1), false},
		{ErrStopped, ErrStopped, true},
	} {
		if got := repeats(tt.now, tt.before); got != tt.repeats {
			t.Errorf("%v after %v: %v", tt.now, tt.before, got)
		}
	}
}

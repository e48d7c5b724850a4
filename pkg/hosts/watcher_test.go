package hosts

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatcher has clients that come, leave and come back.
func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		laptop, phone := addr("192.168.50.10"), addr("192.168.50.11")
		var log strings.Builder
		var clients, withdrawn []netip.Addr
		var fails error
		index, polls, probes := 7, 0, 0
		here := make(map[netip.Addr]Host)
		w := NewWatcher(Options{
			Grace:    2 * pollInterval,
			Clients:  func() []netip.Addr { return clients },
			Index:    func(netip.Addr) int { return index },
			Withdraw: func(a netip.Addr) { withdrawn = append(withdrawn, a) },
			Log:      slog.New(slog.NewTextHandler(&log, nil)),
		})
		w.read = func(string) (map[netip.Addr]Host, error) { polls++; return here, fails }
		w.probe = func(netip.Addr, int) error { probes++; return nil }
		w.links = func() map[int]bool { return map[int]bool{8: true} }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()

		answers, leased, gone := Host{Answers: true}, Host{Leased: true}, Host{}
		for _, step := range []struct {
			what          string
			clients       []netip.Addr
			laptop, phone Host
			index         int
			wait          time.Duration
			lines         int // that are logged
			withdrawn     []netip.Addr
			idle          bool // no client is looked for
		}{
			{"no client has mappings", nil, gone, gone, 7, 24 * time.Hour, 0, nil, true},
			{"both are here", []netip.Addr{laptop, phone}, answers, leased, 7, 30 * time.Minute, 0, nil, false},
			{"one misses a single round", []netip.Addr{laptop, phone}, gone, leased, 7, pollInterval, 0, nil, false},
			{"and is back", []netip.Addr{laptop, phone}, answers, leased, 7, 2 * pollInterval, 0, nil, false},
			{"one is gone, which is logged once", []netip.Addr{laptop, phone}, gone, leased, 7, 2 * pollInterval, 1, nil, false},
			{"its network is down", []netip.Addr{laptop, phone}, gone, gone, 0, 24 * time.Hour, 0, nil, false},
			{"it is behind a tunnel", []netip.Addr{laptop, phone}, gone, gone, 8, 24 * time.Hour, 0, nil, false},
			{"the grace time starts anew", []netip.Addr{laptop, phone}, gone, leased, 7, 2 * pollInterval, 1, nil, false},
			{"and is over", []netip.Addr{laptop, phone}, gone, leased, 7, pollInterval, 0, []netip.Addr{laptop}, false},
			{"its mappings are gone too", []netip.Addr{phone}, gone, leased, 7, 24 * time.Hour, 0, nil, false},
			{"no client has mappings any more", nil, gone, gone, 7, pollInterval, 0, nil, false},
			{"so none is looked for", nil, gone, gone, 7, 24 * time.Hour, 0, nil, true},
		} {
			clients, index, withdrawn, polls, probes = step.clients, step.index, nil, 0, 0
			here[laptop], here[phone] = step.laptop, step.phone
			log.Reset()
			w.Wake()
			w.Wake()
			time.Sleep(step.wait)
			synctest.Wait()
			if n := strings.Count(log.String(), "\n"); n != step.lines {
				t.Errorf("%s: %d lines of log, want %d:\n%s", step.what, n, step.lines, &log)
			}
			if !slices.Equal(withdrawn, step.withdrawn) {
				t.Errorf("%s: withdrawn %v, want %v", step.what, withdrawn, step.withdrawn)
			}
			if (polls == 0) != step.idle || probes > polls*len(clients) {
				t.Errorf("%s: polled %d times, probed %d times", step.what, polls, probes)
			}
		}
		clients, here[phone], fails = []netip.Addr{phone}, gone, errors.New("no netlink")
		w.Wake()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(withdrawn) > 0 {
			t.Errorf("withdrawn %v though nothing is known", withdrawn)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestWatcherProbesFewAtATime has more clients leave than the kernel's table may be asked
// for at a time: all are noticed in the end.
func TestWatcherProbesFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5*maxAdditions + 1
		var clients []netip.Addr
		for a := addr("2001:db8:50::1000"); len(clients) < n; a = a.Next() {
			clients = append(clients, a)
		}
		withdrawn := make(map[netip.Addr]bool)
		w := NewWatcher(Options{
			Grace:    time.Minute,
			Clients:  func() []netip.Addr { return clients },
			Index:    func(netip.Addr) int { return 7 },
			Withdraw: func(a netip.Addr) { withdrawn[a] = true },
			Log:      slog.New(slog.DiscardHandler),
		})
		var polls atomic.Int32
		w.read = func(string) (map[netip.Addr]Host, error) {
			if polls.Add(1) == 2 {
				return nil, errors.New("no netlink")
			}
			return nil, nil
		}
		w.links = func() map[int]bool { return nil }
		probes := make(map[time.Time]int)
		w.probe = func(netip.Addr, int) error { probes[time.Now()]++; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		w.Wake()
		time.Sleep(pollInterval + 3*stepPause)
		synctest.Wait()
		if n := polls.Load(); n != 2 {
			t.Errorf("polled %d times, want 2: the second one fails", n)
		}
		time.Sleep(4 * pollInterval)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for at, n := range probes {
			if n > maxAdditions {
				t.Errorf("%d clients are probed at %v", n, at)
			}
		}
		if len(withdrawn) != n {
			t.Errorf("%d of %d clients are withdrawn", len(withdrawn), n)
		}
	})
}

func TestAdditions(t *testing.T) {
	var a additions
	now := time.Unix(1000, 0)
	for _, want := range []int{maxAdditions, 0, maxAdditions} {
		taken := 0
		for range 2 * maxAdditions {
			if a.take(now) {
				taken++
			}
		}
		if taken != want {
			t.Errorf("%d may be added, want %d", taken, want)
		}
		now = now.Add(resolveTime / 2)
	}
}

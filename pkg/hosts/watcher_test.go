package hosts

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
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

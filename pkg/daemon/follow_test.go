package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/netif"
)

// brittle is a listener that falls over after a while.
type brittle time.Duration

func (b brittle) Serve(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(b)):
		return errors.New("fell over")
	case <-ctx.Done():
		return nil
	}
}

// follow runs servers on the loopback interface for an hour, but for the last
// half second, which passes at once.
func follow(t *testing.T, servers map[string]server) {
	t.Helper()
	w, err := netif.Watch()
	if err != nil {
		t.Fatal(err)
	}
	f := &supervisor{watch: w, lans: []config.LAN{{Interface: "lo"}}, routes: noRoutes, servers: servers, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour-time.Second/2)
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Error(err)
	}
	w.Run(ctx) // which closes it
}

// TestSupervisorOpensAgain has one server that fails as often as it is opened: it is
// opened again each time, whatever happens to another one meanwhile.
func TestSupervisorOpensAgain(t *testing.T) {
	var opened atomic.Int32
	falls := func(after time.Duration) server {
		return server{open: func(*lanInterface) (listener, error) { opened.Add(1); return brittle(after), nil }}
	}
	never := server{open: func(*lanInterface) (listener, error) { return nil, errors.New("no socket") }}
	for name, c := range map[string]struct {
		servers map[string]server
		times   int32
	}{
		"alone":                         {map[string]server{"A": falls(time.Second)}, 600},
		"while another cannot listen":   {map[string]server{"A": never, "B": falls(restartDelay)}, 360},
		"together with another":         {map[string]server{"A": falls(restartDelay), "B": falls(restartDelay)}, 720},
		"as soon as it is opened":       {map[string]server{"A": falls(0)}, 720},
		"while another works all along": {map[string]server{"A": falls(2 * time.Hour), "B": falls(time.Second)}, 601},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opened.Store(0)
				follow(t, c.servers)
				if n := opened.Load(); n != c.times {
					t.Errorf("servers were opened %d times in an hour, want %d", n, c.times)
				}
			})
		})
	}
}

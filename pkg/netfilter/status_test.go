package netfilter

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// TestHealthWithoutLook asks for the health while no look can begin: it is not known,
// whatever was found before.
func TestHealthWithoutLook(t *testing.T) {
	f := &Firewall{ipv4: newFamily(portmap.IPv4, "iptables", slog.New(slog.DiscardHandler))}
	f.ctx, f.cancel = context.WithCancel(t.Context())
	defer f.cancel()
	f.ipv4.mu.Lock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if got := f.Health(ctx); len(got) != 1 || got[0].IsHealthy() || !errors.Is(got[0].Trouble, errNoLook) {
		t.Errorf("got %+v", got)
	}
	known := errors.New("the kernel is out of memory")
	f.ipv4.update(func(h *health) { h.trouble = known })
	if got := f.Health(ctx); len(got) != 1 || !errors.Is(got[0].Trouble, known) {
		t.Errorf("got %+v", got)
	}
}

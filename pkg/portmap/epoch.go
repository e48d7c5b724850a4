package portmap

import (
	"cmp"
	"net/netip"
	"time"
)

// Epoch is the epoch of NAT-PMP and PCP, which all protocols share (RFC 6886,
// section 3.6; RFC 6887, section 8.5). A new one begins when mappings may have
// been lost, or have moved to another external address.
type Epoch struct {
	Start    time.Duration // by Options.Uptime
	External netip.Addr    // the last valid external address; the zero Addr: none yet
}

// isMoved reports whether mappings of the epoch move if a is the external
// address.
func (e Epoch) isMoved(a netip.Addr) bool {
	return a.IsValid() && e.External.IsValid() && a != e.External
}

// Epoch returns the seconds since the epoch began.
func (t *Table) Epoch() uint32 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return uint32((t.uptime() - t.epoch.Start) / time.Second)
}

// resumeEpoch resumes the saved epoch and reports whether it did: not if there
// is none, or if the external address has changed since.
func (t *Table) resumeEpoch() bool {
	saved, found := t.store.Epoch()
	now := t.alloc.network.outermost()
	if !found || saved.Start > t.uptime() || saved.isMoved(now) {
		return false
	}
	t.setEpoch(Epoch{saved.Start, cmp.Or(now, saved.External)})
	return true
}

// restartEpoch begins a new epoch.
func (t *Table) restartEpoch() { t.setEpoch(Epoch{t.uptime(), t.epoch.External}) }

// setEpoch publishes an epoch to readers, together with the addresses that clients are
// told. The next Save saves it.
func (t *Table) setEpoch(e Epoch) {
	t.store.SetEpoch(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch, t.external, t.uplink = e, t.alloc.network.External, t.alloc.network.Uplink
}

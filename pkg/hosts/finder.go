package hosts

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// How long the Finder trusts what it read in a flood of questions, how often it
// asks one host, and how long it waits for answers. Hosts of a LAN answer in
// milliseconds.
const (
	freshFor   = 50 * time.Millisecond
	askEvery   = 3 * time.Second
	answerTime = 250 * time.Millisecond
	pollEvery  = 10 * time.Millisecond
)

// flood is how many questions a second are one. Reading the neighbour table for
// each of fewer costs less than a hundredth of a processor.
const flood = 50

// maxAsked bounds the hosts of which the Finder remembers that it asked them.
const maxAsked = 1024

// LAN is an interface that hosts are behind.
type LAN struct {
	Index    int            // the kernel's number of it
	Networks []netip.Prefix // of IPv4
}

// has reports whether an address lies in the LAN's networks.
func (l LAN) has(a netip.Addr) bool {
	return slices.ContainsFunc(l.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Identity is what tells hosts apart.
type Identity struct {
	Hardware net.HardwareAddr // empty: not known
	IPv4     []netip.Addr     // what it has in the networks of its LAN, in order; not said of an IPv4 address
}

// Query is the question who has an address.
type Query struct {
	Addr netip.Addr
	LAN  LAN
	// Hardware is whose the address was when it was last known.
	Hardware net.HardwareAddr
	// Named are the IPv4 addresses that are asked for if none of the host's is
	// known otherwise.
	Named []netip.Addr
}

// answeredBy reports whether id says all that is to be found out: of an IPv4
// address that is the hardware address.
func (q Query) answeredBy(id Identity) bool {
	return len(id.IPv4) > 0 || q.Addr.Is4() && len(id.Hardware) > 0
}

// Finder finds out which host has an address, and if that is of IPv6, which IPv4
// addresses that host has: by the kernel's neighbour table, by dnsmasq's leases,
// and by asking. The zero value is ready, without leases.
type Finder struct {
	Leases string // path of dnsmasq's leases file; it may be empty
	Log    *slog.Logger

	mu     sync.Mutex // guards what follows
	last   view
	second time.Time                // when the second began that questions are counted in
	asks   int                      // questions in it
	asked  map[netip.Addr]time.Time // until when a host is not asked again
	proved map[place]time.Time      // until when a neighbour is not asked to prove itself again
}

// view is who was there at a time.
type view struct {
	at         time.Time
	neighbours []Host
	leases     []lease
	changed    time.Time // when the leases file was
}

// Known answers without asking anybody. Settled is false while asking may tell
// more.
func (f *Finder) Known(q Query) (id Identity, settled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id = f.current().identify(q)
	asked := f.asked[q.Addr].After(time.Now())
	if len(id.IPv4) > 1 && !asked { // one may be of yesterday: the kernel forgets what does not answer
		f.note(q.Addr)
		f.Prompt(q.LAN.Index, id.IPv4...)
	}
	return id, q.answeredBy(id) || asked
}

// Hardware returns which hardware address has an address on an interface, as far
// as the neighbour table tells without asking anybody.
func (f *Finder) Hardware(index int, a netip.Addr) net.HardwareAddr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current().owner(Query{Addr: a, LAN: LAN{Index: index}})
}

// Find answers, and asks the host if need be: for its hardware address, then
// for the addresses that are named. It waits no longer than answerTime for each.
func (f *Finder) Find(ctx context.Context, q Query) Identity {
	id, settled := f.Known(q)
	if settled {
		return id
	}
	if len(id.Hardware) == 0 {
		f.Prompt(q.LAN.Index, q.Addr)
		f.await(ctx, func(v *view) bool { id = v.identify(q); return len(id.Hardware) > 0 })
	}
	if len(id.Hardware) > 0 && !q.answeredBy(id) {
		f.Prompt(q.LAN.Index, q.Named...)
		f.await(ctx, func(v *view) bool { return v.answer(q.LAN.Index, q.Named) })
		f.await(ctx, func(v *view) bool { id = v.identify(q); return true })
	}
	if !q.answeredBy(id) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.note(q.Addr)
	}
	return id
}

// Prompt makes the kernel ask for addresses on an interface and does not wait:
// later Known tells.
func (f *Finder) Prompt(index int, addrs ...netip.Addr) {
	for _, a := range addrs {
		if err := Probe(a, index); err != nil {
			f.Log.Debug("cannot ask for a host", "host", a, "err", err)
		}
	}
}

// await looks until something holds, for answerTime at most.
func (f *Finder) await(ctx context.Context, holds func(*view) bool) {
	for deadline := time.Now().Add(answerTime); ; {
		f.mu.Lock()
		done := holds(f.look(pollEvery))
		f.mu.Unlock()
		if done || !time.Now().Before(deadline) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pollEvery):
		}
	}
}

// note remembers that a host was asked, perhaps in vain.
func (f *Finder) note(a netip.Addr) {
	if f.asked == nil || len(f.asked) >= maxAsked {
		f.asked = make(map[netip.Addr]time.Time)
	}
	f.asked[a] = time.Now().Add(askEvery)
}

// current returns who is there now, or in a flood of questions was a moment ago.
func (f *Finder) current() *view {
	if now := time.Now(); now.Sub(f.second) >= time.Second {
		f.second, f.asks = now, 0
	}
	if f.asks++; f.asks > flood {
		return f.look(freshFor)
	}
	return f.look(0)
}

// look returns who is there, or was no longer than old ago.
func (f *Finder) look(old time.Duration) *view {
	now := time.Now()
	if now.Sub(f.last.at) < old {
		return &f.last
	}
	f.last.at = now
	var err error
	if f.last.neighbours, err = readNeighbours(); err != nil {
		f.Log.Debug("cannot read the neighbour table", "err", err)
	}
	if err := f.last.readLeases(f.Leases); err != nil {
		f.Log.Debug("cannot read DHCP leases", "err", err)
	}
	return &f.last
}

// readLeases reads the leases file if it is another than before.
func (v *view) readLeases(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		v.leases, v.changed = nil, time.Time{}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // as without a path
		}
		return err
	}
	if info.ModTime().Equal(v.changed) && v.at.Sub(v.changed) > time.Second { // file systems tell no less apart
		return nil
	}
	v.changed = info.ModTime()
	v.leases, err = readLeases(path, v.at)
	return err
}

// identify returns who has the address of q. Neighbours of other interfaces and
// IPv4 addresses of other networks say nothing about it.
func (v *view) identify(q Query) Identity {
	id := Identity{Hardware: v.owner(q)}
	if len(id.Hardware) > 0 && q.Addr.Is6() {
		id.IPv4 = v.addresses(q.LAN, id.Hardware)
	}
	return id
}

// addresses returns the IPv4 addresses that a hardware address has in the
// networks of a LAN, in order.
func (v *view) addresses(lan LAN, hardware net.HardwareAddr) (list []netip.Addr) {
	for _, h := range v.neighbours {
		if h.speaks(lan.Index) && bytes.Equal(h.Hardware, hardware) && lan.has(h.Addr) {
			list = append(list, h.Addr)
		}
	}
	for _, l := range v.leases {
		if l.holds(v.at) && bytes.Equal(l.hardware, hardware) && lan.has(l.addr) {
			list = append(list, l.addr)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// owner returns the hardware address that has the address of q, or had it.
func (v *view) owner(q Query) net.HardwareAddr {
	for _, h := range v.neighbours {
		if h.Addr == q.Addr && h.speaks(q.LAN.Index) {
			return h.Hardware
		}
	}
	return q.Hardware
}

// answer reports whether all of these addresses are neighbours that answer.
func (v *view) answer(index int, addrs []netip.Addr) bool {
	silent := func(a netip.Addr) bool {
		return !slices.ContainsFunc(v.neighbours, func(h Host) bool { return h.Addr == a && h.speaks(index) })
	}
	return !slices.ContainsFunc(addrs, silent)
}

// speaks reports whether the host is a neighbour on an interface that answers,
// with a hardware address.
func (h Host) speaks(index int) bool { return h.Answers && h.Index == index && len(h.Hardware) > 0 }

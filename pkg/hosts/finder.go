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
	"sort"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// maxAge is how long a snapshot is used while queries are many. A host is probed
// once in probeInterval; its answer, which takes milliseconds on a LAN, is waited
// for up to probeTimeout, and looked for every recheckInterval.
const (
	maxAge          = 50 * time.Millisecond
	probeInterval   = 3 * time.Second
	probeTimeout    = 250 * time.Millisecond
	recheckInterval = 10 * time.Millisecond
)

// busyRate is the number of queries per second above which snapshots are reused.
// Reading the neighbour table for each of fewer takes less than a hundredth of a
// processor.
const busyRate = 50

// maxProbed bounds the hosts of which the Finder remembers that it probed them.
const maxProbed = 1024

// LAN is an interface that hosts are behind.
type LAN struct {
	Index    int            // the kernel's interface index
	Device   string         // the interface's name; "": not known
	Networks []netip.Prefix // of IPv4
}

// contains reports whether an address is in one of the LAN's networks.
func (l LAN) contains(a netip.Addr) bool {
	return slices.ContainsFunc(l.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Identity identifies a host.
type Identity struct {
	Hardware net.HardwareAddr // empty: not known
	IPv4     []netip.Addr     // the host's addresses in the networks of its LAN, sorted; only for a query about an IPv6 address
}

// Query asks which host has an address.
type Query struct {
	Addr netip.Addr
	LAN  LAN
	// Hardware is the host's hardware address when it was last known.
	Hardware net.HardwareAddr
	// Named are the IPv4 addresses that are probed if none of the host's own is
	// known.
	Named []netip.Addr
}

// isAnsweredBy reports whether id is complete: it has IPv4 addresses, or for a
// query about an IPv4 address the hardware address.
func (q Query) isAnsweredBy(id Identity) bool {
	return len(id.IPv4) > 0 || q.Addr.Is4() && len(id.Hardware) > 0
}

// Finder finds the host that has an address, and for an IPv6 address that host's
// IPv4 addresses: in the kernel's neighbour table, in dnsmasq's leases, and by
// probing. A Finder with a Log is ready for use; without Leases it reads none.
type Finder struct {
	Leases string // path of dnsmasq's leases file; it may be empty
	// Routed returns the networks behind other routers on the interface with that index.
	// Their hosts are no neighbours: they are never probed, and have no hardware address,
	// whatever the neighbour table says. nil: there are none.
	Routed func(index int) []netip.Prefix
	Log    *slog.Logger

	netlink   netlink.Socket // for single neighbours
	additions additions      // by Probe

	mu           sync.Mutex // guards what follows
	last         snapshot
	countedSince time.Time                  // start of the second in which queries are counted
	queries      int                        // in that second
	probed       map[netip.Addr]time.Time   // until when a host is not probed again
	verified     map[neighbourKey]time.Time // until when a neighbour is not verified again
	links        map[int]bool               // indexes of the links without hardware addresses
	linksReadAt  time.Time
}

// snapshot holds the neighbours and leases at one time.
type snapshot struct {
	readAt        time.Time
	neighbours    []Host
	leases        []lease
	leasesChanged time.Time // modification time of the leases file
}

// Close releases what the finder has open. Nothing may be asked of it any more.
func (f *Finder) Close() { f.netlink.Close() }

// IsRouted reports whether an address is behind another router on an interface.
func (f *Finder) IsRouted(index int, a netip.Addr) bool {
	return f.Routed != nil && slices.ContainsFunc(f.Routed(index), func(n netip.Prefix) bool { return n.Contains(a) })
}

// Known returns what is known without probing. Settled is false if probing may
// find more.
func (f *Finder) Known(q Query) (id Identity, settled bool) {
	if f.IsRouted(q.LAN.Index, q.Addr) {
		return Identity{}, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id = f.current().identify(q)
	probed := f.probed[q.Addr].After(time.Now())
	if len(id.IPv4) > 1 && !probed { // one may be out of date: a probe makes the kernel remove it
		f.rememberProbe(q.Addr)
		f.Probe(q.LAN.Index, id.IPv4...)
	}
	return id, q.isAnsweredBy(id) || probed
}

// Hardware returns the hardware address of the neighbour with an address on an
// interface, without probing; nil if it does not answer.
func (f *Finder) Hardware(index int, a netip.Addr) net.HardwareAddr {
	if f.IsRouted(index, a) {
		return nil
	}
	h := f.find(index, a)
	if !h.answersOn(index) {
		return nil
	}
	return h.Hardware
}

// Find returns what is known, and probes if that is not complete: for the hardware
// address, then for the named addresses. It waits up to probeTimeout for each.
func (f *Finder) Find(ctx context.Context, q Query) Identity {
	id, settled := f.Known(q)
	if settled {
		return id
	}
	if len(id.Hardware) == 0 {
		f.Probe(q.LAN.Index, q.Addr)
		f.await(ctx, func(s *snapshot) bool { id = s.identify(q); return len(id.Hardware) > 0 })
	}
	if len(id.Hardware) > 0 && !q.isAnsweredBy(id) {
		f.Probe(q.LAN.Index, q.Named...)
		f.await(ctx, func(s *snapshot) bool { return s.allAnswer(q.LAN.Index, q.Named) })
		f.await(ctx, func(s *snapshot) bool { id = s.identify(q); return true })
	}
	if !q.isAnsweredBy(id) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rememberProbe(q.Addr)
	}
	return id
}

// Probe makes the kernel probe addresses on an interface and does not wait; Known
// returns the result later. It reports false if they are too many: the kernel's table has
// room for 1,024 neighbours of the whole machine.
func (f *Finder) Probe(index int, addrs ...netip.Addr) (all bool) {
	for _, a := range addrs {
		if f.IsRouted(index, a) {
			continue
		}
		h, err := getNeighbour(&f.netlink, index, a)
		switch {
		case h.state&unix.NUD_PERMANENT != 0: // as with the function Probe
			continue
		case errors.Is(err, unix.ENOENT) && !f.additions.take(time.Now()):
			return false
		}
		f.Resolve(index, a)
	}
	return true
}

// The kernel takes resolveTime to give up a neighbour. A Finder and a Watcher add as many
// in that time as may wait on a LAN.
const (
	resolveTime  = 3 * time.Second
	maxAdditions = 64
)

// additions counts the neighbours that are added to the kernel's table.
type additions struct {
	mu    sync.Mutex // guards what follows
	since time.Time
	n     int // since then
}

// take counts one more, and reports whether it may be added.
func (a *additions) take(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.since) >= resolveTime {
		a.since, a.n = now, 0
	}
	a.n++
	return a.n <= maxAdditions
}

// await reads snapshots until one fulfils a condition, for up to probeTimeout.
func (f *Finder) await(ctx context.Context, isFulfilled func(*snapshot) bool) {
	for deadline := time.Now().Add(probeTimeout); ; {
		f.mu.Lock()
		done := isFulfilled(f.read(recheckInterval))
		f.mu.Unlock()
		if done || !time.Now().Before(deadline) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(recheckInterval):
		}
	}
}

// rememberProbe remembers that a host was probed, answered or not.
func (f *Finder) rememberProbe(a netip.Addr) {
	if f.probed == nil || len(f.probed) >= maxProbed {
		f.probed = make(map[netip.Addr]time.Time)
	}
	f.probed[a] = time.Now().Add(probeInterval)
}

// current returns a new snapshot, or while queries are many one up to maxAge old.
func (f *Finder) current() *snapshot {
	if now := time.Now(); now.Sub(f.countedSince) >= time.Second {
		f.countedSince, f.queries = now, 0
	}
	if f.queries++; f.queries > busyRate {
		return f.read(maxAge)
	}
	return f.read(0)
}

// read returns a snapshot that is younger than age, the last one or a new one.
func (f *Finder) read(age time.Duration) *snapshot {
	now := time.Now()
	if now.Sub(f.last.readAt) < age {
		return &f.last
	}
	f.last.readAt = now
	var err error
	if f.last.neighbours, err = readNeighbours(); err != nil {
		f.Log.Debug("cannot read the neighbour table", "err", err)
	}
	f.last.neighbours = f.withoutRouted(f.last.neighbours)
	if err := f.last.readLeases(f.Leases); err != nil {
		f.Log.Debug("cannot read DHCP leases", "err", err)
	}
	return &f.last
}

// withoutRouted returns neighbours without those that are behind other routers. There can
// be a thousand, so that it asks once for each interface what is routed there.
func (f *Finder) withoutRouted(neighbours []Host) []Host {
	if f.Routed == nil {
		return neighbours
	}
	routed := make(map[int][]netip.Prefix) // by index of the interface
	return slices.DeleteFunc(neighbours, func(h Host) bool {
		networks, asked := routed[h.Index]
		if !asked {
			networks = f.Routed(h.Index)
			routed[h.Index] = networks
		}
		return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(h.Addr) })
	})
}

// readLeases reads the leases file if it has changed.
func (s *snapshot) readLeases(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		s.leases, s.leasesChanged = nil, time.Time{}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // as without a path
		}
		return err
	}
	if info.ModTime().Equal(s.leasesChanged) && s.readAt.Sub(s.leasesChanged) > time.Second { // the resolution of file times may be a second
		return nil
	}
	s.leasesChanged = info.ModTime()
	s.leases, err = readLeases(path, s.readAt)
	return err
}

// identify returns the host that has the address of q. Neighbours on other
// interfaces and IPv4 addresses of other networks are ignored.
func (s *snapshot) identify(q Query) Identity {
	id := Identity{Hardware: s.hardwareOf(q)}
	if len(id.Hardware) > 0 && q.Addr.Is6() {
		id.IPv4 = s.ipv4Addrs(q.LAN, id.Hardware)
	}
	return id
}

// ipv4Addrs returns the IPv4 addresses of a hardware address in the networks of a
// LAN, sorted.
func (s *snapshot) ipv4Addrs(lan LAN, hardware net.HardwareAddr) (list []netip.Addr) {
	for _, h := range s.neighbours {
		if h.answersOn(lan.Index) && bytes.Equal(h.Hardware, hardware) && lan.contains(h.Addr) {
			list = append(list, h.Addr)
		}
	}
	for _, l := range s.leases {
		if l.isValid(s.readAt) && bytes.Equal(l.hardware, hardware) && lan.contains(l.addr) {
			list = append(list, l.addr)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Less(list[j]) })
	return slices.Compact(list)
}

// hardwareOf returns the hardware address of the address of q, or the last known.
func (s *snapshot) hardwareOf(q Query) net.HardwareAddr {
	for _, h := range s.neighbours {
		if h.Addr == q.Addr && h.answersOn(q.LAN.Index) {
			return h.Hardware
		}
	}
	return q.Hardware
}

// allAnswer reports whether all of these addresses belong to neighbours that answer.
func (s *snapshot) allAnswer(index int, addrs []netip.Addr) bool {
	isSilent := func(a netip.Addr) bool {
		return !slices.ContainsFunc(s.neighbours, func(h Host) bool { return h.Addr == a && h.answersOn(index) })
	}
	return !slices.ContainsFunc(addrs, isSilent)
}

// answersOn reports whether the host is a neighbour on that interface, answers and
// has a hardware address.
func (h Host) answersOn(index int) bool { return h.Answers && h.Index == index && len(h.Hardware) > 0 }

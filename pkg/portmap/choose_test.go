package portmap

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// holdAll holds down n TCP and UDP ports from first on, of as many hosts as that takes.
func holdAll(al *allocator, first uint16, n int) {
	for i := range n {
		for _, p := range []Protocol{TCP, UDP} {
			m := &Mapping{Key: Key{Protocol: p, External: first + uint16(i)}, Internal: netip.AddrPortFrom(peer, 1), Claims: []Claim{{Origin: PCP}}}
			al.holdDown.add(m, hostKey{name: fmt.Sprint(i)}, hostKey{name: fmt.Sprint(i)}, al.now)
		}
	}
}

// listenAt has programs of the router listen at ports, and returns how often the
// allocator has asked for one of them, and for all.
func listenAt(al *allocator, ports *PortSet) (one, all *int) {
	one, all = new(int), new(int)
	al.listening = func(_ Protocol, port uint16) bool { *one++; return ports.Has(port) }
	al.listeners = func(Protocol) *PortSet { *all++; return ports }
	return one, all
}

// TestSearchAsksForListenersOnce has programs listen at all ports but the last: the
// allocator asks for all of them together, whatever their number.
func TestSearchAsksForListenersOnce(t *testing.T) {
	for _, tt := range []struct {
		first      uint16 // port at which a program listens, up to the last but one
		wantOne    int
		wantAll    int
		wantAnswer uint16
	}{
		{65535, 1, 0, 40001}, // none does
		{40001, 2, 1, 65535},
		{1024, 3, 1, 65535},
	} {
		al := testAllocator()
		ports := new(PortSet)
		if tt.first < 65535 {
			ports.AddRange(PortRange{tt.first, 65534})
		}
		al.do(ask(NATPMP, host, UDP, 40000, 40000))
		one, all := listenAt(al, ports)
		a := al.do(ask(NATPMP, peer, UDP, 40000, 40000))
		if a.Refusal != Granted || a.Mapping.External != tt.wantAnswer || *one > tt.wantOne || *all != tt.wantAll {
			t.Errorf("from %d on: %+v after asking for %d ports, %d times for all", tt.first, a, *one, *all)
		}
	}
}

// TestSearchWithoutListOfListeners finds a port when the list of them cannot be read.
func TestSearchWithoutListOfListeners(t *testing.T) {
	al := testAllocator()
	listenAt(al, portsOf(PortRange{40000, 40009}))
	al.listeners = func(Protocol) *PortSet { return new(PortSet) }
	if a := al.do(ask(NATPMP, host, UDP, 40000, 40000)); a.Refusal != Granted || a.Mapping.External != 40010 {
		t.Errorf("%+v", a)
	}
}

// TestHoldDownEndsInTime ends the hold-down of each port when it is due, whatever other
// ports came before and after.
func TestHoldDownEndsInTime(t *testing.T) {
	h, start := newHoldDown(make(numbers)), time.Now()
	at := func(p Protocol, port uint16) *Mapping {
		return &Mapping{Key: Key{Protocol: p, External: port}, Internal: netip.AddrPortFrom(host, port)}
	}
	h.add(at(TCP, 1), hostKey{name: "a"}, hostKey{name: "a"}, start)
	h.add(at(UDP, 2), hostKey{name: "a"}, hostKey{name: "a"}, start)
	h.add(at(UDP, 3), hostKey{name: "b"}, hostKey{name: "b"}, start.Add(time.Second))
	h.add(at(UDP, 2), hostKey{name: "b"}, hostKey{name: "b"}, start.Add(2*time.Second)) // again
	h.add(at(UDP, 4), hostKey{name: "a"}, hostKey{name: "a"}, start.Add(2*time.Second))
	h.forget(at(UDP, 4).Key)
	for _, tt := range []struct {
		after    time.Duration
		tcp, udp []PortRange
	}{
		{2 * time.Minute, []PortRange{{1, 1}}, []PortRange{{2, 3}}},
		{2*time.Minute + time.Second, []PortRange{{1, 1}}, []PortRange{{2, 2}}},
		{2*time.Minute + 2*time.Second, []PortRange{{1, 1}}, nil},
		{10*time.Minute - 1, []PortRange{{1, 1}}, nil},
		{10 * time.Minute, nil, nil},
	} {
		h.sweep(start.Add(tt.after))
		if tcp, udp := h.held[TCP].Ranges(), h.held[UDP].Ranges(); !slices.Equal(tcp, tt.tcp) || !slices.Equal(udp, tt.udp) {
			t.Errorf("after %v: %v and %v are held, want %v and %v", tt.after, tcp, udp, tt.tcp, tt.udp)
		}
		if n := len(tt.tcp) + h.held[UDP].Len(); len(h.ports) != n || h.queues[TCP].Len()+h.queues[UDP].Len() != n {
			t.Errorf("after %v: %d ports in all", tt.after, len(h.ports))
		}
	}
	if len(h.perHost) > 0 || len(h.numbers) > 0 {
		t.Errorf("hosts have %v and %v", h.perHost, h.numbers)
	}
}

// BenchmarkChoose asks for any port, of which the last one is left.
func BenchmarkChoose(b *testing.B) {
	few, all := PortRange{2000, 2063}, PortRange{1024, 65535}
	without := func(r PortRange, port uint16) *PortSet {
		s := portsOf(r)
		s.Remove(port)
		return s
	}
	for _, bb := range []struct {
		name string
		set  func(al *allocator)
	}{
		{"empty", func(*allocator) {}},
		{"64-empty", func(al *allocator) { al.policy.ExternalPorts = portsOf(few) }},
		{"64-mapped", func(al *allocator) {
			al.policy.ExternalPorts = portsOf(few)
			fillFrom(al, few.First, 63)
		}},
		{"64-of-16k-mapped", func(al *allocator) { // the others by earlier settings
			al.policy.ExternalPorts = portsOf(few)
			fillFrom(al, few.Last+1, 16321)
			fillFrom(al, few.First, 63)
		}},
		{"2k-own", func(al *allocator) {
			al.policy.ExternalPorts = portsOf(PortRange{1024, 16383})
			for i := range uint16(2048) {
				al.do(ask(PCP, host, TCP, 1024+i, 0))
			}
		}},
		{"64k-mapped", func(al *allocator) { fillFrom(al, 1024, 64511) }},
		{"16k-mapped", func(al *allocator) { fillFrom(al, 1024, 16384) }},
		{"64-held", func(al *allocator) {
			al.policy.ExternalPorts = portsOf(few)
			holdAll(al, few.First, 63)
		}},
		{"32k-held", func(al *allocator) { holdAll(al, 1024, 32768) }},
		{"64k-held", func(al *allocator) { holdAll(al, 1024, 64511) }},
		{"64-listening", func(al *allocator) {
			al.policy.ExternalPorts = portsOf(few)
			listenAt(al, without(few, few.Last))
		}},
		{"64k-listening", func(al *allocator) { listenAt(al, without(all, all.Last)) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			al := testAllocator()
			listenAt(al, new(PortSet))
			bb.set(al)
			al.benchmark(b, ask(NATPMP, host, UDP, 9, 0))
		})
	}
}

// fillFrom adds n UDP mappings from an external port on.
func fillFrom(al *allocator, first uint16, n int) {
	for i := range n {
		m := &Mapping{
			Key:      Key{Protocol: UDP, External: first + uint16(i)},
			Internal: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)}), uint16(1024+i)),
			Claims:   []Claim{{Origin: NATPMP}},
			Serial:   al.serial + 1,
		}
		al.serial++
		al.change(Change{After: m})
	}
	al.changes = nil
}

package netfilter

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// otherPause is the least time between two looks at the tables of the other
// variant, unless the operator asks. They are not the daemon's to repair, and a
// program such as a blocklist may change them all the time.
const otherPause = time.Minute

// other is the tables of a family in the variant of iptables that the daemon
// does not use. Packets pass through the rules of both variants.
type other struct {
	programs *xtables.Programs
	mu       lock // held during a look
}

// findOthers finds the programs that list the tables of the other variant,
// without running them.
func (f *Firewall) findOthers() {
	for _, family := range f.families() {
		if p := f.ipv4.programs.FindOther(family.name); p != nil {
			family.other = &other{p, make(lock, 1)}
		}
	}
}

// runOthers looks at the tables of the other variant after changes until ctx
// ends.
func (f *Firewall) runOthers(ctx context.Context) error {
	if f.ipv4.other == nil {
		return nil
	}
	work, ctx := errgroup.WithContext(ctx)
	w := f.ipv4.other.programs.NewWatch()
	work.Go(func() error {
		if err := w.Run(ctx, f.ipv4.other.programs); err != nil {
			f.log.Debug("changes of the other variant of iptables are found by the periodic check only", "check_every", slowLook, "err", err)
		}
		return nil
	})
	work.Go(func() error { f.followOthers(ctx, w.Changed); return nil })
	return work.Wait()
}

// followOthers looks at the other variant's tables of each family whenever that
// is due.
func (f *Firewall) followOthers(ctx context.Context, changed <-chan struct{}) {
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	due := time.Now().Add(firstLook)
	var last time.Time // of the looks
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			due = earlier(due, later(last.Add(otherPause), time.Now().Add(maxDelay)))
		case <-timer.C:
			for _, family := range f.families() {
				f.lookAtOther(ctx, family)
			}
			last = time.Now()
			due = last.Add(slowLook)
		}
		timer.Reset(time.Until(due))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lookAtOther lists the other variant's tables of a family and notes which of
// their rules stop connections of mappings. Tables that its program cannot list,
// such as those that only nft can, are not judged.
func (f *Firewall) lookAtOther(ctx context.Context, family *family) {
	o := family.other
	if o == nil || o.mu.LockContext(ctx) != nil {
		return
	}
	defer o.mu.Unlock()
	s, err := o.programs.Snapshot(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		f.log.Debug("cannot judge the rules of the other variant of iptables", "program", o.programs.Name(), "err", err)
	}
	var reasons, before []string
	for _, fault := range f.judgeOther(family, s) {
		reasons = append(reasons, "the rules of "+o.programs.Name()+" "+fault)
	}
	family.update(func(h *health) { before, h.other = h.other, reasons })
	for _, reason := range reasons {
		if !slices.Contains(before, reason) {
			f.log.Warn("mappings do not work: "+reason, "family", family.kind)
		}
	}
}

// judgeOther returns what the rules of the other variant do to connections of
// mappings: "stop them: filter FORWARD policy DROP".
func (f *Firewall) judgeOther(family *family, s xtables.Snapshot) (faults []string) {
	if len(s) == 0 {
		return nil
	}
	j := judge{tables: s, chain: f.forward, network: f.currentNetwork()}
	if family == f.ipv6 {
		j.chain = f.forward6
	}
	mappings := slices.DeleteFunc(family.mappings(), func(m *portmap.Mapping) bool { return m.Dormant || !m.Enabled() })
	add := func(does string, rules []string) {
		for _, by := range rules {
			faults = append(faults, does+": "+by)
		}
	}
	all := j.blockers(target{external: xtables.EveryPort(), internal: xtables.EveryPort()})
	add("stop them", all)
	var some []string
	for _, t := range targets(mappings) {
		some = append(some, j.blockers(t)...)
	}
	add("stop some of them", slices.DeleteFunc(distinct(some), func(by string) bool { return slices.Contains(all, by) }))
	if family == f.ipv4 {
		add("may forward some of them elsewhere", f.diverting(s["nat"], mappings))
	}
	return faults
}

// target is where mappings lead to.
type target struct {
	to       netip.Addr // the zero Addr: anywhere
	external xtables.PortSet
	internal xtables.PortSet
}

// targets returns where mappings lead to, by host.
func targets(mappings []*portmap.Mapping) (list []target) {
	external, internal := make(map[netip.Addr][]xtables.PortSet), make(map[netip.Addr][]xtables.PortSet)
	var hosts []netip.Addr
	for _, m := range mappings {
		to := m.Internal.Addr()
		inside := portSet(m.Protocol, m.Internal.Port())
		outside := inside // a pinhole
		if m.External != 0 {
			outside = portSet(m.Protocol, m.External)
		}
		external[to], internal[to] = append(external[to], outside), append(internal[to], inside)
		hosts = append(hosts, to)
	}
	for _, to := range distinct(hosts) {
		t := target{to: to}
		t.external, _ = xtables.Union(external[to]...)
		t.internal, _ = xtables.Union(internal[to]...)
		list = append(list, t)
	}
	return list
}

// portSet returns the set of one port.
func portSet(p portmap.Protocol, port uint16) xtables.PortSet {
	return xtables.PortsOf(xtables.PortRange{First: port, Last: port}, xtables.Protocol(p))
}

// judge tells which rules stop connections to mappings.
type judge struct {
	tables  xtables.Snapshot
	chain   *chain // of the daemon's that accepts the connections
	network Network
}

// The chains that connections pass, before and after the routing.
var (
	beforeRouting = [...][2]string{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}}
	afterRouting  = [...][2]string{{"mangle", "FORWARD"}, {"filter", "FORWARD"}, {"security", "FORWARD"}, {"mangle", "POSTROUTING"}}
)

// blockers returns the rules and policies that certainly stop connections from
// an uplink to a target, such as "filter FORWARD policy DROP". Anywhere means
// that they stop all of TCP or of UDP.
func (j judge) blockers(t target) (list []string) {
	for _, device := range j.chain.wan {
		for _, c := range beforeRouting {
			list = append(list, j.stops(c, t, t.external, []xtables.Packet{j.arriving(device, t)})...)
		}
		var packets []xtables.Packet
		for _, lan := range j.chain.ways(device, j.network) {
			p := j.chain.packet(device, lan, j.network)
			p.Destination, p.Public = t.to, true
			packets = append(packets, p)
		}
		for _, c := range afterRouting {
			list = append(list, j.stops(c, t, t.internal, packets)...)
		}
	}
	return distinct(list)
}

// arriving returns the packets to a target that come in by an uplink.
func (j judge) arriving(device string, t target) xtables.Packet {
	p := j.chain.packet(device, "", j.network)
	p.Public, p.Translated = true, false
	if j.chain.family.kind == portmap.IPv6 {
		p.Destination = t.to
		return p
	}
	p.Local = true
	if a := j.network.Uplink.Addrs; len(a) > 0 && p.In == j.network.Uplink.Device {
		p.Destination = a[0]
	}
	return p
}

// stops returns what in a built-in chain stops connections to a target, by each
// of several ways: the target's is one of them.
func (j judge) stops(c [2]string, t target, ports xtables.PortSet, ways []xtables.Packet) []string {
	stopped := ports
	var rules []xtables.Step
	for _, p := range ways {
		rules = nil
		w := xtables.Walk{Table: j.tables[c[0]], Name: c[0], Packet: p, Visit: func(s xtables.Step) xtables.Effect {
			if !s.Calls && xtables.Stops(s.Target) {
				rules = append(rules, s)
			}
			return xtables.Continues
		}}
		v := w.Filter(c[1], ports)
		stopped = stopped.And(v.Stops).Minus(v.Passes)
	}
	if len(stopped) == 0 || !t.to.IsValid() && !isClosed(stopped) {
		return nil
	}
	return []string{blocker(c, rules, stopped)}
}

// blocker returns the policy of a chain if that stops some of the ports, or else
// the last of the rules that do.
func blocker(c [2]string, rules []xtables.Step, ports xtables.PortSet) string {
	by := ""
	for _, s := range rules {
		if len(s.Must.And(ports)) > 0 {
			by = s.String()
			ports = ports.Minus(s.Must)
		}
	}
	if len(ports) > 0 {
		by = c[0] + " " + c[1] + " policy DROP"
	}
	return by
}

// isClosed reports whether a set has all ports of a protocol.
func isClosed(stopped xtables.PortSet) bool {
	return slices.ContainsFunc([]xtables.Protocol{xtables.TCP, xtables.UDP}, func(p xtables.Protocol) bool {
		return len(xtables.EveryPort(p).Minus(stopped)) == 0
	})
}

// diverting returns the rules of the other variant's table nat that forward the
// port of a mapping to another place. The kernel asks both variants: the one
// whose table was created later goes first, and its listing does not tell.
func (f *Firewall) diverting(t xtables.Table, mappings []*portmap.Mapping) (list []string) {
	for _, device := range f.nat.wan {
		p := f.nat.packet(device, "", f.currentNetwork())
		trace := f.nat.traceNAT(t, p.In, p.Destination)
		certain, _ := trace.certainPorts()
		for _, m := range mappings {
			port := portSet(m.Protocol, m.External).And(certain)
			for _, r := range trace.forwarding {
				if len(r.ports.And(port)) > 0 && !r.leadsTo(m) {
					list = append(list, "nat "+r.rule)
				}
			}
		}
	}
	return distinct(list)
}

// leadsTo reports whether a rule forwards as the mapping does.
func (r forwardingRule) leadsTo(m *portmap.Mapping) bool {
	port := r.target.Port()
	if port == 0 {
		port = m.External
	}
	return r.target.Addr() == m.Internal.Addr() && port == m.Internal.Port()
}

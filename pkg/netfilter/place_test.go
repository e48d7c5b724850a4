package netfilter_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/netlab"
	"igdd/pkg/netlab/packetlab"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// attempt is the daemon beside a rule set.
type attempt struct {
	*placeLab
	scene       scene
	nat, filter string // the daemon's chains
	probes      []probe
	firewall    nsFirewall
	others      []counted // rules of other programs
	own         []counted // the daemon's jumps
	faults      []string
	looks       []looked
	open        map[group]bool // of which packets arrived at the last look
}

// looked is what the daemon has done at a look.
type looked struct {
	jumps []string // where the daemon's own are, "filter FORWARD before -j DROP", "filter FORWARD end"
	dead  []string // connections that it says do not get there, "UDP connections from wan0"
}

// fault records what is wrong.
func (a *attempt) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// try has the daemon run beside a rule set, and again after each list of edits,
// and returns what it has done and what is wrong.
func (l *placeLab) try(s scene, text string, sets []packetlab.Set, edits ...[]string) (a *attempt, err error) {
	nat, filter := ownChains(text)
	if err := l.load(withoutRulesOf(text, nat, filter), sets); err != nil {
		return nil, err
	}
	return l.run(s, nat, filter, edits...)
}

// run does so beside the rules that are loaded.
func (l *placeLab) run(s scene, nat, filter string, edits ...[]string) (a *attempt, err error) {
	a = &attempt{placeLab: l, scene: s, nat: nat, filter: filter, probes: l.family.probes(s)}
	if a.others, err = a.counters(); err != nil {
		return nil, err
	}
	a.firewall = a.newFirewall()
	if err := a.firewall.Setup(); err != nil {
		return nil, err
	}
	defer a.firewall.Teardown()
	if err := a.look(); err != nil {
		return nil, err
	}
	for _, list := range edits {
		if err := l.change(list...); err != nil {
			return nil, err
		}
		now, err := a.counters()
		if err != nil {
			return nil, err
		}
		a.others = minus(now, a.own)
		if err := a.look(); err != nil {
			return nil, err
		}
	}
	return a, a.end()
}

// newFirewall makes the daemon's.
func (a *attempt) newFirewall() nsFirewall {
	o := options(a.t)
	o.WAN, o.WAN6, o.IPv6 = a.scene.wan, a.scene.wan, a.family.program == "ip6tables"
	o.NATChain, o.ForwardChain = a.nat, a.filter
	n := a.family.network(a.scene)
	o.Network = func() netfilter.Network { return n }
	o.Log = slog.New(slog.DiscardHandler)
	return a.router.firewall(a.t, o)
}

// look has the daemon look at the rules, and checks what it has done.
func (a *attempt) look() error {
	if err := a.firewall.Sync(a.family.mappings(a.scene)); err != nil {
		return err
	}
	if ok, err := a.firewall.healthy(a.family.kind); err != nil || !ok {
		a.fault("not stable (%v)", err)
	}
	now, err := a.counters()
	if err != nil {
		return err
	}
	a.own = minus(a.foreign(now), a.foreign(a.others))
	if left := minus(a.foreign(now), a.own); !slices.EqualFunc(left, a.foreign(a.others), isSame) {
		a.fault("rules of others were changed:\nbefore %v\nafter %v", a.foreign(a.others), left)
	}
	a.looks = append(a.looks, looked{a.places(now), a.dead()})
	with, err := a.send()
	if err != nil {
		return err
	}
	if err := a.checkDead(with); err != nil {
		return err
	}
	return a.checkOpened(with, now)
}

// places returns where the daemon's jumps are.
func (a *attempt) places(now []counted) (list []string) {
	own := slices.Clone(a.own)
	for i, c := range now {
		j := slices.IndexFunc(own, func(o counted) bool { return isSame(o, c) })
		if j < 0 || strings.HasPrefix(c.text, ":") {
			continue
		}
		own = slices.Delete(own, j, j+1)
		place := c.table + " " + c.chain + " end"
		for _, next := range now[i+1:] {
			if next.chain != c.chain || next.table != c.table {
				break
			}
			if !slices.ContainsFunc(a.own, func(o counted) bool { return isSame(o, next) }) {
				place = c.table + " " + c.chain + " before " + next.text
				break
			}
		}
		if !slices.Contains(list, place) {
			list = append(list, place)
		}
	}
	return list
}

// dead returns the connections that the daemon says do not get to its chains.
func (a *attempt) dead() (list []string) {
	for _, reason := range a.firewall.Dead(a.family.kind) {
		what, _, _ := strings.Cut(reason, " do not get to ")
		list = append(list, what)
	}
	return list
}

// send sends all packets and returns which of them arrive.
func (a *attempt) send() (arrived []bool, err error) {
	packets := make([]packetlab.Packet, 0, len(a.probes))
	for _, p := range a.probes {
		packets = append(packets, p.Packet)
	}
	arrivals, err := a.Send(packets...)
	for i, at := range arrivals {
		arrived = append(arrived, a.probes[i].arrives(at))
	}
	return arrived, err
}

// checkDead checks that the daemon names the connections that do not arrive, and
// no others.
func (a *attempt) checkDead(arrived []bool) error {
	dead := a.firewall.Dead(a.family.kind)
	said := make(map[group]bool)
	a.open = make(map[group]bool)
	for i, p := range a.probes {
		if arrived[i] {
			a.open[p.group()] = true
		}
		if !arrived[i] || !p.group().isDead(dead) || said[p.group()] {
			continue
		}
		hits, err := a.hits(p.Packet)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(hits, a.selects) {
			a.fault("%v arrives, although %q:\n%v", p, dead, hits)
		}
		said[p.group()] = true
	}
	for _, p := range a.probes {
		if g := p.group(); !a.open[g] && !said[g] && !g.isDead(dead) {
			hits, err := a.hits(p.Packet)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(hits, a.selects) && a.knows(g) && !a.isRestricted() {
				a.fault("%v does not arrive, and the daemon does not say so (%q):\n%v", p, dead, hits)
				said[g] = true
			}
		}
	}
	return nil
}

// isRestricted reports whether another program's jump to the daemon's chains, or what
// it accepts in other tables, selects connections by more than protocol: that is its
// purpose.
func (a *attempt) isRestricted() bool {
	return slices.ContainsFunc(a.others, func(c counted) bool {
		r := xtables.ParseRule(c.text)
		if c.table != "nat" && c.table != "filter" {
			return r.Target == "ACCEPT" && !isByProtocol(r)
		}
		isJump := c.table == "nat" && r.Target == a.nat || c.table == "filter" && r.Target == a.filter
		return isJump && (c.table == "filter" && !isByProtocol(r) || a.isCalledSelectively(c, 0))
	})
}

// isCalledSelectively reports whether a call of the rule's chain, or of one that
// leads there, selects connections by more than protocol.
func (a *attempt) isCalledSelectively(rule counted, depth int) bool {
	return slices.ContainsFunc(a.others, func(c counted) bool {
		r := xtables.ParseRule(c.text)
		return c.table == rule.table && r.Target == rule.chain && depth < 9 && (c.table == "filter" && !isByProtocol(r) || a.isCalledSelectively(c, depth+1))
	})
}

// knows reports whether the daemon knows the link of packets, and the address that
// they are sent to if they get to its chain by rules of others.
func (a *attempt) knows(g group) bool {
	hasOwn := slices.ContainsFunc(a.own, func(c counted) bool {
		return c.table == "nat" && xtables.ParseRule(c.text).MatchesDevice("-i", g.uplink)
	})
	if a.scene.announced == "" {
		return false
	}
	return g.uplink == a.scene.announced || slices.Contains(a.scene.wan, g.uplink) && (hasOwn || a.family.kind == portmap.IPv6)
}

// selects reports whether a rule of another program selects packets by more than
// interface and state, or forwards them elsewhere.
func (a *attempt) selects(c counted) bool {
	r := xtables.ParseRule(c.text)
	return c.chain != a.nat && c.chain != a.filter && (!isPlain(r) || c.table == "nat" && xtables.EffectOf(r.Target) == xtables.Ends)
}

// checkOpened checks that packets which the daemon's jumps let in were stopped by
// nothing but what ends every new connection.
func (a *attempt) checkOpened(with []bool, now []counted) error {
	var remove, restore []string
	position := make(map[string]int)
	own := slices.Clone(a.own)
	for _, c := range now {
		if c.table == "filter" && !strings.HasPrefix(c.text, ":") {
			position[c.chain]++
		}
		if i := slices.IndexFunc(own, func(o counted) bool { return isSame(o, c) }); i >= 0 && c.table == "filter" && c.chain != "POST_FORWARD_CHAIN" {
			own = slices.Delete(own, i, i+1)
			remove = append(remove, "-D "+c.chain+" "+c.text)
			restore = append(restore, fmt.Sprintf("-I %s %d %s", c.chain, position[c.chain], c.text))
		}
	}
	if len(remove) == 0 {
		return nil
	}
	if err := a.change(remove...); err != nil {
		return err
	}
	without, err := a.send()
	if err != nil {
		return err
	}
	var opened []probe
	for i, p := range a.probes {
		if with[i] && !without[i] {
			opened = append(opened, p)
		}
	}
	if err := a.checkStops(opened); err != nil {
		return err
	}
	return a.change(restore...)
}

// checkStops checks what stops packets: first all of them together, which is
// quick, and then each.
func (a *attempt) checkStops(opened []probe) error {
	if len(opened) == 0 {
		return nil
	}
	packets := make([]packetlab.Packet, 0, len(opened))
	for _, p := range opened {
		packets = append(packets, p.Packet)
	}
	hits, err := a.hits(packets...)
	if err != nil || a.overtaken(hits) == nil {
		return err
	}
	for _, p := range opened {
		hits, err := a.hits(p.Packet)
		if err != nil {
			return err
		}
		if stop := a.overtaken(hits); stop != nil {
			a.fault("%v gets in, although %s %s %s; jumps %v", p, stop.table, stop.chain, stop.text, a.own)
			return nil
		}
	}
	return nil
}

// overtaken returns the rule that stopped packets, of those they matched in
// table filter, unless it ends every new connection.
func (a *attempt) overtaken(hits []counted) *counted {
	hits = slices.DeleteFunc(hits, func(c counted) bool { return c.table != "filter" })
	for _, h := range hits {
		r := xtables.ParseRule(h.text)
		isCall := slices.ContainsFunc(a.others, func(c counted) bool { return c.table == "filter" && c.chain == r.Target })
		switch {
		case isCall || r.Target == "ACCEPT" || xtables.EffectOf(r.Target) == xtables.Continues:
		case isFinal(r, h.chain) && isPlainly(h.chain, hits, 0):
		default:
			return &h
		}
	}
	return nil
}

// isPlainly reports whether a chain was called by rules that select nothing.
func isPlainly(chain string, hits []counted, depth int) bool {
	if chain == "FORWARD" {
		return true
	}
	called := false
	for _, h := range hits {
		if r := xtables.ParseRule(h.text); r.Target == chain {
			called = true
			if !isFinal(r, h.chain) || depth > len(hits) || !isPlainly(h.chain, hits, depth+1) {
				return false
			}
		}
	}
	return called
}

// isFinal reports whether a rule selects no new connections. A chain that stops
// everything may tell protocols apart.
func isFinal(r xtables.Rule, chain string) bool {
	return isPlain(r) || chain != "FORWARD" && isByProtocol(r)
}

// isPlain reports whether a rule has no match but interface, the state NEW and
// comment.
func isPlain(r xtables.Rule) bool {
	return !slices.ContainsFunc(r.Conditions, func(c xtables.Condition) bool { return !isPlainCondition(c) })
}

// isByProtocol reports whether a rule selects by protocol besides.
func isByProtocol(r xtables.Rule) bool {
	return !slices.ContainsFunc(r.Conditions, func(c xtables.Condition) bool { return c.Option != "-p" && !isPlainCondition(c) })
}

func isPlainCondition(c xtables.Condition) bool {
	switch c.Option {
	case "-i", "-o", "--comment":
		return true
	case "-m":
		return slices.Contains([]string{"conntrack", "state", "comment"}, c.Value)
	case "--ctstate", "--state":
		return slices.Contains(strings.Split(c.Value, ","), "NEW") != c.Negated
	}
	return false
}

// foreign returns the rules outside the daemon's chains, and the policies that drop:
// a table's built-in chains appear when it is first used.
func (a *attempt) foreign(list []counted) []counted {
	return slices.DeleteFunc(slices.Clone(list), func(c counted) bool {
		return c.text == ":ACCEPT" || c.table == "nat" && c.chain == a.nat || c.table == "filter" && c.chain == a.filter || c.chain == "MINIUPNPD-PEER"
	})
}

// isSame reports whether two rules are equal.
func isSame(a, b counted) bool { return a.table == b.table && a.chain == b.chain && a.text == b.text }

// minus returns the rules of a list without those of another one, once each.
func minus(list, other []counted) (left []counted) {
	gone := slices.Clone(other)
	for _, c := range list {
		if i := slices.IndexFunc(gone, func(o counted) bool { return isSame(o, c) }); i >= 0 {
			gone = slices.Delete(gone, i, i+1)
		} else {
			left = append(left, c)
		}
	}
	return left
}

// end stops the daemon: the rules of others are all that is left.
func (a *attempt) end() error {
	if err := a.firewall.Teardown(); err != nil {
		return err
	}
	now, err := a.counters()
	if !slices.EqualFunc(a.foreign(now), a.foreign(a.others), isSame) {
		a.fault("the stop left\n%v, not\n%v", a.foreign(now), a.foreign(a.others))
	}
	return err
}

// smallest returns as few lines of a rule set as still have a fault, with that.
func (l *placeLab) smallest(s scene, text string, sets []packetlab.Set, edits ...[]string) (fewest string, faults []string) {
	lines := slices.Collect(strings.Lines(text))
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "#") })
	for changed := true; changed; {
		changed = false
		for i := len(lines) - 1; i >= 0; i-- {
			if strings.HasPrefix(lines[i], "*") || strings.HasPrefix(lines[i], "COMMIT") {
				continue
			}
			fewer := slices.Delete(slices.Clone(lines), i, i+1)
			if a, err := l.try(s, strings.Join(fewer, ""), sets, edits...); err == nil && len(a.faults) > 0 {
				lines, faults, changed = fewer, a.faults, true
			}
		}
	}
	return strings.Join(lines, ""), faults
}

// wantNoFault fails the test for what is wrong, with the fewest rules.
func (l *placeLab) wantNoFault(t *testing.T, s scene, text string, sets []packetlab.Set, edits ...[]string) *attempt {
	t.Helper()
	a, err := l.try(s, text, sets, edits...)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(a.faults) == 0 {
		return a
	}
	fewest, of := l.smallest(s, text, sets, edits...)
	t.Errorf("%s: %s\nthen %q\nfewest rules:\n%s%s", s.name, strings.Join(a.faults, "\n"), edits, fewest, strings.Join(of, "\n"))
	return a
}

// readSets returns the ipsets of a rule set: "#: set NAME TYPE MEMBER ...".
func readSets(text string) (sets []packetlab.Set) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "#:" && f[1] == "set" {
			sets = append(sets, packetlab.Set{Name: f[2], Kind: f[3], Members: f[4:]})
		}
	}
	return sets
}

// The daemon's jumps are in front of no rule that stops some connections, beside
// the rules of many firewalls.
func TestPlacesBesideManyFirewalls(t *testing.T) {
	for _, f := range placeFamilies {
		files, err := filepath.Glob(filepath.Join("../xtables/testdata", f.folder, "*.rules"))
		if err != nil || len(files) == 0 {
			t.Fatal("no rule sets", err)
		}
		for _, variant := range netlab.Variants {
			t.Run(f.program+"/"+variant, func(t *testing.T) {
				t.Parallel()
				l := newPlaceLab(t, f, variant)
				for i, file := range files {
					text, err := os.ReadFile(file)
					must(t, err)
					for j, s := range scenes {
						if isInShortRun(i, j, variant) || os.Getenv(longEnv) != "" {
							t.Run(filepath.Base(file)+"/"+s.name, func(t *testing.T) { l.wantNoFault(t, s, string(text), readSets(string(text))) })
						}
					}
				}
			})
		}
	}
}

// longEnv is the environment variable for runs that take minutes.
const longEnv = "NETFILTER_LONG"

// isInShortRun reports whether a rule set is tried in a scene by each run: each in
// one of them, and with nft, which takes three times as long, each sixth.
func isInShortRun(set, scene int, variant string) bool {
	return set%len(scenes) == scene && (variant == "legacy" || set%6 == 1)
}

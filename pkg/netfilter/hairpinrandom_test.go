package netfilter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/xtables"
)

// lanPacket is a new connection of a host of lan0, to another one there by an external
// address.
type lanPacket struct{ source, destination, protocol string }

// lanRule is a rule of the administrator; "" matches all.
type lanRule struct {
	in, out                       string // with "! " in front if negated
	source, destination, protocol string
	target                        string
}

// String returns the rule as iptables-save prints it.
func (r lanRule) String() string {
	text := ""
	for _, c := range [...][2]string{{"-s", r.source}, {"-d", r.destination}, {"-i", r.in}, {"-o", r.out}, {"-p", r.protocol}} {
		name, isNegated := strings.CutPrefix(c[1], "! ")
		switch {
		case isNegated:
			text += "! " + c[0] + " " + name + " "
		case name != "":
			text += c[0] + " " + name + " "
		}
	}
	return text + "-j " + r.target
}

// matches reports whether a packet meets the conditions.
func (r lanRule) matches(p lanPacket) bool {
	isOf := func(condition, is string) bool {
		name, isNegated := strings.CutPrefix(condition, "! ")
		return name == "" || (name == is) != isNegated
	}
	return isOf(r.in, "lan0") && isOf(r.out, "lan0") && isOf(r.source, p.source) && isOf(r.destination, p.destination) && isOf(r.protocol, p.protocol)
}

// lanTable is rules by chain.
type lanTable map[string][]lanRule

// follow returns the rules by which a packet is decided: those that call a chain, and
// the last one; none if it passes all.
func (t lanTable) follow(chain string, p lanPacket) (by []lanRule) {
	for _, r := range t[chain] {
		switch {
		case !r.matches(p):
		case t[r.target] != nil:
			if inner := t.follow(r.target, p); inner != nil {
				return append([]lanRule{r}, inner...)
			}
		case r.target == "RETURN":
			return nil
		default:
			return []lanRule{r}
		}
	}
	return nil
}

// isKept reports whether the jump must be behind what decides a packet: in table filter
// rules that drop some connections, or that say by which interface they may leave.
func isKept(table string, by []lanRule) bool {
	last := len(by) - 1
	if last < 0 || by[last].target == hairpinChain {
		return false
	}
	return table == "nat" || by[last].target == "DROP" && slices.ContainsFunc(by, func(r lanRule) bool {
		return r.source != "" || r.out != "" || r.protocol != "" && last == 0
	})
}

// randomLANTable returns the built-in chain and another one.
func randomLANTable(g *rand.Rand, table, builtIn string) lanTable {
	pick := func(words ...string) string { return words[g.IntN(len(words))] }
	t := lanTable{builtIn: {}, "A": {}}
	for _, chain := range [...]string{builtIn, builtIn, builtIn, "A", "A"} {
		r := lanRule{in: pick("", "lan0", "lan1", "! wan0"), protocol: pick("", "", "", "tcp", "udp")}
		if r.source = pick("", "", "", "192.168.50.66/32"); table == "filter" {
			r.out, r.target = pick("", "", "", "lan0", "wan0", "! wan0"), pick("DROP", "DROP", "ACCEPT", "RETURN")
		} else {
			r.destination, r.target = pick("11.22.33.44/32", "22.33.44.55/32", "198.51.100.7/32", "11.22.33.9/32"), pick("DNAT --to-destination 192.168.50.9", "ACCEPT")
		}
		if chain == builtIn && g.IntN(3) == 0 {
			r.target = "A"
		}
		t[chain] = append(t[chain], r)
	}
	return t
}

// text returns the table as iptables-save prints it.
func (t lanTable) text(table, builtIn string) string {
	text := fmt.Sprintf("*%s\n:%s ACCEPT\n:A -\n:MINIUPNPD -\n:%s -\n", table, builtIn, hairpinChain)
	for _, chain := range [...]string{builtIn, "A"} {
		for _, r := range t[chain] {
			text += "-A " + chain + " " + r.String() + "\n"
		}
	}
	return text + "COMMIT\n"
}

// with returns the rules of a table that the daemon has added its jump to.
func (t lanTable) with(placed xtables.Table) lanTable {
	all := make(lanTable)
	for chain, rules := range t {
		rules = slices.Clone(rules)
		for i, text := range placed.Rules(chain) {
			if xtables.ParseRule(text).Target == hairpinChain {
				rules = slices.Insert(rules, i, lanRule{in: "lan0", target: hairpinChain})
			}
		}
		all[chain] = rules
	}
	return all
}

// TestHairpinPlaceBesideRandomRules demands that the jump gets nothing of what the
// administrator's rules keep, before and after another rule is added.
func TestHairpinPlaceBesideRandomRules(t *testing.T) {
	for table, builtIn := range map[string]string{"filter": "FORWARD", "nat": "PREROUTING"} {
		t.Run(table, func(t *testing.T) {
			reached := 0
			for i := range uint64(600) {
				g := rand.New(rand.NewPCG(1, i))
				reached += placeBeside(t, g, table, builtIn)
				if t.Failed() {
					t.Fatalf("set %d", i)
				}
			}
			if reached < 600 {
				t.Errorf("only %d packets get to the chain", reached)
			}
		})
	}
}

// placeBeside places the jump beside rules, and returns how many packets get to it.
func placeBeside(t *testing.T, g *rand.Rand, table, builtIn string) (reached int) {
	t.Helper()
	c, n := hairpinOf(table)
	rules := randomLANTable(g, table, builtIn)
	for range 2 {
		placed := parseLANTable(t, rules.text(table, builtIn))
		for _, j := range c.jumps {
			placed = placed.After(xtables.Edit{Op: xtables.Insert, Chain: j.Chain, Rule: j.Rule})
		}
		p := c.planJumps(placed, n)
		placed, c.jumps = placed.After(p.edits...), placed.After(p.edits...).JumpsTo(c.name)
		if again := c.planJumps(placed, n); len(again.edits) > 0 {
			t.Errorf("%s: then again %v", placed.Rules(builtIn), again.edits)
		}
		reached += rules.check(t, table, builtIn, rules.with(placed))
		more := randomLANTable(g, table, builtIn)
		rules[builtIn] = append(rules[builtIn], more[builtIn][0])
	}
	return reached
}

// check compares the rules with those and the jump.
func (t lanTable) check(test *testing.T, table, builtIn string, placed lanTable) (reached int) {
	test.Helper()
	for _, source := range [...]string{"192.168.50.66/32", "192.168.50.10/32"} {
		for _, protocol := range [...]string{"tcp", "udp"} {
			for _, destination := range [...]string{"11.22.33.44/32", "22.33.44.55/32", "198.51.100.7/32"} {
				p := lanPacket{source, destination, protocol}
				by, now := t.follow(builtIn, p), placed.follow(builtIn, p)
				if len(now) == 0 || now[len(now)-1].target != hairpinChain {
					continue
				}
				reached++
				if isKept(table, by) {
					test.Errorf("%+v, which %v decides, gets to the jump:\n%v", p, by, placed)
				}
			}
		}
	}
	return reached
}

// parseLANTable returns the table of a text.
func parseLANTable(t *testing.T, text string) xtables.Table {
	t.Helper()
	s, err := xtables.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range s {
		return table
	}
	return nil
}

package xtables_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/packetlab"
	"igdd/pkg/xtables"
)

const (
	// randomPackets is how many packets each random rule set gets.
	randomPackets = 32
	// randomSets is how many rule sets each kind of iptables gets. The nft variant
	// needs some 100 ms for each.
	randomSets = 24
	// setsEnv is the environment variable for another number, for longer runs.
	setsEnv = "XTABLES_RANDOM_SETS"
	// seedEnv is the environment variable for the seed, a number.
	seedEnv = "XTABLES_RANDOM_SEED"
)

// number returns that of an environment variable.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// Trace agrees with the kernel on random rules. Each second set has only
// conditions that trace can know.
func TestTraceAgreesOnRandomRules(t *testing.T) {
	sets, seed := number(t, setsEnv, randomSets), number(t, seedEnv, 1)
	for _, f := range families {
		for _, variant := range netlab.Variants {
			t.Run(f.program+"/"+variant, func(t *testing.T) {
				t.Parallel()
				l := newRulesLab(t, f, variant)
				var known, perhaps int
				for i := range sets {
					g := generator{Rand: rand.New(rand.NewPCG(uint64(seed), uint64(i))), words: &f.random, certain: i%2 == 0}
					unsure := l.compare(t, g.ruleSet(), g.packets(randomPackets))
					if t.Failed() {
						t.Fatalf("rule set %d of %s=%d", i, seedEnv, seed)
					}
					if g.certain {
						known, perhaps = known+randomPackets, perhaps+unsure
					}
				}
				t.Logf("%d rule sets; perhaps on %d of %d", sets, perhaps, known)
				if perhaps*mostPerhaps > known {
					t.Error("too often perhaps")
				}
			})
		}
	}
}

// What a walk says of all ports at once is what it says of each alone.
func TestPortsAreIndependent(t *testing.T) {
	t.Parallel()
	const ruleSets = 150
	for i := range ruleSets {
		g := generator{Rand: rand.New(rand.NewPCG(1, uint64(i))), words: &ipv4.random, certain: i%2 == 0}
		text := g.ruleSet()
		s, err := xtables.ParseSnapshot(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range randomHooks {
			for _, hook := range h.chains {
				w := xtables.Walk{Table: s[h.table], Name: h.table, Packet: xtables.Packet{In: g.pick("wan0", "lan0"), Out: g.pick("lan0", "")}}
				if h.table != "nat" && !portsAreIndependent(w, hook, g.packets(8)) {
					t.Fatalf("%s %s of rule set %d:\n%s", h.table, hook, i, text)
				}
			}
		}
	}
}

// portsAreIndependent reports whether a walk says the same of the packets' ports,
// alone and among all.
func portsAreIndependent(w xtables.Walk, hook string, packets []packetlab.Packet) bool {
	filtered := func(w xtables.Walk, ports xtables.PortSet) xtables.Verdict { return w.Filter(hook, ports) }
	all := filtered(w, xtables.EveryPort())
	return !slices.ContainsFunc(packets, func(p packetlab.Packet) bool {
		port := xtables.PortsOf(xtables.PortRange{First: p.Destination.Port(), Last: p.Destination.Port()}, xtables.Protocol(p.Protocol))
		alone := filtered(w, port)
		return !slices.Equal(all.Passes.And(port), alone.Passes) || !slices.Equal(all.Stops.And(port), alone.Stops)
	})
}

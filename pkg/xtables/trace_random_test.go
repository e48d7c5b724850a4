package xtables_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"igdd/pkg/netlab"
)

const (
	// randomPackets is how many packets each random rule set gets.
	randomPackets = 32
	// randomSets is how many rule sets each kind of iptables gets. The nft variant
	// needs some 100 ms for each.
	randomSets = 60
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

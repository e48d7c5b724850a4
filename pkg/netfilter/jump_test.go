package netfilter_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/portmap"
)

// handMade is a firewall as a script of miniupnpd's own hooks it, in the form
// of one iptables-restore, with a blocklist in front.
const handMade = `*nat
:PREROUTING ACCEPT
:MINIUPNPD -
-A PREROUTING -i wan0 -j MINIUPNPD
COMMIT
*filter
:FORWARD DROP
:MINIUPNPD -
-A FORWARD -s 203.0.113.0/24 -i wan0 -j DROP
-A FORWARD -i lan0 -j ACCEPT
-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD
COMMIT
`

// wantNoJump demands that the record names no jump of IPv4.
func wantNoJump(t *testing.T, path string) {
	t.Helper()
	if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "iptables nat -D") || strings.Contains(string(text), "\niptables filter -D") {
		t.Errorf("the record has a jump of another program:\n%s", text)
	}
}

// A firewall that is flushed and loaded again has its own jumps afterwards, not
// ours, even if the service restarts in between.
func TestJumpsOfAFirewallThatIsBuiltAgain(t *testing.T) {
	t.Parallel()
	held := []*portmap.Mapping{mapping(portmap.TCP, 3001, "192.168.50.10:80")}
	flush := []string{"-t nat -F", "-F"}
	for _, tt := range []struct {
		name    string
		before  func(t *testing.T, r *router)
		restart bool // of the service, while the firewall is flushed
	}{
		{"loaded before", func(t *testing.T, r *router) { r.feed(t, handMade, "iptables-restore") }, false},
		{"loaded before, a restart between", func(t *testing.T, r *router) { r.feed(t, handMade, "iptables-restore") }, true},
		{"loaded for the first time", func(*testing.T, *router) {}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachVariant(t, func(t *testing.T, r *router) {
				tt.before(t, r)
				o := recorded(t)
				o.IPv6 = false
				f := r.firewall(t, o)
				must(t, f.Setup())
				must(t, f.Sync(held))
				r.iptables(t, flush...)
				must(t, f.Sync(held))
				if tt.restart {
					f = r.firewall(t, o)
					must(t, f.Setup())
					must(t, f.Sync(held))
				}
				r.feed(t, handMade, "iptables-restore")
				loaded := r.rules(t)
				must(t, f.Sync(held))
				wantHealthy(t, f)
				wantNoJump(t, o.OwnershipFile)
				must(t, f.Teardown())
				if after := r.rules(t); after != loaded {
					t.Errorf("loaded\n%s\nafter the stop\n%s", loaded, after)
				}
				wantNoRecord(t, o.OwnershipFile)
			})
		})
	}
}

// Of two equal jumps among other rules one belongs to another program, which may
// rely on it.
func TestOneOfTwoEqualJumpsIsForeign(t *testing.T) {
	t.Parallel()
	others := []string{"-t nat -A PREROUTING -i lan0 -j ACCEPT", "-A FORWARD -i lan0 -j ACCEPT"}
	for _, tt := range []struct {
		name         string
		before, made []string
	}{
		{"AIF's plugin", aifStart, pluginHook},
		{"at the head", others, []string{"-t nat -I PREROUTING -i wan0 -j MINIUPNPD", "-I FORWARD -i wan0 ! -o wan0 -j MINIUPNPD"}},
		{"at the end", others, []string{"-t nat -A PREROUTING -i wan0 -j MINIUPNPD", "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachVariant(t, func(t *testing.T, r *router) {
				r.iptables(t, tt.before...)
				o := recorded(t)
				o.IPv6 = false
				f := r.firewall(t, o)
				must(t, f.Setup())
				r.iptables(t, tt.made...)
				wantUnhealthy(t, f)
				must(t, f.Sync(nil))
				wantHealthy(t, f)
				wantNoJump(t, o.OwnershipFile)
				one := r.rules(t)
				if n := strings.Count(one, "-j MINIUPNPD\n"); n != 2 {
					t.Errorf("%d jumps, want 2:\n%s", n, one)
				}
				must(t, f.Teardown())
				if after := r.rules(t); after != one {
					t.Errorf("before the stop\n%s\nafter\n%s", one, after)
				}
			})
		})
	}
}

// A jump that was made in front of rules stays ours, whatever comes before it.
func TestJumpInFrontOfRulesStaysOurs(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-A FORWARD -i lan0 -j ACCEPT")
		o := recorded(t)
		o.IPv6 = false
		f := r.firewall(t, o)
		must(t, f.Setup())
		r.iptables(t, "-I FORWARD -s 203.0.113.0/24 -i wan0 -j DROP", "-A FORWARD -j DROP")
		must(t, f.Sync(some()[:1]))
		wantHealthy(t, f)
		must(t, f.Teardown())
		want := []string{"-A FORWARD -s 203.0.113.0/24 -i wan0 -j DROP", "-A FORWARD -i lan0 -j ACCEPT", "-A FORWARD -j DROP"}
		if got := r.saved(t, "iptables", "filter"); !slices.Equal(got, want) {
			t.Errorf("left %q, want %q", got, want)
		}
		wantNoRecord(t, o.OwnershipFile)
	})
}

// A jump that was made where no rules were is not in front of a blocked host later,
// although there were no mappings when the rule was added.
func TestJumpWhereNoRulesWere(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		f := r.firewall(t, ipv4(t))
		must(t, f.Setup())
		must(t, f.Sync(nil))
		r.iptables(t, "-A FORWARD -s 203.0.113.5/32 -j DROP")
		must(t, f.Sync(nil))
		must(t, f.Sync(some()[:1]))
		want := []string{"-A FORWARD -s 203.0.113.5/32 -j DROP", "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD"}
		got := slices.DeleteFunc(r.saved(t, "iptables", "filter"), func(line string) bool { return !strings.HasPrefix(line, "-A FORWARD ") })
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		must(t, f.Teardown())
	})
}

// Text in a rule is no option of it, whatever it looks like.
func TestWaysWithTextThatLooksLikeOptions(t *testing.T) {
	t.Parallel()
	for _, way := range []string{
		`-A FORWARD -i wan0 -m comment --comment "-i" -j zone`,
		`-A FORWARD -m comment --comment "-i" -j zone`,
		`-A FORWARD -m comment --comment "-j" -i wan0 -g zone`,
		`-A FORWARD -m comment --comment "!" -i wan0 -j zone`,
		`-A FORWARD -m string --algo bm --string "-i" -j zone`,
		`-A FORWARD -m string --algo bm ! --string "-g" -j zone`,
		`-A FORWARD -m string --algo bm --hex-string "-i" -j zone`,
		`-A FORWARD -m recent --rcheck --name "-i" -j zone`,
	} {
		t.Run(way, func(t *testing.T) {
			eachVariant(t, func(t *testing.T, r *router) {
				r.iptables(t, "-N MINIUPNPD", "-N zone", `-A zone -m comment --comment "-j" -j MINIUPNPD`, way)
				before := r.saved(t, "iptables", "filter")
				f := r.firewall(t, ipv4(t))
				must(t, f.Setup())
				wantHealthy(t, f)
				if after := r.saved(t, "iptables", "filter"); !slices.Equal(before, after) {
					t.Errorf("before %q, after %q", before, after)
				}
				must(t, f.Teardown())
			})
		})
	}
}

package netfilter_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// backend is a firewall that tests can inspect from outside.
type backend interface {
	Apply([]portmap.Change) error
	Sync([]*portmap.Mapping) error
	// opened returns "KEY INTERNAL" for what is let through, sorted.
	opened(t *testing.T) []string
	// flush removes all rules without telling the firewall.
	flush(t *testing.T)
}

// memoryBackend is the stand-in in memory. It refuses what the kernel's has no
// rules for.
type memoryBackend struct{ *portmaptest.Firewall }

func newMemory() memoryBackend {
	return memoryBackend{&portmaptest.Firewall{Refuse: func(c portmap.Change) bool {
		return c.After != nil && c.After.Protocol != portmap.TCP && c.After.Protocol != portmap.UDP
	}}}
}

func (m memoryBackend) Apply(changes []portmap.Change) error {
	return applyBoth(m.Firewall, changes)
}

func (m memoryBackend) Sync(mappings []*portmap.Mapping) error { return syncBoth(m.Firewall, mappings) }

func (m memoryBackend) opened(*testing.T) []string {
	var list []string
	for _, o := range m.Open() {
		if o.Enabled() {
			list = append(list, fmt.Sprint(o.Key, " ", o.Internal))
		}
	}
	slices.Sort(list)
	return list
}

func (m memoryBackend) flush(*testing.T) { m.Flush() }

var (
	dnat       = regexp.MustCompile(`^-A MINIUPNPD .*-p (\w+) .*--dport (\d+) -j DNAT --to-destination (\S+)$`)
	acceptRule = regexp.MustCompile(`^-A MINIUPNPD .*-d (\S+)/\d+ -p (\w+) .*--dport (\d+) -j ACCEPT$`)
)

// opened demands that both tables of IPv4 say the same.
func (g nsFirewall) opened(t *testing.T) []string {
	t.Helper()
	var list, inside, through []string
	for _, line := range g.router.saved(t, "iptables", "nat") {
		if m := dnat.FindStringSubmatch(line); m != nil {
			list = append(list, m[2]+"/"+strings.ToUpper(m[1])+" "+m[3])
			inside = append(inside, m[1]+" "+m[3])
		}
	}
	for _, line := range g.router.saved(t, "iptables", "filter") {
		if m := acceptRule.FindStringSubmatch(line); m != nil {
			through = append(through, m[2]+" "+m[1]+":"+m[3])
		}
	}
	slices.Sort(inside)
	slices.Sort(through)
	if !slices.Equal(inside, through) {
		t.Errorf("table nat leads to %q, table filter lets through to %q", inside, through)
	}
	for _, line := range g.router.saved(t, "ip6tables", "filter") {
		if m := acceptRule.FindStringSubmatch(line); m != nil {
			at := "[" + m[1] + "]:" + m[3]
			list = append(list, at+"/"+strings.ToUpper(m[2])+" "+at)
		}
	}
	slices.Sort(list)
	return list
}

func (g nsFirewall) flush(t *testing.T) {
	t.Helper()
	g.router.iptables(t, "-t nat -F", "-t nat -X", "-F", "-X")
}

// disable returns m as UPnP's NewEnabled=0 holds it.
func disable(m *portmap.Mapping) *portmap.Mapping {
	d := *m
	d.Claims = slices.Clone(m.Claims)
	d.Claims[0].Disabled = true
	return &d
}

// flush is a step of a behaviour: another program removes everything.
type flush struct{}

// behaviour is what every firewall does alike.
type behaviour struct {
	name  string
	steps []any // []portmap.Change to apply, []*portmap.Mapping to sync, flush
	fails bool  // the last step does
	want  []*portmap.Mapping
}

func behaviours() []behaviour {
	a := mapping(portmap.TCP, 3001, "192.168.50.10:80")
	b := mapping(portmap.UDP, 3001, "192.168.50.11:53")
	twin := mapping(portmap.TCP, 3002, "192.168.50.10:80") // leads where a leads
	moved := mapping(portmap.TCP, 3001, "192.168.50.12:8080")
	hole := pinhole(portmap.TCP, "[2001:db8::20]:8080")
	sctp := mapping(132, 3003, "192.168.50.10:80")
	renewed := *a
	renewed.Claims = []portmap.Claim{{Origin: portmap.UPnP, Description: "again"}, a.Claims[0]}

	type apply = []portmap.Change
	type sync = []*portmap.Mapping
	return []behaviour{
		{"open", []any{open(a, b, hole)}, false, sync{a, b, hole}},
		{"close", []any{open(a, b, hole), closing(a, hole)}, false, sync{b}},
		{"open and close in one batch", []any{append(open(a, b), closing(a)...)}, false, sync{b}},
		{"nothing to do", []any{apply(nil)}, false, nil},
		{"renew", []any{open(a), apply{{Before: a, After: &renewed}}}, false, sync{a}},
		{"move", []any{open(a), apply{{Before: a, After: moved}}}, false, sync{moved}},
		{"move and return in one batch", []any{open(a), apply{{Before: a, After: moved}, {Before: moved, After: a}}}, false, sync{a}},
		{"two ports to one", []any{open(a, twin), closing(a)}, false, sync{twin}},
		{"disable", []any{open(a, b), apply{{Before: a, After: disable(a)}}}, false, sync{b}},
		{"enable", []any{open(disable(a)), apply{{Before: disable(a), After: a}}}, false, sync{a}},
		{"close what is disabled", []any{open(disable(a), b), closing(disable(a))}, false, sync{b}},
		{"all or nothing", []any{open(a), append(open(b, sctp), closing(a)...)}, true, sync{a}},
		{"one family fails", []any{open(a), append(open(b, hole, sctp), closing(a)...)}, true, sync{a, hole}},
		{"sync", []any{open(a, b), sync{moved, twin, hole}}, false, sync{moved, twin, hole}},
		{"sync what is there", []any{open(a, b), sync{a, b}}, false, sync{a, b}},
		{"sync what lacks", []any{open(a), sync{a, b, hole}}, false, sync{a, b, hole}},
		{"sync nothing", []any{open(a, hole), sync{}}, false, nil},
		{"apply after flush", []any{open(a), flush{}, open(b)}, false, sync{a, b}},
		{"sync after flush", []any{open(a), flush{}, sync{a, b}}, false, sync{a, b}},
	}
}

// play runs the steps on w and checks the result from outside.
func (b behaviour) play(t *testing.T, w backend) {
	for i, step := range b.steps {
		var err error
		switch step := step.(type) {
		case []portmap.Change:
			err = w.Apply(step)
		case []*portmap.Mapping:
			err = w.Sync(step)
		case flush:
			w.flush(t)
		}
		if wanted := b.fails && i == len(b.steps)-1; wanted != (err != nil) {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	var want []string
	for _, m := range b.want {
		want = append(want, fmt.Sprint(m.Key, " ", m.Internal))
	}
	slices.Sort(want)
	if got := w.opened(t); !slices.Equal(got, want) {
		t.Errorf("open is %q, want %q", got, want)
	}
}

func TestBehavioursInMemory(t *testing.T) {
	for _, b := range behaviours() {
		t.Run(b.name, func(t *testing.T) { b.play(t, newMemory()) })
	}
}

func TestBehavioursInTheKernel(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		for _, resident := range []bool{true, false} {
			if !resident {
				r.alone(t)
			}
			f := r.firewall(t, options(t))
			must(t, f.Setup())
			if resident { // nft: rules are deleted by their handles; otherwise by iptables-restore
				f.watchTables(t)
			}
			for _, b := range behaviours() {
				t.Run(fmt.Sprintf("resident %v/%s", resident, b.name), func(t *testing.T) {
					must(t, f.Sync(nil))
					b.play(t, f)
				})
			}
			must(t, f.Teardown())
		}
	})
}

// TestDeletionsNeedNoIPTables closes mappings with nft though iptables-restore deletes
// nothing: some that the firewall has opened, also together with openings, and one that
// an earlier firewall has.
func TestDeletionsNeedNoIPTables(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "nft")
	earlier := mapping(portmap.TCP, 1, "192.168.50.10:1")
	later := []*portmap.Mapping{mapping(portmap.TCP, 2, "192.168.50.10:2"), mapping(portmap.UDP, 3, "192.168.50.10:3"), pinhole(portmap.TCP, "[2001:db8:1::10]:1")}
	replaced := mapping(portmap.TCP, 4, "192.168.50.10:4")
	first := r.firewall(t, options(t))
	must(t, first.Setup())
	must(t, first.Apply(open(earlier)))
	f := r.firewall(t, options(t))
	must(t, f.Setup())
	must(t, f.Sync([]*portmap.Mapping{earlier}))
	f.watchTables(t)
	for _, name := range []string{"iptables-restore", "ip6tables-restore"} {
		r.stub(t, name, `[ -t 1 ] && exit 1
edits=$(cat)
echo "$edits" | grep -q "^-D\|^:" && exit 1
echo "$edits" | $real "$@"`)
	}
	must(t, f.Apply(open(append(later, replaced)...)))
	must(t, f.Apply(append(closing(replaced), open(mapping(portmap.TCP, 4, "192.168.50.10:5"))...)))
	must(t, f.Apply(closing(later...)))
	must(t, f.Apply(closing(earlier)))
	if got, want := f.opened(t), []string{"4/TCP 192.168.50.10:5"}; !slices.Equal(got, want) {
		t.Errorf("open is %q, want %q", got, want)
	}
}

// watchTables reads the notices of changes in the background, until the test ends.
func (g nsFirewall) watchTables(t testing.TB) {
	t.Helper()
	ended := make(chan error)
	go func() { ended <- g.router.Do(func() error { return g.Watch(t.Context()) }) }()
	t.Cleanup(func() { must(t, <-ended) })
	eventually(t, "a change is told of", func() bool {
		g.router.iptables(t, "-A INPUT -j ACCEPT")
		select {
		case <-g.Changed():
			return true
		default:
			return false
		}
	})
}

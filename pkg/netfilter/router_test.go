package netfilter_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// toolsDir is where a Firewall finds the iptables of its router, whose own
// folder is shown as /run. It comes first in PATH.
const toolsDir = "/run/iptables"

func TestMain(m *testing.M) {
	os.Setenv("PATH", toolsDir+":"+os.Getenv("PATH"))
	os.Exit(netlab.Main(m.Run))
}

// router is a network namespace with one variant of iptables, and with an
// xtables lock of its own.
type router struct {
	*netlab.Namespace
	tools string // folder of the programs
	lock  string // seen from outside
}

// newRouter makes a router.
func newRouter(t testing.TB, variant string) *router {
	t.Helper()
	return newRouterIn(t, netlab.New(t, "nf"), variant)
}

// newRouterIn makes a router of a namespace.
func newRouterIn(t testing.TB, ns *netlab.Namespace, variant string) *router {
	t.Helper()
	run := t.TempDir()
	ns.Bind(run, "/run")
	r := &router{Namespace: ns, tools: netlab.Tools(t, variant), lock: filepath.Join(run, "xtables.lock")}
	must(t, os.Symlink(r.tools, filepath.Join(run, filepath.Base(toolsDir))))
	return r
}

// run runs a program of the variant in the router and returns what it printed.
func (r *router) run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return r.feed(t, "", name, args...)
}

// feed runs a program that reads text.
func (r *router) feed(t testing.TB, text, name string, args ...string) string {
	t.Helper()
	var out []byte
	err := r.Do(func() (err error) {
		cmd := exec.Command(filepath.Join(r.tools, name), args...)
		cmd.Stdin = strings.NewReader(text)
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s %s: %v: %s%s", name, strings.Join(args, " "), err, out, text)
	}
	return string(out)
}

// iptables carries out commands, all in one process:
// r.iptables(t, "-t nat -F", "-F FORWARD").
func (r *router) iptables(t testing.TB, commands ...string) {
	t.Helper()
	var lines []string
	for _, command := range commands {
		table := "filter"
		if rest, ok := strings.CutPrefix(command, "-t nat "); ok {
			table, command = "nat", rest
		}
		lines = append(lines, "*"+table, command, "COMMIT")
	}
	r.feed(t, strings.Join(lines, "\n")+"\n", "iptables-restore", "--noflush", "--wait", "10")
}

// saved returns what the tool prints of a table, but for comments, counters
// and the chains that the kernel makes.
func (r *router) saved(t testing.TB, tool, table string) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(r.run(t, tool+"-save", "-t", table)) {
		line = strings.TrimSuffix(line, "\n")
		if line[0] == '#' || line[0] == '*' || line == "COMMIT" || line[0] == ':' && !strings.Contains(line, " - ") {
			continue
		}
		if line[0] == ':' {
			line, _, _ = strings.Cut(line, " ")
		}
		lines = append(lines, line)
	}
	return lines
}

// rules returns all of both families' chains and rules.
func (r *router) rules(t testing.TB) string {
	t.Helper()
	var all []string
	for _, table := range [...][2]string{{"iptables", "nat"}, {"iptables", "filter"}, {"ip6tables", "filter"}} {
		all = append(all, "*"+table[0]+" "+table[1])
		all = append(all, r.saved(t, table[0], table[1])...)
	}
	return strings.Join(all, "\n") + "\n"
}

// options are those of a router with one uplink.
func options(t testing.TB) netfilter.Options {
	return netfilter.Options{
		WAN:              []string{"wan0"},
		WAN6:             []string{"wan0"},
		NATChain:         "MINIUPNPD",
		ForwardChain:     "MINIUPNPD",
		PostroutingChain: "MINIUPNPD-POSTROUTING",
		IPv6:             true,
		Log:              slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// alone has each transaction carried out by a process of its own: none starts
// with a terminal.
func (r *router) alone(t testing.TB) {
	t.Helper()
	for _, name := range []string{"iptables-restore", "ip6tables-restore"} {
		r.stub(t, name, `[ -t 1 ] && exit 1; exec $real "$@"`)
	}
}

// nsFirewall is a firewall whose commands run in the router.
type nsFirewall struct {
	*netfilter.Firewall
	router *router
}

func (r *router) firewall(t testing.TB, o netfilter.Options) nsFirewall {
	t.Helper()
	g := nsFirewall{router: r}
	err := r.Do(func() (err error) { g.Firewall, err = netfilter.New(o); return err })
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Setup is followed by changes of other programs.
func (g nsFirewall) Setup() error {
	defer g.Forget()
	return g.router.Do(g.Firewall.Setup)
}

func (g nsFirewall) Teardown() error { return g.teardown(context.Background()) }

func (g nsFirewall) teardown(ctx context.Context) error {
	return g.router.Do(func() error { return g.Firewall.Teardown(ctx) })
}

// Apply carries out the changes of each family.
func (g nsFirewall) Apply(changes []portmap.Change) error {
	return g.router.Do(func() error { return applyBoth(g.Firewall, changes) })
}

// applyBoth carries out changes, whatever their family.
func applyBoth(f portmap.Firewall, changes []portmap.Change) error {
	var of [2][]portmap.Change
	for _, c := range changes {
		m := c.After
		if m == nil {
			m = c.Before
		}
		of[m.Family()] = append(of[m.Family()], c)
	}
	var errs []error
	for _, changes := range of {
		if len(changes) > 0 {
			errs = append(errs, f.Apply(context.Background(), changes))
		}
	}
	return errors.Join(errs...)
}

func (g nsFirewall) Sync(mappings []*portmap.Mapping) error {
	return g.router.Do(func() error { return syncBoth(g.Firewall, mappings) })
}

// syncBoth makes a firewall hold these mappings, whatever their family.
func syncBoth(f portmap.Firewall, mappings []*portmap.Mapping) error {
	var errs []error
	for _, v := range [...]portmap.Family{portmap.IPv4, portmap.IPv6} {
		others := func(m *portmap.Mapping) bool { return m.Family() != v }
		errs = append(errs, f.Sync(context.Background(), v, slices.DeleteFunc(slices.Clone(mappings), others)))
	}
	return errors.Join(errs...)
}

// Healthy reports whether both families are.
func (g nsFirewall) Healthy() (ok bool, err error) {
	ok4, err4 := g.healthy(portmap.IPv4)
	ok6, err6 := g.healthy(portmap.IPv6)
	return ok4 && ok6, errors.Join(err4, err6)
}

func (g nsFirewall) healthy(v portmap.Family) (ok bool, err error) {
	err = g.router.Do(func() (err error) { ok, err = g.Firewall.Healthy(v); return err })
	return ok, err
}

func (g nsFirewall) StaticForwards(u netfilter.Uplink) (forwards netfilter.Forwards, err error) {
	err = g.router.Do(func() (err error) { forwards, err = g.Firewall.StaticForwards(u); return err })
	return forwards, err
}

func (g nsFirewall) Counters() (counts map[portmap.Key]netfilter.Count, err error) {
	err = g.router.Do(func() (err error) { counts, err = g.Firewall.Counters(); return err })
	return counts, err
}

// mapping returns an enabled mapping: mapping(portmap.TCP, 3001, "192.168.50.10:80").
func mapping(p portmap.Protocol, external uint16, internal string, filters ...portmap.Filter) *portmap.Mapping {
	to := netip.MustParseAddrPort(internal)
	host := to.Addr().AsSlice()
	return &portmap.Mapping{
		Key:      portmap.Key{Protocol: p, External: external},
		Internal: to,
		Claims:   []portmap.Claim{{Origin: portmap.PCP, Filters: filters}},
		Serial:   uint64(external)<<32 | uint64(to.Port())<<16 | uint64(host[len(host)-1])<<8 | uint64(p),
	}
}

// pinhole returns an IPv6 mapping.
func pinhole(p portmap.Protocol, internal string, filters ...portmap.Filter) *portmap.Mapping {
	m := mapping(p, 0, internal, filters...)
	m.Pinhole = m.Internal
	return m
}

// some are mappings of all kinds.
func some() []*portmap.Mapping {
	return []*portmap.Mapping{
		mapping(portmap.TCP, 3001, "192.168.50.10:80"), outbound(6001, "192.168.50.10:6000", "11.22.35.254:53"),
		pinhole(portmap.TCP, "[2001:db8::20]:8080"),
	}
}

func filter(prefix string, port uint16) portmap.Filter {
	return portmap.Filter{Prefix: netip.MustParsePrefix(prefix), Port: port}
}

func open(m ...*portmap.Mapping) []portmap.Change {
	var changes []portmap.Change
	for _, m := range m {
		changes = append(changes, portmap.Change{After: m})
	}
	return changes
}

func closing(m ...*portmap.Mapping) []portmap.Change {
	changes := open(m...)
	for i := range changes {
		changes[i] = changes[i].Inverse()
	}
	return changes
}

// eachVariant runs the test on a router of each kind, side by side.
func eachVariant(t *testing.T, test func(t *testing.T, r *router)) {
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			test(t, newRouter(t, variant))
		})
	}
}

// wantRules compares all chains and rules, given as lines, in any order.
func wantRules(t testing.TB, r *router, want string) {
	t.Helper()
	count := make(map[string]int)
	table := ""
	for sign, text := range map[int]string{-1: r.rules(t), +1: want} {
		for line := range strings.Lines(text) {
			if line[0] == '*' {
				table = strings.TrimSpace(line)
			}
			count[table+" "+line] += sign
		}
	}
	for line, n := range count {
		switch {
		case n < 0:
			t.Errorf("%d too many: %s", -n, line)
		case n > 0:
			t.Errorf("%d missing: %s", n, line)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantHealthy(t testing.TB, f nsFirewall) {
	t.Helper()
	if ok, err := f.Healthy(); !ok || err != nil {
		t.Errorf("healthy: %v, %v", ok, err)
	}
}

func wantUnhealthy(t testing.TB, f nsFirewall) {
	t.Helper()
	if ok, err := f.Healthy(); ok || err != nil {
		t.Errorf("healthy: %v, %v; want false", ok, err)
	}
}

package daemon_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// TestStockSettingsWithoutIPv6 has settings like those of AstLinux's own script, which
// say nothing of IPv6, on systems that have it off in different ways: IPv4 is served,
// at the start and when its rules are flushed, and ip6tables is left as it is.
func TestStockSettingsWithoutIPv6(t *testing.T) {
	t.Parallel()
	for what, prepare := range map[string]func(*testing.T, *rig){
		"the firewall drops all": func(t *testing.T, r *rig) {
			for _, chain := range []string{"INPUT", "FORWARD", "OUTPUT"} {
				r.ip6t(t, "-P", chain, "DROP")
			}
		},
		"the firewall drops all but established": func(t *testing.T, r *rig) {
			r.ip6t(t, "-P", "FORWARD", "DROP")
			r.ip6t(t, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
			r.ip6t(t, "-A", "FORWARD", "-i", "lo", "-j", "ACCEPT")
		},
		"no ip6tables": func(t *testing.T, r *rig) { r.withoutIP6Tables(t) },
		"ip6tables fails": func(t *testing.T, r *rig) {
			for _, part := range []string{"", "-save", "-restore"} {
				r.stub(t, "ip6tables"+part, "exit 3")
			}
		},
		"ip6tables-save fails": func(t *testing.T, r *rig) { r.stub(t, "ip6tables-save", "exit 1") },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			bothVariants(t, func(t *testing.T, variant string) {
				r := newRig(t, variant, netlab.Layout{IPv6: true})
				r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
				prepare(t, r)
				before := r.ip6t(t, "-S")
				r.demandIPv4Served(t)
				if after := r.ip6t(t, "-S"); after != before {
					t.Errorf("ip6tables had\n%sand has\n%s", before, after)
				}
			})
		})
	}
}

// demandIPv4Served starts the daemon, maps a port, and demands that it is restored each
// time when the rules are flushed. It logs how long that takes.
func (r *rig) demandIPv4Served(t *testing.T) {
	t.Helper()
	began := time.Now()
	r.start(t, "enable_upnp=yes")
	started := time.Since(began)
	began = time.Now()
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	granted := time.Since(began)
	r.dial("tcp", 4000).Arrives(t)
	r.says(t, "status", 0, "healthy: chains, jumps and rules in place")
	var flushed []string
	for range 3 {
		r.atOnce(t, "nat", "-F MINIUPNPD")
		r.atOnce(t, "filter", "-F MINIUPNPD")
		began = time.Now()
		await(t, "the rules to be restored", func() bool {
			return len(r.rulesOf(t, "nat", "MINIUPNPD")) == 1 && len(r.rulesOf(t, "filter", "MINIUPNPD")) == 1
		})
		flushed = append(flushed, time.Since(began).Round(time.Millisecond).String())
	}
	r.dial("tcp", 4000).Arrives(t)
	began = time.Now()
	r.stop(t, syscall.SIGTERM)
	t.Logf("started after %v, granted after %v, restored after %s, stopped after %v",
		started, granted, strings.Join(flushed, ", "), time.Since(began))
}

// ip6t runs the rig's ip6tables on the router.
func (r *rig) ip6t(t testing.TB, args ...string) string {
	t.Helper()
	return r.Router.Run(t, "/usr/sbin/ip6tables-"+r.variant, append([]string{"-w"}, args...)...)
}

// withoutIP6Tables hides the programs of IPv6 from the daemon, wherever it looks for
// them.
func (r *rig) withoutIP6Tables(t testing.TB) {
	t.Helper()
	r.installed()
	hidden := []string{"ip6tables", "ip6tables-save", "ip6tables-restore"}
	for _, name := range hidden {
		if err := os.Remove(r.tool(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	layers := t.TempDir()
	inside := strings.Join([]string{
		"set -e",
		"mount -t tmpfs layers " + layers,
		"mkdir " + layers + "/upper " + layers + "/work",
		fmt.Sprintf("mount -t overlay -o lowerdir=/usr/sbin,upperdir=%[1]s/upper,workdir=%[1]s/work sbin /usr/sbin", layers),
		"cd /usr/sbin",
		"rm -f " + strings.Join(hidden, " "),
		`[ "$1" = -f ] || set -- ctl "$@"`,
		"exec " + r.program + ` "$@"`,
	}, "\n")
	r.program = r.path("miniupnpd")
	wrapper := "#!/bin/sh\nexec unshare --mount sh -c '" + inside + "' miniupnpd \"$@\"\n"
	if err := os.WriteFile(r.program, []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
}

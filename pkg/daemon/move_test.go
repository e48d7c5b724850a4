package daemon_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
)

// TestHostTakesItsPortsToAnotherAddress has DHCP give a host another address, with
// a restart of the daemon in between.
func TestHostTakesItsPortsToAnotherAddress(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{Clients: 2})
		next, host := netip.MustParseAddr("192.168.50.130"), r.Clients[0]
		settings := []string{"enable_upnp=yes", "dhcp_leases=" + r.path("dnsmasq.leases")}
		ask := func(i int, own netip.Addr) (int, string) {
			return r.invokeAs(t, r.Clients[i], "AddPortMapping", fmt.Sprintf(`<NewRemoteHost></NewRemoteHost><NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol>`+
				`<NewInternalPort>4000</NewInternalPort><NewInternalClient>%v</NewInternalClient><NewEnabled>1</NewEnabled>`+
				`<NewPortMappingDescription>test</NewPortMappingDescription><NewLeaseDuration>600</NewLeaseDuration>`, own))
		}
		demandRefused := func(what string, i int, own netip.Addr) {
			t.Helper()
			if _, body := ask(i, own); !strings.Contains(body, "<errorCode>718<") {
				t.Errorf("%s: %s", what, body)
			}
		}
		r.start(t, settings...)
		host.Echo(t, "tcp", "0.0.0.0:4000")
		if status, body := ask(0, client1); status != 200 {
			t.Fatalf("at first: %s", body)
		}
		r.dial("tcp", 4000).Arrives(t)

		host.IP(t, "address", "flush", "dev", "eth0")
		host.Address(t, "eth0", netip.PrefixFrom(next, 24))
		host.Address(t, "eth0", netip.PrefixFrom(client1, 24))
		host.IP(t, "route", "replace", "default", "via", netlab.RouterLAN.Addr().String())
		demandRefused("with both addresses", 0, next)

		host.IP(t, "address", "del", client1.String()+"/24", "dev", "eth0")
		r.stop(t, syscall.SIGTERM)
		r.flush(t)
		r.start(t, settings...)
		demandRefused("by another host", 1, client2)
		if err := os.WriteFile(r.path("dnsmasq.leases"), []byte("0 02:00:00:00:00:99 "+next.String()+" * *\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		demandRefused("from behind a repeater", 0, next)

		r.lease(t, next.String(), client2.String())
		await(t, "the host to get its port", func() bool { status, _ := ask(0, next); return status == 200 })
		r.dial("tcp", 4000).Arrives(t)
		old := func(rule string) bool { return strings.Contains(rule, client1.String()) }
		if rules := append(r.rulesOf(t, "nat", "MINIUPNPD"), r.rulesOf(t, "filter", "MINIUPNPD")...); slices.ContainsFunc(rules, old) {
			t.Errorf("rules for the old address are left: %q", rules)
		}
	})
}

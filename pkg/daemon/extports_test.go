package daemon_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// addMapping asks by UPnP, as the i-th client, to map a TCP port to its port 4000 and
// returns the answer's status and body.
func (r *rig) addMapping(t testing.TB, i int, action string, external uint16) (int, string) {
	t.Helper()
	return r.invokeAs(t, r.Clients[i], action, fmt.Sprintf(`<NewRemoteHost></NewRemoteHost><NewExternalPort>%d</NewExternalPort><NewProtocol>TCP</NewProtocol>`+
		`<NewInternalPort>4002</NewInternalPort><NewInternalClient>%v</NewInternalClient><NewEnabled>1</NewEnabled>`+
		`<NewPortMappingDescription></NewPortMappingDescription><NewLeaseDuration>3600</NewLeaseDuration>`, external, addressOf(i)))
}

// TestPortsOfTheProvider has a provider forward five ports. Clients of all protocols get
// these and no others, until none is left, and a reload with fewer ends the others.
func TestPortsOfTheProvider(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{Clients: 2})
		r.installed()
		for port := range 3 {
			r.Clients[0].Echo(t, "tcp", fmt.Sprintf("192.168.50.10:400%d", port))
		}
		r.start(t, "enable_upnp=yes", "ext_ports=7000-7003, 7010")
		r.awaitServed(t)
		const set = "(UPNP_EXT_PORTS is 7000-7003 7010)"
		if resp := r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour)); resp.ExternalPort != 7000 {
			t.Errorf("NAT-PMP grants %d", resp.ExternalPort)
		}
		if resp := r.pcp(t, 0, pcpMap(client1, 6, 4001, 8000, pcp.PreferFailure{})); resp.Result != pcp.CannotProvideExternal {
			t.Errorf("PCP answers %v", resp.Result)
		}
		if resp := r.pcp(t, 0, pcpMap(client1, 6, 4001, 8000)); resp.Result != pcp.Success || resp.External.Port() != 7001 {
			t.Errorf("PCP answers %v, port %v", resp.Result, resp.External)
		}
		if status, body := r.addMapping(t, 0, "AddPortMapping", 8000); status != 500 || !strings.Contains(body, "<errorCode>718<") {
			t.Errorf("AddPortMapping: %d, %s", status, body)
		}
		r.says(t, "explain 192.168.50.10 tcp 8000 4002 as upnp", 4, "reason: the provider does not forward that port "+set)
		r.says(t, "explain 192.168.50.10 tcp 8000 4003 as natpmp", 0, "port 7002 instead of 8000: the provider does not forward that port "+set)
		if status, body := r.addMapping(t, 0, "AddAnyPortMapping", 8000); status != 200 || !strings.Contains(body, ">7002<") {
			t.Errorf("AddAnyPortMapping: %d, %s", status, body)
		}
		for port := uint16(7000); port <= 7002; port++ {
			r.dial("tcp", port).Arrives(t)
		}
		listener := r.listenOnAll(t, 7003)
		asOther := func() natpmp.Response {
			return r.natpmpMap(t, r.Clients[1], client2, mapping(natpmp.MapTCP, 7003, 0, time.Hour))
		}
		if resp := asOther(); resp.Result != natpmp.Success || resp.ExternalPort != 7010 {
			t.Errorf("while a program listens at 7003 NAT-PMP answers %+v", resp)
		}
		if resp := r.natpmpMap(t, r.Clients[1], client2, mapping(natpmp.MapTCP, 7004, 0, time.Hour)); resp.Result != natpmp.OutOfResources {
			t.Errorf("with the only one left taken NAT-PMP answers %+v", resp)
		}
		r.says(t, "explain 192.168.50.11 tcp 0 7004 as pcp", 4, "reason: no port left "+set)
		listener.Close()
		r.says(t, "explain 192.168.50.10 tcp 0 4003 as pcp", 4, "reason: the last free ports are kept for hosts that have fewer "+set)
		r.says(t, "status", 0, "external ports: 5 of UPNP_EXT_PORTS, free for TCP 1, for UDP 5")
		r.awaitMetrics(t, "with four ports mapped", map[string]float64{
			`igdd_external_ports_free{protocol="tcp"}`: 1, `igdd_external_ports_free{protocol="udp"}`: 5,
		})
		r.demandNarrowed(t)
	})
}

// listenOnAll has a program of the router listen on a TCP port of all addresses.
func (r *rig) listenOnAll(t testing.TB, port uint16) (l net.Listener) {
	t.Helper()
	at := netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()
	if err := r.Router.Do(func() (err error) { l, err = net.Listen("tcp", at); return err }); err != nil {
		t.Fatal(err)
	}
	return l
}

// demandNarrowed has the daemon read settings with fewer ports, and start with others: the
// mappings of those that are left stay.
func (r *rig) demandNarrowed(t *testing.T) {
	t.Helper()
	began, pid := time.Now(), r.pid()
	r.configure(t, "enable_upnp=yes", "ext_ports=7001-7010")
	r.kill(syscall.SIGHUP)
	await(t, "the end of a mapping outside", func() bool {
		out, status := r.ctl(t, "list")
		return status == 0 && !strings.Contains(out, "7000")
	})
	r.dial("tcp", 7000).Blocked(t)
	r.dial("tcp", 7001).Arrives(t)
	if e := r.readEpoch(t); !e.isNewSince(began) || r.pid() != pid {
		t.Errorf("the epoch is %+v, and the process %d, not %d", e, r.pid(), pid)
	}
	r.says(t, "history", 0, "the provider does not forward that port")
	r.stop(t, syscall.SIGTERM)
	r.start(t, "enable_upnp=yes", "ext_ports=7002")
	r.awaitServed(t)
	r.dial("tcp", 7001).Blocked(t)
	r.dial("tcp", 7002).Arrives(t)
	await(t, "the lease file to list one mapping", func() bool {
		list := r.leases(t)
		return len(list) == 1 && strings.HasPrefix(list[0], "TCP:7002:")
	})
}

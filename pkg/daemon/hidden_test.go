package daemon_test

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
	"igdd/pkg/ssdp"
	"igdd/pkg/vectors/discovery"
)

// heard returns the services that answer a client within some time.
func (r *rig) heard(t *testing.T, i int, within time.Duration) (list []string) {
	t.Helper()
	host, four, six := r.Clients[i], []netip.Addr{client1, client2}[i], sixes[i]
	if reply, _ := exchange(t, host, four, netlab.RouterLAN.Addr(), []byte{0, 0}, within); len(reply) > 0 {
		list = append(list, "NAT-PMP")
	}
	for family, a := range map[string]netip.Addr{"PCP over IPv4": four, "PCP over IPv6": six} {
		gateway := netlab.RouterLAN.Addr()
		if a.Is6() {
			gateway = netlab.RouterLAN6.Addr()
		}
		announce := pcp.Request{Opcode: pcp.Announce, Client: a}.Append(nil)
		if reply, _ := exchange(t, host, a, gateway, announce, within); len(reply) > 0 {
			list = append(list, family)
		}
	}
	for family, group := range map[string]ssdp.Group{"SSDP over IPv4": ssdp.IPv4, "SSDP over IPv6": ssdp.SiteLocal} {
		source := netip.IPv4Unspecified()
		if group != ssdp.IPv4 {
			source = netip.IPv6Unspecified()
		}
		c := discovery.Open(t, host, source)
		discovery.Send(t, host, c, group.Addr(), discovery.Search("upnp:rootdevice"))
		if _, ok := discovery.Receive(t, c, time.Now().Add(within)); ok {
			list = append(list, family)
		}
	}
	for family, at := range map[string]string{"HTTP over IPv4": "192.168.50.1:5000", "HTTP over IPv6": "[2001:db8:50::1]:5000"} {
		if status := r.firstLine(t, i, at); status != "" {
			list = append(list, family)
		}
	}
	return list
}

// firstLine asks for the description and returns the first line of the answer.
func (r *rig) firstLine(t *testing.T, i int, at string) (status string) {
	t.Helper()
	err := r.Clients[i].Do(func() error {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "GET /rootDesc.xml HTTP/1.1\r\nHost: "+at+"\r\n\r\n") // the connection may be closed already
		status, _ = bufio.NewReader(c).ReadString('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// TestHiddenGateway has two hosts, one of which may have ports.
func TestHiddenGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{Clients: 2, IPv6: true})
	conf := func(hidden string, rules ...string) []string {
		return append([]string{"enable_pcp=yes", "enable_upnp=yes", "ipv6=yes", "hidden=" + hidden}, append(rules, denyAll)...)
	}
	onlyFirst := ruleFor("allow", "192.168.50.10/32")
	const services = 7
	r.start(t, conf("no", onlyFirst)...)
	if got := r.heard(t, 1, patience); len(got) != services {
		t.Errorf("when the gateway is not hidden a host that may have no port hears %v only", got)
	}
	r.configure(t, conf("yes", onlyFirst)...)
	r.kill(syscall.SIGHUP)
	await(t, "the gateway to hide", func() bool {
		reply, _ := exchange(t, r.Clients[1], client2, netlab.RouterLAN.Addr(), []byte{0, 0}, hush)
		return reply == nil
	})
	if got := r.heard(t, 0, patience); len(got) != services {
		t.Errorf("a host that may have ports hears %v only", got)
	}
	if got := r.heard(t, 1, hush); len(got) > 0 {
		t.Errorf("a host that may have no port hears %v", got)
	}
	r.says(t, "block 10m 192.168.50.10", 0, "")
	if reply, _ := exchange(t, r.Clients[0], client1, netlab.RouterLAN.Addr(), []byte{0, 0}, patience); reply == nil {
		t.Error("the gateway hides from a host that the operator has blocked")
	}
	r.configure(t, conf("yes", ruleFor("allow", "192.168.50.11/32"))...)
	r.kill(syscall.SIGHUP)
	await(t, "the second host to be answered", func() bool {
		reply, _ := exchange(t, r.Clients[1], client2, netlab.RouterLAN.Addr(), []byte{0, 0}, hush)
		return reply != nil
	})
	if got := r.heard(t, 0, hush); len(got) > 0 {
		t.Errorf("under new rules a host that may have no port any more hears %v", got)
	}
}

// TestHiddenGatewayLearnsWhoAsks has two hosts ask over IPv6 of which the router knows
// nothing: the one that may have ports is answered soon.
func TestHiddenGatewayLearnsWhoAsks(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{Clients: 2, IPv6: true})
	r.start(t, "ipv6=yes", "hidden=yes", ruleFor("allow", "192.168.50.10/32"), denyAll)
	r.flush(t)
	isAnswered := func(i int) bool {
		announce := pcp.Request{Opcode: pcp.Announce, Client: sixes[i]}.Append(nil)
		reply, _ := exchange(t, r.Clients[i], sixes[i], netlab.RouterLAN6.Addr(), announce, hush)
		return reply != nil
	}
	await(t, "the host that may have ports to be answered", func() bool { return isAnswered(0) })
	if isAnswered(1) {
		t.Error("the other host is answered")
	}
}

// TestHiddenGatewayAnnouncesNothing has two LANs: one whose host may have ports, and
// one where nobody may.
func TestHiddenGatewayAnnouncesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{SecondLAN: true})
	conf := func(hidden string) []string {
		return []string{"listening_ip=lan1", "enable_upnp=yes", "notify_interval=1", "hidden=" + hidden, ruleFor("allow", "192.168.50.10/32"), denyAll}
	}
	first, second := discovery.Listen(t, r.Clients[0], ssdp.IPv4.Addr()), discovery.Listen(t, r.Client2, ssdp.IPv4.Addr())
	const rounds = 3 * 10 // an announcement has 10 messages
	r.start(t, conf("no")...)
	second.Next(t, "announcements", rounds, "ssdp:alive")
	r.configure(t, conf("yes")...)
	r.kill(syscall.SIGHUP)
	second.Next(t, "the end", 1, "ssdp:byebye")
	first.Next(t, "announcements where hosts may have ports", rounds, "ssdp:alive")
	for more := true; more; {
		_, more = discovery.Receive(t, second.UDPConn, time.Now().Add(discovery.Quiet)) // from before
	}
	first.Next(t, "announcements where hosts may have ports", rounds, "ssdp:alive")
	if m, heard := discovery.Receive(t, second.UDPConn, time.Now().Add(discovery.Quiet)); heard {
		t.Errorf("where nobody may have ports is announced %v", m)
	}
}

package netif

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
	"igdd/pkg/netlink"
)

// waitTime is how long a test waits for a condition.
const waitTime = 10 * time.Second

// await waits until the links of w fulfil a condition.
func await(t *testing.T, w *Watcher, what string, isFulfilled func(map[string]Link) bool) {
	t.Helper()
	deadline := time.After(waitTime)
	for {
		links, changed := w.Now()
		if isFulfilled(links) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s is not noticed; links: %+v", what, links)
		}
	}
}

func TestWatcher(t *testing.T) {
	ns := netlab.New(t, "netif")
	var w *Watcher
	err := ns.Do(func() (err error) {
		w, err = Watch()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ns.Do(func() error { return w.Run(ctx) }) }()

	has := func(name, prefix string) func(map[string]Link) bool {
		return func(links map[string]Link) bool {
			return slices.Contains(links[name].Addrs, netip.MustParsePrefix(prefix))
		}
	}
	ns.IP(t, "link", "add", "lan0", "type", "veth", "peer", "name", "far0")
	ns.IP(t, "link", "set", "far0", "up")
	await(t, w, "a new interface", func(l map[string]Link) bool { return l["lan0"].Index != 0 && !l["lan0"].Up })
	ns.IP(t, "link", "set", "lan0", "up")
	await(t, w, "an interface that is set up", func(l map[string]Link) bool { return l["lan0"].Up })
	ns.IP(t, "address", "add", "2001:db8::1/64", "dev", "lan0", "nodad")
	ns.IP(t, "address", "add", "192.168.50.1/24", "dev", "lan0")
	await(t, w, "an IPv4 address", has("lan0", "192.168.50.1/24"))
	await(t, w, "an IPv6 address", has("lan0", "2001:db8::1/64"))
	if l, _ := w.Link("lan0"); !l.Addrs[0].Addr().Is4() {
		t.Errorf("addresses = %v, want IPv4 first", l.Addrs)
	}
	ns.IP(t, "address", "add", "10.64.0.2", "peer", "10.64.0.1", "dev", "lan0")
	await(t, w, "the own address of a link with a peer", has("lan0", "10.64.0.2/32"))
	ns.IP(t, "address", "del", "192.168.50.1/24", "dev", "lan0")
	await(t, w, "an address that is removed", func(l map[string]Link) bool { return !has("lan0", "192.168.50.1/24")(l) })
	ns.IP(t, "link", "set", "lan0", "down")
	ns.IP(t, "link", "set", "lan0", "name", "lan9")
	await(t, w, "a new name", func(l map[string]Link) bool { return l["lan9"].Index != 0 && l["lan0"].Index == 0 })
	ns.IP(t, "link", "del", "lan9")
	await(t, w, "an interface that is removed", func(l map[string]Link) bool { return l["lan9"].Index == 0 })

	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestListening(t *testing.T) {
	ns := netlab.New(t, "netif")
	ns.IP(t, "address", "add", "11.22.33.44/24", "dev", "lo")
	ns.IP(t, "address", "add", "192.168.50.1/24", "dev", "lo")
	external := netip.MustParseAddr("11.22.33.44")
	err := ns.Do(func() error {
		for _, at := range []string{"0.0.0.0:8443", "11.22.33.44:8444", "192.168.50.1:8445", "127.0.0.1:8446", "[::]:8447"} {
			l, err := net.Listen("tcp", at)
			if err != nil {
				return err
			}
			defer l.Close()
		}
		u, err := net.ListenPacket("udp4", "0.0.0.0:5353")
		if err != nil {
			return err
		}
		defer u.Close()
		tcp := Listening("tcp", external)
		slices.Sort(tcp)
		if want := []uint16{8443, 8444, 8447}; !slices.Equal(tcp, want) {
			t.Errorf("TCP ports = %v, want %v", tcp, want)
		}
		if udp := Listening("udp", external); !slices.Equal(udp, []uint16{5353}) {
			t.Errorf("UDP ports = %v, want 5353", udp)
		}
		for name, ports := range map[string]*Ports{"sock_diag": NewPorts(), "/proc": {}} {
			defer ports.Close()
			if len(ports.diag) > 0 && !(ports.diag["tcp"] && ports.diag["udp"]) {
				t.Errorf("sock_diag has %v only", ports.diag)
			}
			for port := uint16(8443); port < 8449; port++ {
				if got, want := ports.Taken("tcp", external, port), slices.Contains(tcp, port); got != want {
					t.Errorf("by %s: TCP port %d is taken: %v, want %v", name, port, got, want)
				}
			}
			if !ports.Taken("udp", external, 5353) || ports.Taken("udp", external, 5354) || ports.Taken("tcp", external, 5353) || ports.Taken("udp", external, 8443) {
				t.Errorf("by %s: UDP port 5353 is not the one that is taken", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFlowPort has a flow whose source port the router translates.
func TestFlowPort(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	lab.Router.Run(t, "/usr/sbin/iptables-legacy", "-w", "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-p", "udp", "-j", "MASQUERADE", "--to-ports", "41000")
	from, to := netip.MustParseAddrPort("192.168.50.10:40000"), netip.MustParseAddrPort("11.22.33.1:9999")
	err := lab.Clients[0].Do(func() error {
		c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var port uint16
	found := false
	for deadline := time.Now().Add(10 * time.Second); !found && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		lab.Router.Do(func() error { port, found = FlowPort("udp", from, to); return nil })
	}
	if !found || port != 41000 {
		t.Errorf("the flow leaves by port %d, %v, want 41000", port, found)
	}
	lab.Router.Do(func() error { port, found = FlowPort("tcp", from, to); return nil })
	if found {
		t.Errorf("a flow that does not exist leaves by port %d", port)
	}
}

// FuzzReplyPort decodes any attributes as conntrack's.
func FuzzReplyPort(f *testing.F) {
	f.Add(flowRequest(17, netip.MustParseAddrPort("192.168.50.10:40000"), netip.MustParseAddrPort("11.22.33.1:9999")).Data[nfgenmsgLen:])
	f.Add(netlink.AppendAttribute(nil, ctTupleReply, netlink.AppendAttribute(nil, ctTupleProto, netlink.AppendAttribute(nil, ctDestinationPort, []byte{1, 2}))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if port, found := replyPort(b); !found && port != 0 {
			t.Errorf("port %d though none was found", port)
		}
	})
}

func TestReadDiag(t *testing.T) {
	message := func(kind uint16) []netlink.Message { return []netlink.Message{{Type: kind}} }
	for name, test := range map[string]struct {
		reply         []netlink.Message
		err           error
		list          bool
		found, failed bool
	}{
		"a socket":            {message(unix.SOCK_DIAG_BY_FAMILY), nil, false, true, false},
		"no socket":           {nil, unix.ENOENT, false, false, false},
		"end of a list":       {nil, nil, true, false, false},
		"a list":              {message(unix.SOCK_DIAG_BY_FAMILY), nil, true, true, false},
		"no list of protocol": {nil, unix.ENOENT, true, false, true},
		"not allowed":         {nil, unix.EPERM, false, false, true},
		"something else":      {message(unix.RTM_NEWLINK), nil, false, false, true},
	} {
		if found, err := readDiag(test.reply, test.err, test.list); found != test.found || (err != nil) != test.failed {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}

func BenchmarkTaken(b *testing.B) {
	p := NewPorts()
	defer p.Close()
	external := netip.MustParseAddr("11.22.33.44")
	for b.Loop() {
		p.Taken("tcp", external, 8443)
	}
}

// FuzzMessage decodes any messages as the kernel's.
func FuzzMessage(f *testing.F) {
	address := make([]byte, unix.SizeofIfAddrmsg)
	address[0], address[1] = unix.AF_INET, 24
	binary.NativeEndian.PutUint32(address[4:], 7)
	address = binary.NativeEndian.AppendUint16(address, 8)
	address = binary.NativeEndian.AppendUint16(address, unix.IFA_LOCAL)
	f.Add(uint16(unix.RTM_NEWADDR), append(address, 192, 168, 50, 1))
	f.Add(uint16(unix.RTM_NEWLINK), make([]byte, unix.SizeofIfInfomsg))
	f.Add(uint16(unix.RTM_NEWADDR), append(make([]byte, unix.SizeofIfAddrmsg), 12, 0, 1, 0, 9, 9)) // cut short
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		m := netlink.Message{Type: kind, Data: data}
		if l, ok := parseLink(m); ok && l.Name == "" {
			t.Error("a link without a name")
		}
		if _, addr, _, ok := parseAddr(m); ok && !addr.IsValid() {
			t.Error("an invalid address")
		}
	})
}

func FuzzListener(f *testing.F) {
	f.Add([]byte("   0: 00000000:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		parseListener(line, true, netip.IPv4Unspecified())
		parseListener(line, false, netip.IPv4Unspecified())
	})
}

func TestReadTraffic(t *testing.T) {
	near, far := netlab.New(t, "near"), netlab.New(t, "far")
	near.Connect(t, "eth0", far, "eth0")
	near.Address(t, "eth0", netip.MustParsePrefix("192.168.50.1/24"))
	far.Address(t, "eth0", netip.MustParsePrefix("192.168.50.2/24"))
	read := func() (got Traffic) {
		if err := near.Do(func() (err error) { got, err = ReadTraffic("eth0"); return err }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	far.Echo(t, "udp", ":7")
	before := read()
	for range 3 {
		netlab.Probe{Network: "udp", From: near, To: netip.MustParseAddrPort("192.168.50.2:7")}.Arrives(t)
	}
	after := read()
	if sent := after.PacketsSent - before.PacketsSent; sent < 3 {
		t.Errorf("%d packets sent, want the 3 probes at least", sent)
	}
	if received := after.BytesReceived - before.BytesReceived; received < 3*20 {
		t.Errorf("%d bytes received, want 3 replies, each longer than its IP header", received)
	}
	if err := near.Do(func() error { _, err := ReadTraffic("eth9"); return err }); err == nil {
		t.Error("a link that does not exist has counters")
	}
}

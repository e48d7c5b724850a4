package upnpd

import (
	"bufio"
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/lan"
)

// liveHeap returns the octets that are in use.
func liveHeap() int {
	runtime.GC()
	runtime.GC() // what the first one finalised
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// padding is a header field as long as a head may be.
var padding = "X-PADDING: " + strings.Repeat("x", 6000) + "\r\n"

// fatCall words a request for an action with as much around it as is allowed.
func fatCall(path, service, action, arguments string) string {
	serviceType := "urn:schemas-upnp-org:service:" + service
	body := `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` +
		"<u:" + action + ` xmlns:u="` + serviceType + `">` + arguments + "</u:" + action + "></s:Body></s:Envelope>"
	body += strings.Repeat(" ", maxBody-len(body))
	return "POST " + path + " HTTP/1.0\r\n" + padding + `SOAPACTION: "` + serviceType + "#" + action + "\"\r\n" +
		fmt.Sprintf("CONTENT-LENGTH: %d\r\n\r\n", len(body)) + body
}

// fatMapping words a request for the port mapping of a port.
func fatMapping(port int, description string) string {
	return fatCall("/ctl/IPConn", v2, "AddPortMapping", fmt.Sprintf("<NewExternalPort>%d</NewExternalPort><NewProtocol>TCP</NewProtocol>"+
		"<NewInternalPort>%d</NewInternalPort><NewInternalClient>%s</NewInternalClient><NewRemoteHost>45.67.89.1</NewRemoteHost>"+
		"<NewPortMappingDescription>%s</NewPortMappingDescription>", port, port, hosts["c1"], description))
}

// subscriber returns the address of the client that subscribes for the i-th
// time: each may have a few subscriptions.
func subscriber(i int) string { return fmt.Sprintf("192.168.77.%d", 10+i/subscriptionsPerHost) }

// TestMemoryOfRequests wants of the fattest requests that are allowed no more
// kept than what they ask for needs.
func TestMemoryOfRequests(t *testing.T) {
	for _, tt := range []struct {
		name   string
		client string
		n      int
		most   int                // octets for each of n
		words  func(i int) string // HTTP/1.0 needs no Host
	}{
		{"AddPortMapping", "c1", 50, 2048, func(i int) string { return fatMapping(4000+i, strings.Repeat("d", 60000)) }},
		{"AddPortMapping with line breaks", "c1", 50, 2048, func(i int) string { return fatMapping(4000+i, "a\n"+strings.Repeat("d", 60000)) }},
		{"AddPortMapping with references", "c1", 50, 2048, func(i int) string { return fatMapping(4000+i, strings.Repeat("&amp;", 12000)) }},
		{"AddPortMapping with a short description", "c1", 200, 2048, func(i int) string { return fatMapping(4000+i, "d") }},
		{"AddAnyPortMapping", "c1", 200, 2048, func(i int) string {
			return strings.ReplaceAll(fatMapping(4000+i, strings.Repeat("d", 60000)), "AddPortMapping", "AddAnyPortMapping")
		}},
		{"AddPinhole", "c1v6", 200, 2048, func(i int) string {
			return fatCall("/ctl/IP6FCtl", fw, "AddPinhole", fmt.Sprintf("<RemoteHost>2a0a:77:ff::1</RemoteHost><RemotePort>443</RemotePort>"+
				"<InternalClient>%s</InternalClient><InternalPort>%d</InternalPort><Protocol>6</Protocol><LeaseTime>3600</LeaseTime>", hosts["c1v6"], 4000+i))
		}},
		{"SUBSCRIBE", "", 64, 3072, func(i int) string { // its callback may be 1 KiB long
			callback := "<http://" + subscriber(i) + ":4000/"
			return "SUBSCRIBE /evt/IPConn HTTP/1.0\r\nNT: upnp:event\r\nCALLBACK:" + strings.Repeat(" ", 6500) +
				callback + strings.Repeat("c", maxCallback-len(callback)-1) + ">\r\n\r\n"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := testNet{}.newGateway(t, gatewayConfigOf("both"))
			before := liveHeap()
			for i := range tt.n {
				r, err := readRequest(bufio.NewReader(strings.NewReader(tt.words(i))), nil)
				if err != nil {
					t.Fatal(err)
				}
				r.client, r.local, r.device = netip.MustParseAddr(cmp.Or(hosts[tt.client], subscriber(i))), netip.MustParseAddr(hosts["gw1"]), "lo"
				r.from = lan.Host(r.client.String())
				if reply := h.server.handle(r, h.testNet).complete(); reply.status != 200 {
					t.Fatalf("request %d: %d %s", i, reply.status, reply.body)
				}
			}
			each := (liveHeap() - before) / tt.n
			t.Logf("%d octets are kept for each", each)
			if each > tt.most {
				t.Errorf("%d octets are kept for each, want %d at most", each, tt.most)
			}
			runtime.KeepAlive(h)
		})
	}
}

// TestMemoryOfLists has many hosts that ask for the list of a full table and read
// nothing but the beginning.
func TestMemoryOfLists(t *testing.T) {
	const mappings, readers, most = 1000, 64, 32 << 10
	h := testNet{}.newGateway(t, gatewayConfigOf("open"))
	for i := range mappings {
		add(t, h.server, hosts["c1"], v2, fmt.Sprint(4000+i), "0")
	}
	body := fatCall("/ctl/IPConn", v2, "GetListOfPortMappings", listOfAll)
	before := liveHeap()
	var nexts []func() ([]byte, bool)
	for i := range readers {
		r, err := readRequest(bufio.NewReader(strings.NewReader(body)), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.client, r.local, r.from = netip.MustParseAddr(hosts["c1"]), netip.MustParseAddr(hosts["gw1"]), lan.Host(fmt.Sprint(i))
		reply := h.server.handle(r, h.testNet).complete().list.response(h.table)
		if reply.status != 200 || reply.length < mappings*100 {
			t.Fatalf("reader %d: status %d, %d octets", i, reply.status, reply.length)
		}
		next, stop := iter.Pull(reply.pieces)
		defer stop()
		if _, ok := next(); !ok {
			t.Fatal("no pieces")
		}
		nexts = append(nexts, next)
	}
	each := (liveHeap() - before) / readers
	t.Logf("%d octets are kept for each reader", each)
	if each > most {
		t.Errorf("%d octets are kept for each reader, want %d at most", each, most)
	}
	runtime.KeepAlive(nexts)
}

// TestOneListAtATime has a host that asks for a second list before it has read the
// first.
func TestOneListAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lists := newTurns()
		if !lists.take("a") || !lists.take("b") {
			t.Error("the first list of a host waits")
		}
		began := time.Now()
		if lists.take("a") || time.Since(began) != listWithin {
			t.Errorf("a second list after %v", time.Since(began))
		}
		time.AfterFunc(listWithin/2, func() { lists.leave("a") })
		if !lists.take("a") {
			t.Error("no list when the other has ended")
		}
		for range connectionsPerHost - 1 {
			go lists.take("a")
		}
		synctest.Wait()
		began = time.Now()
		if lists.take("a") || !time.Now().Equal(began) {
			t.Error("more wait than there may be connections")
		}
		time.Sleep(listWithin)
		if lists.leave("a"); !lists.take("a") {
			t.Error("those that gave up waiting still count")
		}
	})
}

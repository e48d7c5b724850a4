package upstream

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"igdd/pkg/ssdp"
	"igdd/pkg/upnp"
)

// entryKey selects an entry of a fake router.
type entryKey struct {
	remote   string
	port     uint16
	protocol string
}

// fakeIGD is an Internet Gateway Device on the loopback, which misbehaves on demand.
type fakeIGD struct {
	http    endpoint // of its description
	search  uint16   // its port for searches
	version upnp.Version

	mu       sync.Mutex
	external string
	entries  map[entryKey]upnp.PortMapping
	calls    []string // names, in order
	busy     int      // calls at this moment
	overlap  bool     // two calls came at the same time

	// refuse returns the fault of a call, 0 for none; nil: none ever.
	refuse func(*upnp.Call) upnp.Fault
	// location is what replies to searches say; "": the right one.
	location string
	// description is the document; nil: that of our own gateway.
	description []byte
	overwrites  bool   // entries of other hosts
	idle        bool   // it says yes, and adds nothing
	mostLease   uint32 // 0: any
	lowest      uint16 // port that AddAnyPortMapping gives
	anyPort     string // which it says that it gave; "": the right one
}

// newFakeIGD starts a router of that version, at onLoopback.Address.
func newFakeIGD(t *testing.T, version upnp.Version) *fakeIGD {
	t.Helper()
	f := &fakeIGD{version: version, external: "203.0.113.9", entries: make(map[entryKey]upnp.PortMapping)}
	f.http = raw(t, f.serve)
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(onLoopback.Address, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f.search = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	go f.reply(c)
	return f
}

// gateway returns the description that it serves.
func (f *fakeIGD) gateway() *upnp.Description {
	return (&upnp.Gateway{FriendlyName: "router in front"}).Description(f.version)
}

// reply replies to searches for what it has.
func (f *fakeIGD) reply(c *net.UDPConn) {
	var b [2048]byte
	for {
		n, from, err := c.ReadFromUDPAddrPort(b[:])
		if err != nil {
			return
		}
		s, err := ssdp.ParseSearch(b[:n], onLoopback.Address)
		if err != nil {
			continue
		}
		f.mu.Lock()
		location := cmp.Or(f.location, fmt.Sprintf("http://%v%s", f.http.at, f.http.path))
		f.mu.Unlock()
		if s.Target.Version <= int(f.version) {
			c.WriteToUDPAddrPort(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nST: %v\r\nLOCATION: %s\r\n\r\n", s.Target, location), from)
		}
	}
}

// serve answers the one request of a connection.
func (f *fakeIGD) serve(c net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	body, _ := io.ReadAll(r.Body)
	status, answer := 200, []byte(nil)
	if r.Method == "GET" {
		f.mu.Lock()
		answer = f.description
		f.mu.Unlock()
		if answer == nil {
			answer = f.gateway().Append(nil, onLoopback.Address)
		}
	} else {
		status, answer = f.control(r, body)
	}
	fmt.Fprintf(c, "HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s", status, len(answer), answer)
}

// control answers a call of WANIPConnection.
func (f *fakeIGD) control(r *http.Request, body []byte) (int, []byte) {
	service := f.gateway().Devices[2].Services[0]
	if r.URL.Path != service.ControlPath(f.version) {
		return 404, nil
	}
	call, err := service.ParseCall(r.Header.Get("SOAPAction"), body, f.version)
	if err != nil {
		return 500, err.(upnp.Fault).Append(nil)
	}
	f.enter(call)
	defer f.leave()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		if fault := f.refuse(call); fault != 0 {
			return 500, fault.Append(nil)
		}
	}
	results, fault := f.carryOut(call)
	if fault != 0 {
		return 500, fault.Append(nil)
	}
	return 200, call.AppendReply(nil, results...)
}

func (f *fakeIGD) enter(c *upnp.Call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, c.Name)
	f.busy++
	f.overlap = f.overlap || f.busy > 1
}

func (f *fakeIGD) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
}

func (f *fakeIGD) carryOut(c *upnp.Call) ([]string, upnp.Fault) {
	switch c.Name {
	case "GetStatusInfo":
		return []string{"Connected", "ERROR_NONE", "1"}, 0
	case "GetExternalIPAddress":
		return []string{f.external}, 0
	}
	key := entryKey{c.Text("NewRemoteHost"), c.Port("NewExternalPort"), c.Text("NewProtocol")}
	m, there := f.entries[key]
	switch c.Name {
	case "GetSpecificPortMappingEntry":
		if !there {
			return nil, upnp.NoSuchEntry
		}
		return m.Value(), 0
	case "DeletePortMapping":
		if !there {
			return nil, upnp.NoSuchEntry
		}
		delete(f.entries, key)
		return nil, 0
	case "AddAnyPortMapping":
		key.port = max(key.port, f.lowest)
		m, there = f.entries[key]
		for there && m.Client != c.Text("NewInternalClient") {
			key.port++
			m, there = f.entries[key]
		}
		return []string{cmp.Or(f.anyPort, strconv.Itoa(int(key.port)))}, f.add(key, c)
	}
	return nil, f.add(key, c)
}

// add adds the entry of a call.
func (f *fakeIGD) add(key entryKey, c *upnp.Call) upnp.Fault {
	client, lease := c.Text("NewInternalClient"), c.Number("NewLeaseDuration")
	if m, there := f.entries[key]; there && m.Client != client && !f.overwrites {
		return upnp.ConflictInMapping
	}
	if f.mostLease > 0 && (lease == 0 || lease > f.mostLease) {
		lease = f.mostLease
	}
	if !f.idle {
		f.entries[key] = upnp.PortMapping{
			RemoteHost: key.remote, ExternalPort: key.port, Protocol: key.protocol,
			InternalPort: c.Port("NewInternalPort"), Client: client, Enabled: c.Flag("NewEnabled"),
			Description: c.Text("NewPortMappingDescription"), LeaseDuration: lease,
		}
	}
	return 0
}

// put makes the router hold an entry for TCP that somebody else added.
func (f *fakeIGD) put(port, internal uint16, client string) {
	f.change(func() {
		f.entries[entryKey{"", port, "TCP"}] = upnp.PortMapping{ExternalPort: port, Protocol: "TCP", InternalPort: internal, Client: client, Enabled: true}
	})
}

// change changes the router while no call is carried out.
func (f *fakeIGD) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
}

// table returns the router's entries as text, sorted: "TCP 80 > 127.0.0.2:8080 3600s".
func (f *fakeIGD) table() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, m := range f.entries {
		from := ""
		if m.RemoteHost != "" {
			from = " from " + m.RemoteHost
		}
		lines = append(lines, fmt.Sprintf("%s %d > %s:%d %ds%s", m.Protocol, m.ExternalPort, m.Client, m.InternalPort, m.LeaseDuration, from))
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// called returns the names of the calls since the last time.
func (f *fakeIGD) called() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.calls = nil }()
	return strings.Join(f.calls, " ")
}

// refuses makes the router refuse those calls of actions that are in the map.
func (f *fakeIGD) refuses(faults map[string]upnp.Fault) {
	faults = maps.Clone(faults)
	f.change(func() { f.refuse = func(c *upnp.Call) upnp.Fault { return faults[c.Name] } })
}

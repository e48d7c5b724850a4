package daemon_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"igdd/pkg/vectors/discovery"
)

// httpWait is how long a client waits for a connection, and then for a response.
const httpWait = 3 * time.Second

// The services of UPnP that the clients use.
const (
	wanIP    = "WANIPConnection"
	pinholes = "WANIPv6FirewallControl"
)

// httpResponse is a response to a client of the soak.
type httpResponse struct {
	isSent bool // the request
	status int  // 0: none
	header http.Header
	body   string
}

// send sends an HTTP request on a connection of its own, the lines of the head after the
// first one given.
func (h *soakHost) send(to netip.Addr, line, head, body string) (r httpResponse) {
	at := netip.AddrPortFrom(to, uint16(h.httpPort.Load()))
	var c net.Conn
	err := h.net.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", at.String(), httpWait)
		return err
	})
	if err != nil {
		return r
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(httpWait))
	r.isSent = true
	fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: %v\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s", line, at, len(body), head, body)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return r
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		r.status, r.header, r.body = resp.StatusCode, resp.Header, string(text)
	}
	return r
}

// invoke invokes an action; arguments alternate between name and value.
func (h *soakHost) invoke(to netip.Addr, service string, version int, action string, arguments ...any) httpResponse {
	kind := fmt.Sprintf("urn:schemas-upnp-org:service:%s:%d", service, version)
	var list strings.Builder
	for i := 0; i < len(arguments); i += 2 {
		fmt.Fprintf(&list, "<%s>%v</%[1]s>", arguments[i], arguments[i+1])
	}
	body := fmt.Sprintf(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
		`s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%s xmlns:u="%s">%s</u:%[1]s></s:Body></s:Envelope>`,
		action, kind, &list)
	path := map[string]string{wanIP: "/ctl/IPConn", pinholes: "/ctl/IP6FCtl"}[service]
	return h.send(to, "POST "+path, fmt.Sprintf("Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"%s#%s\"\r\n", kind, action), body)
}

var faultCode = regexp.MustCompile(`<errorCode>(\d+)`)

// fault returns the code of a fault, "" if there is none.
func (r httpResponse) fault() string {
	if m := faultCode.FindStringSubmatch(r.body); m != nil {
		return m[1]
	}
	return ""
}

// value returns the text of an element of the response.
func (r httpResponse) value(element string) string {
	_, after, _ := strings.Cut(r.body, "<"+element+">")
	text, _, _ := strings.Cut(after, "</"+element+">")
	return text
}

// outcome returns how a request for a lifetime ended; deleting what does not exist
// succeeds.
func (r httpResponse) outcome(action string, lifetime time.Duration) outcome {
	isMissing := lifetime == 0 && slices.Contains([]string{"704", "714", "730"}, r.fault())
	return outcome{
		isSent: r.isSent, isAnswered: r.status != 0, isGranted: r.status == http.StatusOK || isMissing,
		lifetime: lifetime, granted: lifetime, what: fmt.Sprintf("%s: status %d, fault %q", action, r.status, r.fault()),
	}
}

// mappingArguments are those of AddPortMapping.
func (h *soakHost) mappingArguments(c claim, external, internal uint16, lifetime time.Duration) []any {
	return append(c.keyArguments(external), "NewInternalPort", internal, "NewInternalClient", h.addr,
		"NewEnabled", min(1, h.rng.IntN(8)), "NewPortMappingDescription", fmt.Sprintf("soak %d", internal), "NewLeaseDuration", int(lifetime.Seconds()))
}

// keyArguments are those of DeletePortMapping. Of some mappings only one remote host may
// use each.
func (c claim) keyArguments(external uint16) []any {
	remote := ""
	if c.port >= firstExternal && c.port%4 == 0 {
		remote = "11.22.33.1"
	}
	return []any{"NewRemoteHost", remote, "NewExternalPort", external, "NewProtocol", c.protocol}
}

// askUPnP maps an external port by UPnP, or deletes the mapping, in either version.
func (h *soakHost) askUPnP() {
	c := claim{"UPnP", h.addr, protocols[23-h.anyProtocol], h.pick(firstExternal, externalPorts)}
	was, version := h.book.ask(c), 1+h.rng.IntN(2)
	if h.isDeletion(was) {
		r := h.invoke(h.router, wanIP, version, "DeletePortMapping", c.keyArguments(c.port)...)
		h.finish(c, was, r.outcome("DeletePortMapping", 0))
		return
	}
	internal, lifetime := upnpPorts+c.port%8, h.lifetime()
	o := h.invoke(h.router, wanIP, version, "AddPortMapping", h.mappingArguments(c, c.port, internal, lifetime)...).outcome("AddPortMapping", lifetime)
	o.other = internal
	h.finish(c, was, o)
}

// askAny has the router choose the external port by AddAnyPortMapping of version 2, or
// deletes the mapping. A host that got no response does not know which port to delete: it
// deletes all its mappings.
func (h *soakHost) askAny() {
	c := claim{"UPnP", h.addr, protocols[h.anyProtocol], h.pick(anyPorts, 3)}
	was := h.book.ask(c)
	present, absent := was.mustBe(time.Now())
	switch {
	case was.state == isGranted && !present && !absent: // its port may be another's soon
		h.book.answer(c, was, "about to expire")
	case was.state == isPerhaps:
		h.book.answer(c, was, "to be deleted with all others")
		h.deleteRange(c.protocol)
	case present && h.isDeletion(was):
		r := h.invoke(h.router, wanIP, 2, "DeletePortMapping", c.keyArguments(was.other)...)
		h.finish(c, was, r.outcome("DeletePortMapping", 0))
	default:
		external, lifetime := was.other, h.lifetime()
		if absent {
			external = h.unusedExternal()
		}
		r := h.invoke(h.router, wanIP, 2, "AddAnyPortMapping", h.mappingArguments(c, external, c.port, lifetime)...)
		o := r.outcome("AddAnyPortMapping", lifetime)
		reserved, _ := strconv.ParseUint(r.value("NewReservedPort"), 10, 16)
		o.other = uint16(reserved)
		h.finish(c, was, o)
	}
}

// unusedExternal returns an external port that the host has not been given by
// AddAnyPortMapping: a request for that one would replace the mapping.
func (h *soakHost) unusedExternal() uint16 {
	own := h.book.of(func(c claim, _ promise) bool {
		return c.origin == "UPnP" && c.client == h.addr && c.port < firstExternal
	})
	all := h.book.copy()
	for {
		port := h.pick(firstExternal, externalPorts)
		if !slices.ContainsFunc(own, func(c claim) bool { return all[c].other == port }) {
			return port
		}
	}
}

// deleteRange deletes all mappings of a protocol that were made by UPnP.
func (h *soakHost) deleteRange(protocol string) {
	all := h.book.of(func(c claim, _ promise) bool {
		return c.origin == "UPnP" && c.client == h.addr && c.protocol == protocol
	})
	before := make([]promise, len(all))
	for i, c := range all {
		before[i] = h.book.ask(c)
	}
	r := h.invoke(h.router, wanIP, 2, "DeletePortMappingRange",
		"NewStartPort", 1, "NewEndPort", 65535, "NewProtocol", protocol, "NewManage", 0)
	for i, c := range all {
		h.finish(c, before[i], r.outcome("DeletePortMappingRange", 0))
	}
}

// askPinhole opens a pinhole by UPnP, updates or deletes it. Over each of some only one
// remote host may connect.
func (h *soakHost) askPinhole() {
	c := claim{"UPnP", h.addr6, protocols[h.protocol()], h.pick(pinholePorts, 4)}
	was, lifetime := h.book.ask(c), h.lifetime()
	action, arguments := "AddPinhole", []any{"RemoteHost", map[bool]string{true: "2001:db8:33::1"}[c.port%4 == 0], "RemotePort", 0,
		"InternalClient", c.client, "InternalPort", c.port, "Protocol", c.pcpNumber(), "LeaseTime", int(lifetime.Seconds())}
	switch present, _ := was.mustBe(time.Now()); { // the ID of one that has expired may be another's now
	case present && h.isDeletion(was):
		action, arguments, lifetime = "DeletePinhole", []any{"UniqueID", was.id}, 0
	case present && h.rng.IntN(2) == 0:
		action, arguments = "UpdatePinhole", []any{"UniqueID", was.id, "NewLeaseTime", int(lifetime.Seconds())}
	}
	r := h.invoke(h.router6, pinholes, 1, action, arguments...)
	o := r.outcome(action, lifetime)
	o.id = was.id
	if id := r.value("UniqueID"); id != "" {
		o.id = id
	}
	h.finish(c, was, o)
}

// read reads descriptions and states, and one of the host's own mappings.
func (h *soakHost) read() {
	var r httpResponse
	switch h.rng.IntN(6) {
	case 0:
		r = h.send(h.router, "GET /rootDesc.xml", "", "")
	case 1:
		r = h.send(h.router6, "GET /rootDesc2.xml", "", "")
	case 2:
		r = h.invoke(h.router, wanIP, 1, "GetExternalIPAddress")
	case 3:
		r = h.invoke(h.router, wanIP, 2, "GetListOfPortMappings",
			"NewStartPort", 1, "NewEndPort", 65535, "NewProtocol", "TCP", "NewManage", 0, "NewNumberOfPorts", 100)
	case 4:
		r = h.invoke(h.router, wanIP, 1, "GetGenericPortMappingEntry", "NewPortMappingIndex", h.rng.IntN(200))
	case 5:
		r = h.readOwn()
	}
	h.countRead(r.status != 0)
}

// readOwn reads one of the host's mappings, which must exist.
func (h *soakHost) readOwn() (r httpResponse) {
	own := h.book.of(func(c claim, p promise) bool {
		return c.origin == "UPnP" && c.client == h.addr && p.state == isGranted
	})
	if len(own) == 0 {
		return h.invoke(h.router, wanIP, 1, "GetStatusInfo")
	}
	c := own[h.rng.IntN(len(own))]
	p := h.book.copy()[c]
	external := c.port
	if c.port < firstExternal {
		external = p.other
	}
	r = h.invoke(h.router, wanIP, 2, "GetSpecificPortMappingEntry", c.keyArguments(external)...)
	present, _ := p.mustBe(time.Now())
	if r.fault() == "714" && present && h.book.copy()[c] == p {
		h.fail(c, fmt.Sprintf("granted, and not found by GetSpecificPortMappingEntry: %v, %v", c, p))
	}
	return r
}

// search searches for the gateway.
func (h *soakHost) search() {
	c, err := h.listenUDP(h.addr)
	if err != nil {
		return
	}
	defer c.Close()
	targets := []string{"ssdp:all", "upnp:rootdevice", "urn:schemas-upnp-org:device:InternetGatewayDevice:1", "urn:schemas-upnp-org:service:WANIPConnection:2"}
	c.WriteToUDPAddrPort(discovery.Search(targets[h.rng.IntN(len(targets))]), netip.MustParseAddrPort("239.255.255.250:1900"))
	h.countRead(readUntil(c, 2*time.Second, func(b []byte) bool { return strings.HasPrefix(string(b), "HTTP/1.1 200") }))
}

// callbackPort is where hosts receive events.
const callbackPort = 9999

// listenEvents answers events until the run stops.
func (h *soakHost) listenEvents() error {
	var l net.Listener
	err := h.net.Listen(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(h.addr, callbackPort).String())
		return err
	})
	if err != nil {
		return err
	}
	go func() { <-h.stopped; l.Close() }()
	go http.Serve(l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { h.book.count("events") }))
	return nil
}

// subscribe subscribes to events if the host does that, and renews or ends its
// subscription or forgets it.
func (h *soakHost) subscribe() {
	head, verb := "SID: "+h.subscription+"\r\n", "SUBSCRIBE"
	switch n := h.rng.IntN(4); {
	case !h.subscriber:
		return
	case h.subscription == "" || n == 0:
		head = fmt.Sprintf("Callback: <http://%v:%d/>\r\nNT: upnp:event\r\n", h.addr, callbackPort)
	case n == 1:
		verb = "UNSUBSCRIBE"
	}
	if verb == "SUBSCRIBE" {
		head += "Timeout: Second-60\r\n"
	}
	r := h.send(h.router, verb+" /evt/IPConn", head, "")
	h.countRead(r.status != 0)
	h.subscription = r.header.Get("SID")
}

// sendWrongHTTP sends an HTTP request that must be refused, and change nothing.
func (h *soakHost) sendWrongHTTP() {
	c := claim{"UPnP", netip.MustParseAddr("192.168.50.99"), "TCP", 20039}
	switch h.rng.IntN(5) {
	case 0:
		h.send(h.router, "GET /nothing", "", "")
	case 1:
		h.send(h.router, "POST /ctl/IPConn", "", "nonsense")
	case 2:
		h.send(h.router, "SUBSCRIBE /evt/IPConn", "NT: upnp:event\r\nCallback: <http://11.22.33.1:80/>\r\n", "")
	case 3: // for another host
		h.invoke(h.router, wanIP, 1, "AddPortMapping", append(c.keyArguments(c.port), "NewInternalPort", 4990, "NewInternalClient", c.client,
			"NewEnabled", 1, "NewPortMappingDescription", "", "NewLeaseDuration", 600)...)
	case 4: // of another host
		h.invoke(h.router6, pinholes, 1, "AddPinhole", "RemoteHost", "", "RemotePort", 0, "InternalClient", "2001:db8:50::99", "InternalPort", 4990,
			"Protocol", 6, "LeaseTime", 600)
	}
}

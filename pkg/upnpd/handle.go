package upnpd

import (
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/lan"
)

// handle answers a request for a document, an action or a subscription.
func (s *Server) handle(r *request, on lan.Interface) response {
	if !r.hostIsOurs(on) || r.fromWebPage() {
		return response{status: 403}
	}
	r.path = s.published(r.path)
	switch {
	case s.controls[r.path] != nil:
		if !r.isPost() {
			return r.wrongMethod("POST, M-POST")
		}
		return s.control(r)
	case s.events[r.path] != nil:
		return s.handleEvents(r)
	}
	body, ok := s.document(r.path, r.field("user-agent"), r.local)
	switch {
	case !ok && r.knownMethod():
		return response{status: 404}
	case !ok || r.method != "GET" && r.method != "HEAD":
		return r.wrongMethod("GET, HEAD")
	}
	return response{status: 200, fields: xmlType, body: body}
}

// handleEvents answers a request to an event URL. Some clients use it as the
// control URL of the service and post actions there.
func (s *Server) handleEvents(r *request) response {
	switch service := s.events[r.path]; {
	case r.method == "SUBSCRIBE":
		return response{later: func() response { return s.subscribe(r) }}
	case r.method == "UNSUBSCRIBE":
		return response{later: func() response { return s.unsubscribe(r) }}
	case r.isPost():
		r.path = service.ControlPath(s.versionAt(r.path, service))
		return s.control(r)
	}
	return r.wrongMethod("SUBSCRIBE, UNSUBSCRIBE, POST, M-POST")
}

// xmlType is the type of all documents and messages (UDA 1.1, sections 2.11,
// 3.2.2 and 4.3.2).
var xmlType = []byte("Content-Type: text/xml; charset=\"utf-8\"\r\n")

// hostIsOurs reports whether every host that the request names is an address of the
// router on that LAN. A browser always names one, and names a foreign host if it was
// sent here by DNS rebinding.
func (r *request) hostIsOurs(on lan.Interface) bool {
	for _, authority := range []string{r.host, r.field("host")} {
		if authority != "" && !slices.ContainsFunc(on.Prefixes(), func(p netip.Prefix) bool { return p.Addr() == hostAddr(authority) }) {
			return false
		}
	}
	return true
}

// hostAddr returns the address in an authority without port and zone, the zero Addr
// if there is none. An IPv6 address without a port may lack its brackets.
func hostAddr(authority string) netip.Addr {
	a, err := netip.ParseAddr(authority)
	if err != nil {
		ap, _ := netip.ParseAddrPort(withPort(authority))
		a = ap.Addr()
	}
	return a.Unmap().WithZone("")
}

// withPort returns an authority with port 80 if it has none (RFC
// 9110, section 4.2.1).
func withPort(authority string) string {
	host, empty := strings.CutSuffix(authority, ":")
	if empty || strings.HasSuffix(host, "]") || !strings.Contains(host, ":") {
		return host + ":80"
	}
	return authority
}

// fromWebPage reports whether a browser sent the request on behalf of a script or
// form. Control points in Node.js send Sec-Fetch-Mode: cors as well; a browser sends
// further fields.
func (r *request) fromWebPage() bool {
	for name, value := range r.fields {
		node := name == "sec-fetch-mode" && value == "cors"
		if name == "origin" || strings.HasPrefix(name, "sec-fetch-") && !node {
			return true
		}
	}
	return false
}

// knownMethod reports whether any path supports the method.
func (r *request) knownMethod() bool {
	switch r.method {
	case "GET", "HEAD", "POST", "M-POST", "SUBSCRIBE", "UNSUBSCRIBE":
		return true
	}
	return false
}

// wrongMethod returns the response to a method that the path does not support (RFC 9110, sections
// 15.5.6 and 15.6.2).
func (r *request) wrongMethod(allowed string) response {
	if !r.knownMethod() {
		return response{status: 501}
	}
	return response{status: 405, fields: []byte("Allow: " + allowed + "\r\n")}
}

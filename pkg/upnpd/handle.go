package upnpd

import (
	"net/netip"
	"slices"
	"strings"
)

// handle answers one request: a document, an action or a subscription.
func (s *Server) handle(r *request, lan LAN) response {
	if !r.addressed(lan) || r.fromWebPage() {
		return response{status: 403}
	}
	switch {
	case s.controls[r.path] != nil:
		if !r.posts() {
			return r.wrongMethod("POST, M-POST")
		}
		return s.control(r)
	case s.events[r.path] != nil:
		switch r.method {
		case "SUBSCRIBE":
			return s.subscribe(r)
		case "UNSUBSCRIBE":
			return s.unsubscribe(r)
		}
		return r.wrongMethod("SUBSCRIBE, UNSUBSCRIBE")
	}
	body, ok := s.document(r.path, r.field("user-agent"), r.local)
	switch {
	case !ok && r.known():
		return response{status: 404}
	case !ok || r.method != "GET" && r.method != "HEAD":
		return r.wrongMethod("GET, HEAD")
	}
	return response{status: 200, fields: xmlType, body: body}
}

// xmlType is the type of all documents and messages (UDA 1.1, sections 2.11,
// 3.2.2 and 4.3.2).
var xmlType = []byte("CONTENT-TYPE: text/xml; charset=\"utf-8\"\r\n")

// addressed reports whether the request names the router by one of its
// literal addresses on that LAN. A browser that was led here by a name of
// somebody else's would not (DNS rebinding); HTTP/1.0 may name none.
func (r *request) addressed(lan LAN) bool {
	if r.host == "" {
		return r.old
	}
	host, ok := literal(r.host)
	return ok && slices.ContainsFunc(lan.Prefixes(), func(p netip.Prefix) bool { return p.Addr() == host.WithZone("") })
}

// literal returns the address in an authority: with or without port, IPv6 in
// brackets.
func literal(authority string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(authority); err == nil {
		return ap.Addr(), true
	}
	if inside, ok := strings.CutPrefix(authority, "["); ok {
		inside, ok = strings.CutSuffix(inside, "]")
		a, err := netip.ParseAddr(inside)
		return a, ok && err == nil && a.Is6()
	}
	a, err := netip.ParseAddr(authority)
	return a, err == nil && a.Is4()
}

// fromWebPage reports whether a browser sent the request for a page's script
// or form: no control point does. Node.js, in which control points are written,
// says of its fetches that their mode is cors; a browser would say more.
func (r *request) fromWebPage() bool {
	for name, value := range r.fields {
		node := name == "sec-fetch-mode" && value == "cors"
		if name == "origin" || strings.HasPrefix(name, "sec-fetch-") && !node {
			return true
		}
	}
	return false
}

// known reports whether the method is one that is served somewhere.
func (r *request) known() bool {
	switch r.method {
	case "GET", "HEAD", "POST", "M-POST", "SUBSCRIBE", "UNSUBSCRIBE":
		return true
	}
	return false
}

// wrongMethod refuses a method where others are allowed (RFC 9110, sections
// 15.5.6 and 15.6.2).
func (r *request) wrongMethod(allowed string) response {
	if !r.known() {
		return response{status: 501}
	}
	return response{status: 405, fields: []byte("ALLOW: " + allowed + "\r\n")}
}

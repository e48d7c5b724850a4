package upnpd

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"igdd/pkg/upnp"
)

// maxCallback limits the CALLBACK field, in bytes: enough for a URL for each address
// of a host.
const maxCallback = 1 << 10

// callback is a URL to which events are sent.
type callback struct {
	to   netip.AddrPort
	host string // authority as in the request
	path string // with query
}

// subscribe answers SUBSCRIBE: without SID a new subscription, with SID a renewal (UDA 1.1, sections 4.1.1 to 4.1.3).
func (s *Server) subscribe(r *request) response {
	if status := r.checkSID(); status != 0 {
		return response{status: status}
	}
	asked := parseTimeout(r.field("timeout"))
	if sid := r.unquoted("sid"); sid != "" {
		granted, ok := s.subscriptions.renew(sid, s.events[r.path], r.client, asked)
		if !ok {
			return response{status: 412}
		}
		return subscribed(sid, granted)
	}
	callbacks := ownCallbacks(parseCallbacks(r.field("callback")), r.client)
	if !strings.EqualFold(r.unquoted("nt"), "upnp:event") || len(callbacks) == 0 {
		return response{status: 412}
	}
	sub := &subscription{
		service: s.events[r.path], version: s.eventVersion(r),
		callbacks: callbacks, device: r.device, client: r.client, host: r.from, local: r.local,
	}
	granted, ok := s.subscriptions.add(sub, asked)
	if !ok {
		s.opts.Log.Warn("too many event subscriptions", "client", r.client)
		return response{status: 503}
	}
	reply := subscribed(sub.sid, granted)
	reply.after = func(sent bool) {
		if sent {
			s.subscriptions.sendInitial(sub)
		} else {
			s.subscriptions.cancel(sub.sid, sub.service, sub.client)
		}
	}
	return reply
}

// unsubscribe answers UNSUBSCRIBE (UDA 1.1, section 4.1.4).
func (s *Server) unsubscribe(r *request) response {
	status := r.checkSID()
	if status == 0 && !s.subscriptions.cancel(r.unquoted("sid"), s.events[r.path], r.client) {
		status = 412
	}
	return response{status: max(200, status)}
}

// checkSID returns the status of a request that has both a SID and the fields of a
// new subscription, 0 otherwise. Empty fields do not count.
func (r *request) checkSID() int {
	if r.field("sid") != "" && r.field("nt")+r.field("callback") != "" {
		return 400
	}
	return 0
}

// unquoted returns the value of a field without the quotes that some clients add.
func (r *request) unquoted(name string) string { return strings.Trim(r.field(name), " \t\"") }

// subscribed returns the response to a subscriber.
func subscribed(sid string, granted time.Duration) response {
	return response{status: 200, fields: fmt.Appendf(nil, "SID: %s\r\nTIMEOUT: Second-%d\r\n", sid, granted/time.Second)}
}

// eventVersion returns the version whose variables a client gets events of: that of
// the description whose URL it uses, or 1 for clients that support no other.
func (s *Server) eventVersion(r *request) upnp.Version {
	if upnp.NeedsVersion1(r.field("user-agent")) {
		return upnp.V1
	}
	return s.versionAt(r.path, s.events[r.path])
}

// parseTimeout parses a TIMEOUT field; 0 if it is not a number of seconds, as in
// "infinite" (UDA 1.1, section 4.1.1).
func parseTimeout(field string) time.Duration {
	const prefix = "second-"
	if len(field) < len(prefix) || !strings.EqualFold(field[:len(prefix)], prefix) {
		return 0
	}
	digits := field[len(prefix):]
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil { // more than a uint32 holds
		return longestSubscription
	}
	return time.Duration(n) * time.Second
}

// parseCallbacks parses a CALLBACK field: URLs in angle brackets, with blanks, commas,
// semicolons or quotes between and around them. It skips URLs that events cannot be
// sent to, and returns none if the field is malformed.
func parseCallbacks(field string) (list []callback) {
	if len(field) > maxCallback {
		return nil
	}
	const between = " \t,;\""
	field = strings.TrimLeft(strings.Clone(field), between) // the callbacks are kept, the request must not be
	for field != "" {
		inside, opened := strings.CutPrefix(field, "<")
		url, rest, closed := strings.Cut(inside, ">")
		if !opened || !closed {
			return nil
		}
		if c, ok := parseCallback(strings.Trim(url, " \t")); ok {
			list = append(list, c)
		}
		field = strings.TrimLeft(rest, between)
	}
	return list
}

// parseCallback parses one URL: http, a literal address, optionally a port. Its path
// is copied into the first line of a message, so it may have visible characters only.
func parseCallback(url string) (c callback, ok bool) {
	const scheme = "http://"
	if len(url) < len(scheme) || !strings.EqualFold(url[:len(scheme)], scheme) {
		return callback{}, false
	}
	for i := range len(url) {
		if url[i] <= ' ' || url[i] >= 0x7f {
			return callback{}, false
		}
	}
	url, _ = cutBefore(url[len(scheme):], "#")
	c.host, c.path = cutBefore(url, "/?")
	c.path = "/" + strings.TrimPrefix(c.path, "/")
	to, err := netip.ParseAddrPort(withPort(c.host))
	if err != nil || to.Addr().Zone() != "" || to.Port() == 0 {
		return callback{}, false
	}
	c.to = to
	return c, true
}

// ownCallbacks returns the callbacks to the subscriber's own address: others would let
// a client make the router send requests to any host (CVE-2020-12695).
func ownCallbacks(list []callback, client netip.Addr) (own []callback) {
	for _, c := range list {
		if c.to.Addr() == client {
			own = append(own, c)
		}
	}
	return own
}

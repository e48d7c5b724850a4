package ssdp

import (
	"net/netip"
	"strconv"
	"time"
)

// Sender is the common part of all messages from one address.
type Sender struct {
	Server string         // OS/version UPnP/1.1 product/version
	HTTP   netip.AddrPort // where the descriptions are served on that link
	BootID uint32         // below 2^31; greater after every start
	MaxAge time.Duration  // how long a notice is valid, at least MinAge
}

// AppendReply appends the response to a search (section 1.3.3). The zero time omits the
// date, for routers whose clock was never set.
func (s *Sender) AppendReply(b []byte, f *Description, i Item, date time.Time) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\n"...)
	b = s.appendMaxAge(b)
	if !date.IsZero() {
		b = append(b, "DATE: "...)
		b = date.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
		b = append(b, "\r\n"...)
	}
	b = append(b, "EXT:\r\n"...)
	b = s.appendLocation(b, f)
	b = appendField(b, "SERVER", s.Server)
	b = appendField(b, "ST", i.Type)
	return s.appendEnd(b, f, i)
}

// AppendAlive appends the notice that an item is available (section 1.2.2).
func (s *Sender) AppendAlive(b []byte, g Group, f *Description, i Item) []byte {
	b = appendNotice(b, g)
	b = s.appendMaxAge(b)
	b = s.appendLocation(b, f)
	b = appendField(b, "SERVER", s.Server)
	b = appendField(b, "NT", i.Type)
	b = appendField(b, "NTS", "ssdp:alive")
	return s.appendEnd(b, f, i)
}

// AppendByebye appends the notice that an item is no longer available (section 1.2.3).
func (s *Sender) AppendByebye(b []byte, g Group, f *Description, i Item) []byte {
	b = appendNotice(b, g)
	b = appendField(b, "NT", i.Type)
	b = appendField(b, "NTS", "ssdp:byebye")
	return s.appendEnd(b, f, i)
}

// AppendUpdate appends the notice that the device will use the BootID next and be announced
// again (section 1.2.4).
func (s *Sender) AppendUpdate(b []byte, g Group, f *Description, i Item, next uint32) []byte {
	b = appendNotice(b, g)
	b = s.appendLocation(b, f)
	b = appendField(b, "NT", i.Type)
	b = appendField(b, "NTS", "ssdp:update")
	b = appendNumber(b, "NEXTBOOTID.UPNP.ORG", next)
	return s.appendEnd(b, f, i)
}

func appendNotice(b []byte, g Group) []byte {
	b = append(b, "NOTIFY * HTTP/1.1\r\n"...)
	return appendField(b, "HOST", g.host())
}

func (s *Sender) appendMaxAge(b []byte) []byte {
	b = append(b, "CACHE-CONTROL: max-age="...)
	b = strconv.AppendInt(b, int64(max(s.MaxAge, MinAge)/time.Second), 10)
	return append(b, "\r\n"...)
}

// appendLocation appends the URL of the description, without a zone.
func (s *Sender) appendLocation(b []byte, f *Description) []byte {
	b = append(b, "LOCATION: http://"...)
	b = netip.AddrPortFrom(s.HTTP.Addr().WithZone(""), s.HTTP.Port()).AppendTo(b)
	b = append(b, f.Path...)
	return append(b, "\r\n"...)
}

// appendEnd appends the fields of all messages. On IPv6, clients of UDA 1.0 use 01-NLS
// instead of BOOTID (annex A of UDA 1.0).
func (s *Sender) appendEnd(b []byte, f *Description, i Item) []byte {
	b = append(b, "USN: "...)
	b = i.appendUSN(b)
	b = append(b, "\r\n"...)
	if s.HTTP.Addr().Is6() {
		b = appendField(b, "OPT", `"http://schemas.upnp.org/upnp/1/0/"; ns=01`)
		b = appendNumber(b, "01-NLS", s.BootID)
	}
	b = appendNumber(b, "BOOTID.UPNP.ORG", s.BootID)
	b = appendNumber(b, "CONFIGID.UPNP.ORG", f.ConfigID)
	return append(b, "\r\n"...)
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

func appendNumber(b []byte, name string, value uint32) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = strconv.AppendUint(b, uint64(value), 10)
	return append(b, "\r\n"...)
}

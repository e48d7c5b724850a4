package upnp

import (
	"bytes"
	"iter"
	"strconv"
)

// PortMapping is an entry of WANIPConnection's mapping table.
type PortMapping struct {
	RemoteHost    string // "": any
	ExternalPort  uint16
	Protocol      string
	InternalPort  uint16
	Client        string
	Enabled       bool
	Description   string
	LeaseDuration uint32 // seconds left, 0: for ever
}

// Key returns the entry's first results of GetGenericPortMappingEntry: what
// selects it.
func (m PortMapping) Key() []string {
	return []string{m.RemoteHost, strconv.Itoa(int(m.ExternalPort)), m.Protocol}
}

// Value returns the results of GetSpecificPortMappingEntry, which end those of
// GetGenericPortMappingEntry.
func (m PortMapping) Value() []string {
	return []string{
		strconv.Itoa(int(m.InternalPort)), m.Client, FormatBoolean(m.Enabled), m.Description,
		strconv.FormatUint(uint64(m.LeaseDuration), 10),
	}
}

// FormatBoolean formats a boolean (UDA 1.1, section 2.5).
func FormatBoolean(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// listed are the names of an entry's parts in a listing; the last two are not
// those of the arguments.
var listed = [...]string{
	"NewRemoteHost", "NewExternalPort", "NewProtocol", "NewInternalPort",
	"NewInternalClient", "NewEnabled", "NewDescription", "NewLeaseTime",
}

// The beginning and the end of NewPortListing, a document of its own
// (WANIPConnection:2, section 2.3.25).
const (
	listingStart = `<p:PortMappingList xmlns:p="urn:schemas-upnp-org:gw:WANIPConnection">`
	listingEnd   = "</p:PortMappingList>"
)

// pieceLen is the length of a piece of a listing's reply, in octets.
const pieceLen = 4 << 10

// Listing returns the response to GetListOfPortMappings in pieces. A piece is valid
// until the next is asked for.
func (c *Call) Listing(entries iter.Seq[PortMapping]) iter.Seq[[]byte] {
	reply := c.AppendReply(nil, listingStart+listingEnd)
	split := bytes.Index(reply, []byte(listingEnd))
	return func(yield func([]byte) bool) {
		piece := append(make([]byte, 0, 2*pieceLen), reply[:split]...)
		for e := range entries {
			if piece = e.append(piece); len(piece) < pieceLen {
				continue
			}
			if !yield(piece) {
				return
			}
			piece = piece[:0]
		}
		yield(append(piece, reply[split:]...))
	}
}

// append appends the entry of a listing.
func (m PortMapping) append(b []byte) []byte {
	b = appendStart(b, "p:PortMappingEntry")
	for i, text := range append(m.Key(), m.Value()...) {
		b = appendElement(b, "p:"+listed[i], text)
	}
	return appendEnd(b, "p:PortMappingEntry")
}

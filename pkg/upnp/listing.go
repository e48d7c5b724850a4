package upnp

import "strconv"

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

// Listing encodes the NewPortListing of GetListOfPortMappings (WANIPConnection:2,
// section 2.3.25), a document of its own. The zero value has no entries.
type Listing struct{ entries []byte }

// Add appends an entry.
func (l *Listing) Add(m PortMapping) {
	b := appendStart(l.entries, "p:PortMappingEntry")
	for i, text := range append(m.Key(), m.Value()...) {
		b = appendElement(b, "p:"+listed[i], text)
	}
	l.entries = appendEnd(b, "p:PortMappingEntry")
}

// Len returns the length of all entries in bytes.
func (l *Listing) Len() int { return len(l.entries) }

// String returns the document.
func (l *Listing) String() string {
	return `<p:PortMappingList xmlns:p="urn:schemas-upnp-org:gw:WANIPConnection">` +
		string(l.entries) + "</p:PortMappingList>"
}

package ssdp

import "strings"

// Device is a device of a description, with the part that discovery uses.
type Device struct {
	UUID     string   // as in the description, without "uuid:"
	Type     string   // urn:schemas-upnp-org:device:WANDevice:2
	Services []string // urn:schemas-upnp-org:service:WANIPConnection:2 …, each type once
}

// Description is one description of the gateway. A gateway may have two: one for
// clients that know version 1 only, and one for those that search for version 2.
type Description struct {
	Path     string   // of the description document on the HTTP server
	ConfigID uint32   // of the description's content, below 2^24
	Devices  []Device // the root first
}

// Item is a device or service that is announced and found.
type Item struct {
	Type string // the NT of notices and the ST of responses
	UUID string // of the device that it is, or belongs to
}

// appendUSN appends the item's unique service name (section 1.2.2, table 1-1).
func (i Item) appendUSN(b []byte) []byte {
	b = append(b, uuidPrefix...)
	b = append(b, i.UUID...)
	if strings.HasPrefix(i.Type, uuidPrefix) {
		return b
	}
	b = append(b, "::"...)
	return append(b, i.Type...)
}

// Items returns the items to announce for a description: three for the root, two for
// each other device, and one for each service (section 1.2.2).
func (f *Description) Items() []Item {
	var list []Item
	for n, d := range f.Devices {
		if n == 0 {
			list = append(list, Item{rootDevice, d.UUID})
		}
		list = append(list, Item{uuidPrefix + d.UUID, d.UUID}, Item{d.Type, d.UUID})
		for _, s := range d.Services {
			list = append(list, Item{s, d.UUID})
		}
	}
	return list
}

// Match returns the items of the response to a search, and the first description that
// has the target; the description for older clients must come first. Without items
// there is no response.
func Match(descriptions []*Description, t Target) (*Description, []Item) {
	for _, f := range descriptions {
		if items := f.match(t); len(items) > 0 {
			return f, items
		}
	}
	return nil, nil
}

// match returns the items of a description for a target. The response to a type has
// the requested version, and to a UUID the requested spelling: clients compare it with
// their search (section 1.3.3).
func (f *Description) match(t Target) []Item {
	items := f.Items()
	if t.Kind == All {
		return items
	}
	var list []Item
	for _, i := range items {
		if own, ok := ParseTarget(i.Type); ok && own.answers(t) {
			list = append(list, Item{t.String(), i.UUID})
		}
	}
	return list
}

// answers reports whether a search for asked finds t: a version is also found by
// searches for a lower one.
func (t Target) answers(asked Target) bool {
	return t.Kind == asked.Kind && t.Version >= asked.Version &&
		(t.Name == asked.Name || t.Kind == UUID && strings.EqualFold(t.Name, asked.Name))
}

package upnp

import "slices"

// Reference is a service of a description.
type Reference struct {
	Type       string // urn:schemas-upnp-org:service:WANIPConnection:1
	ControlURL string // as written: mostly relative to URLBase, or to the description's URL
}

// Connections returns the services of a gateway's description that map ports,
// WANIPConnection of any version and WANPPPConnection:1, in their order, and its
// URLBase, "" if it has none (UDA 1.0, section 2.1).
func Connections(description []byte) (services []Reference, base string, err error) {
	root, err := parseDocument(description, maxDescribed)
	if err != nil {
		return nil, "", err
	}
	return root.connections(nil), root.textOf("URLBase"), nil
}

// connections appends the references within an element.
func (e *element) connections(list []Reference) []Reference {
	r := Reference{e.textOf("serviceType"), e.textOf("controlURL")}
	if e.local == "service" && r.ControlURL != "" && isConnection(r.Type) {
		list = append(list, r)
	}
	for _, c := range e.children {
		list = c.connections(list)
	}
	return list
}

// textOf returns the text of the one child of that name, "" if it is missing or not the
// only one.
func (e *element) textOf(local string) string {
	if found := e.named(local); len(found) == 1 {
		return trimmed(found[0].text)
	}
	return ""
}

// isConnection reports whether a service type is one that maps ports.
func isConnection(serviceType string) bool {
	return serviceType == wanIPConnection.Type(V1) || serviceType == wanIPConnection.Type(V2) ||
		slices.Contains(wanIPConnection.aliases, serviceType)
}

// HasAnyPort reports whether a service type is one with AddAnyPortMapping.
func HasAnyPort(serviceType string) bool { return serviceType == wanIPConnection.Type(V2) }

package upnp

// Property is a state variable with its value.
type Property struct{ Name, Value string }

// AppendEvent appends an event message (UDA 1.1, section 4.3.2).
func AppendEvent(b []byte, properties []Property) []byte {
	b = append(b, `<?xml version="1.0"?>`+"\n"+`<e:propertyset xmlns:e="urn:schemas-upnp-org:event-1-0">`...)
	for _, p := range properties {
		b = appendStart(b, "e:property")
		b = appendElement(b, p.Name, p.Value)
		b = appendEnd(b, "e:property")
	}
	return append(b, "</e:propertyset>\n"...)
}

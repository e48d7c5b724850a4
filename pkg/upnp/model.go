// Package upnp encodes and decodes the description of an Internet Gateway Device and its
// control messages, and encodes its events: UPnP Device Architecture 1.1, chapters 2 to
// 4, with the services of InternetGatewayDevice versions 1 and 2.
package upnp

import "slices"

// Version is a version of a device or service type.
type Version uint8

// The versions of the InternetGatewayDevice.
const (
	V1 Version = 1
	V2 Version = 2
)

// has reports whether version v has something that only one version has, or with 0
// every version.
func (v Version) has(only Version) bool { return only == 0 || only == v }

// Service has all that descriptions, control and events need of a service. Values are
// shared and must not be changed.
type Service struct {
	Name      string  // WANIPConnection
	ID        string  // WANIPConn1, unique in the gateway
	Version   Version // the highest
	Actions   []Action
	Variables []*Variable

	scpd           string   // path of the SCPD
	control, event string   // paths of the control and the event URL
	aliases        []string // other types that clients use on the control URL

	// Each description has a URL of its own where the answers or the events differ
	// between the descriptions.
	controlDiffers, eventDiffers bool
}

// Action is a procedure of a service.
type Action struct {
	Name    string
	In, Out []Argument // in the order of the wire
	Only    Version    // the service version that alone has it, 0: all
}

// Argument is a parameter or a result; its type is that of a state variable.
type Argument struct {
	Name     string
	Variable *Variable
}

// Variable is a state variable.
type Variable struct {
	Name     string
	Type     Type
	Evented  bool
	Default  string   // "": none
	Allowed  []string // nil: any
	Min, Max uint32   // allowed range, published; Max 0: that of the type
	Only     Version  // the service version that alone has it, 0: all

	// Many clients omit an argument of this variable or leave it empty; omitted is
	// its value then. Descriptions do not mention it.
	optional bool
	omitted  string
	wildcard []string // texts with the same meaning as the empty one
	beyond   Fault    // the fault for a number out of the type's range; 0: ValueOutOfRange
	// words are names that clients use for numbers, in any case.
	words map[string]uint32
}

// Type is a data type of UPnP (UDA 1.1, section 2.5).
type Type string

// The types that the gateway's services use.
const (
	String  Type = "string"
	Boolean Type = "boolean"
	UI2     Type = "ui2"
	UI4     Type = "ui4"
)

// At returns the version of the service in the description of version v.
func (s *Service) At(v Version) Version { return min(s.Version, v) }

// Type returns the service type in the description of version v.
func (s *Service) Type(v Version) string {
	return "urn:schemas-upnp-org:service:" + s.Name + ":" + string('0'+rune(s.At(v)))
}

// SCPDPath returns the path of the service description in version v.
func (s *Service) SCPDPath(v Version) string { return versionedPath(s.scpd, s.At(v)) }

// ControlPath returns the path of the control URL in version v.
func (s *Service) ControlPath(v Version) string { return ownPath(s.control, s.controlDiffers, v) }

// EventPath returns the path of the event URL in version v.
func (s *Service) EventPath(v Version) string { return ownPath(s.event, s.eventDiffers, v) }

// ownPath returns the path of a URL in a version. That of version 1 is the one
// that clients of older gateways have kept.
func ownPath(path string, differs bool, v Version) string {
	if !differs || v == V1 {
		return path
	}
	return path + string('0'+rune(v))
}

// Evented returns the names of the variables that events carry.
func (s *Service) Evented(v Version) []string {
	var names []string
	for _, variable := range s.Variables {
		if variable.Evented && s.At(v).has(variable.Only) {
			names = append(names, variable.Name)
		}
	}
	return names
}

// Has reports whether version v of the service has a state variable.
func (s *Service) Has(name string, v Version) bool {
	return slices.ContainsFunc(s.Variables, func(o *Variable) bool { return o.Name == name && v.has(o.Only) })
}

// HasAction reports whether version v of the service has an action.
func (s *Service) HasAction(name string, v Version) bool { return s.action(name, v) != nil }

// action returns an action of a version of the service, nil if it has none of
// that name.
func (s *Service) action(name string, v Version) *Action {
	for i := range s.Actions {
		if a := &s.Actions[i]; a.Name == name && v.has(a.Only) {
			return a
		}
	}
	if name == query.Name {
		return query
	}
	return nil
}

// versionedPath returns the path of a document in a version. That of version 1 is
// the one that clients of older gateways have kept.
func versionedPath(path string, v Version) string {
	if v == V1 {
		return path + ".xml"
	}
	return path + string('0'+rune(v)) + ".xml"
}

package upnp

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
)

// errNoReply is a message that is not the reply to the call.
var errNoReply = errors.New("upnp: not the reply to the call")

// SOAPAction returns the field SOAPACTION of a call (UDA 1.1, section 3.2.1).
func SOAPAction(serviceType, action string) string { return `"` + serviceType + "#" + action + `"` }

// AppendCall appends the call of an action of WANIPConnection or WANPPPConnection, with
// its arguments in the order of the service's table (UDA 1.1, section 3.2.1).
func AppendCall(b []byte, serviceType, action string, arguments ...string) []byte {
	b = append(b, envelopeStart+"<u:"+action+` xmlns:u="`+serviceType+`">`...)
	a := wanIPConnection.action(action, V2)
	for i, argument := range arguments {
		b = appendElement(b, a.In[i].Name, argument)
	}
	return append(b, "</u:"+action+">"+envelopeEnd...)
}

// ParseReply parses the reply to the call of an action of WANIPConnection or
// WANPPPConnection: its results, in the order of the service's table; a missing one is
// "". The error is a *RemoteFault if the gateway sent one.
func ParseReply(body []byte, action string) ([]string, error) {
	envelope, err := parseXML(body)
	if err != nil {
		return nil, err
	}
	reply, err := unwrap(envelope)
	switch {
	case err != nil:
		return nil, errNoReply
	case strings.EqualFold(reply.local, "Fault"):
		return nil, reply.fault()
	case !strings.EqualFold(reply.local, action+"Response"):
		return nil, errNoReply
	}
	return reply.results(wanIPConnection.action(action, V2))
}

// results returns the results of an action. Parsers could differ about which of two is
// meant.
func (e *element) results(a *Action) ([]string, error) {
	results := make([]string, len(a.Out))
	for i, argument := range a.Out {
		found := e.named(argument.Name)
		if len(found) > 1 {
			return nil, errNoReply
		}
		results[i] = e.textOf(argument.Name)
	}
	return results, nil
}

// RemoteFault is the fault with which another gateway answers a call. It is the Fault of
// the same code to errors.Is.
type RemoteFault struct {
	Code int    // errorCode, 0 if there is none
	Text string // errorDescription or faultstring in one line; may be ""
}

// fault returns what a Fault element says.
func (e *element) fault() *RemoteFault {
	f := &RemoteFault{Text: e.textOf("faultstring")}
	for _, detail := range e.named("detail") {
		for _, fault := range detail.named("UPnPError") {
			f.Code, _ = strconv.Atoi(fault.textOf("errorCode"))
			f.Text = fault.textOf("errorDescription")
		}
	}
	f.Text = label(f.Text, maxName)
	return f
}

// Error returns code and text.
func (f *RemoteFault) Error() string {
	if f.Code == 0 {
		return cmp.Or(f.Text, "a fault without a reason")
	}
	return strings.TrimSpace(strconv.Itoa(f.Code) + " " + f.Text)
}

// Is reports whether target is the Fault with that code.
func (f *RemoteFault) Is(target error) bool {
	known, ok := target.(Fault)
	return ok && known.Code() == f.Code
}

// ParseMapping returns the entry with the results of GetSpecificPortMappingEntry, as
// Value orders them. ok is false if a number is none, or a port is 0. What Key returns is
// not among them.
func ParseMapping(results []string) (m PortMapping, ok bool) {
	port, portErr := strconv.ParseUint(results[0], 10, 16)
	lease, leaseErr := strconv.ParseUint(cmp.Or(results[4], "0"), 10, 32)
	enabled, enabledErr := parseBoolean(cmp.Or(results[2], "1"))
	return PortMapping{
		InternalPort: uint16(port), Client: results[1], Enabled: enabled.number != 0,
		Description: results[3], LeaseDuration: uint32(lease),
	}, errors.Join(portErr, leaseErr, enabledErr) == nil && port != 0
}

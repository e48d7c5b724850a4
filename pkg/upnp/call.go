package upnp

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

const (
	soapNamespace    = "http://schemas.xmlsoap.org/soap/envelope/"
	controlNamespace = "urn:schemas-upnp-org:control-1-0"
)

// Call is an action that a control point wants carried out.
type Call struct {
	*Action
	Version Version // of the service type that was asked: its rules hold
	asked   string  // the service type in the client's words
	values  []value // by Action.In
}

// value is an argument: its text, and what it says if its type is a number or
// boolean.
type value struct {
	text   string
	number uint32
}

// What is wrong with a request that gets no Fault for an answer.
var (
	// ErrNoAction is a SOAPACTION field that is missing or names no action. Only
	// a web page that runs in a client's browser forgets it: nothing may happen.
	ErrNoAction = errors.New("upnp: SOAPACTION names no action")
	// ErrMustUnderstand is a SOAP header entry that must not be passed over.
	ErrMustUnderstand = errors.New("upnp: SOAP header entry that must be understood")
)

// query is UDA 1.0's way to read a variable (section 3.3), which Windows XP
// uses: an action that every service has.
var query = &Action{
	Name: "QueryStateVariable",
	In:   []Argument{{"varName", &Variable{Type: String}}},
	Out:  []Argument{{"return", &Variable{Type: String}}},
}

// ParseCall reads a request to the service's control URL, on a gateway that
// shows faces up to version highest: the field SOAPACTION and the body. The
// error is a Fault, ErrNoAction or ErrMustUnderstand.
func (s *Service) ParseCall(soapAction string, body []byte, highest Version) (*Call, error) {
	serviceType, name, ok := cutAction(soapAction)
	if !ok {
		return nil, ErrNoAction
	}
	envelope, err := parseXML(body)
	if err != nil {
		return nil, InvalidArgs
	}
	asked, err := unwrap(envelope)
	if err != nil {
		return nil, err
	}
	if asked.local != name || asked.space != serviceType {
		return nil, InvalidAction
	}
	c := &Call{asked: serviceType}
	if c.Action, c.Version = s.find(serviceType, name, highest); c.Action == nil {
		return nil, InvalidAction
	}
	return c, c.readArguments(asked)
}

// cutAction splits a SOAPACTION field into service type and name of the
// action. Old clients forget the quotes, or use other ones.
func cutAction(field string) (serviceType, name string, ok bool) {
	for _, quote := range []string{`"`, "'"} {
		if inside, opened := strings.CutPrefix(field, quote); opened {
			field = strings.TrimSuffix(inside, quote)
		}
	}
	serviceType, name, ok = strings.Cut(field, "#")
	return serviceType, name, ok && name != ""
}

// unwrap returns what the body of an envelope holds.
func unwrap(envelope *element) (*element, error) {
	if envelope.space != soapNamespace || envelope.local != "Envelope" {
		return nil, InvalidArgs
	}
	if header := envelope.child(soapNamespace, "Header"); header != nil {
		for _, entry := range header.children {
			for _, a := range entry.attributes {
				if a == (attribute{soapNamespace, "mustUnderstand", "1"}) {
					return nil, ErrMustUnderstand
				}
			}
		}
	}
	body := envelope.child(soapNamespace, "Body")
	if body == nil || len(body.children) == 0 {
		return nil, InvalidArgs
	}
	return body.children[0], nil
}

// find returns the action that a service type is asked for, and the version
// whose rules hold. What version 2 alone has can be asked for by the type of
// version 1 as well, since clients that found that one call it all the same; it
// follows the rules of version 2.
func (s *Service) find(serviceType, name string, highest Version) (*Action, Version) {
	if serviceType == controlNamespace && name == query.Name {
		return query, s.At(highest)
	}
	v, a := s.version(serviceType, highest), s.action(name, s.At(highest))
	if v == 0 || a == nil {
		return nil, 0
	}
	return a, max(v, a.Only)
}

// version returns the version that a service type names, 0 if it is none of
// the service's up to highest.
func (s *Service) version(serviceType string, highest Version) Version {
	for v := s.At(highest); v >= V1; v-- {
		if serviceType == s.Type(v) {
			return v
		}
	}
	if slices.Contains(s.aliases, serviceType) {
		return V1
	}
	return 0
}

// readArguments reads the arguments, in any order. Others are passed over.
func (c *Call) readArguments(asked *element) error {
	c.values = make([]value, len(c.In))
	for i, argument := range c.In {
		var err error
		if c.values[i], err = argument.read(asked); err != nil {
			return err
		}
	}
	return nil
}

// read returns the value of an argument. One that stands there several times
// counts once if the values are equal.
func (a Argument) read(asked *element) (v value, err error) {
	found := false
	for _, e := range asked.children {
		if e.local != a.Name {
			continue
		}
		again, fault := a.parse(e)
		if found && (fault != err || !a.Variable.equal(again, v)) {
			return value{}, InvalidArgs
		}
		v, err, found = again, fault, true
	}
	switch {
	case found:
		return v, err
	case a.Variable.optional:
		return a.Variable.parse(a.Variable.omitted)
	}
	return value{}, InvalidArgs
}

// parse reads the value of an argument's element.
func (a Argument) parse(e *element) (value, error) {
	switch {
	case len(e.children) > 0:
		return value{}, InvalidArgs
	case a.Variable.optional && trimmed(e.text) == "":
		return a.Variable.parse(a.Variable.omitted)
	}
	return a.Variable.parse(e.text)
}

// equal reports whether two values of the variable's type say the same.
func (v *Variable) equal(a, b value) bool {
	return a.number == b.number && (v.Type != String || a.text == b.text)
}

// trimmed returns a value without the blanks and line breaks around it, which
// indenting writers of XML put there.
func trimmed(text string) string { return strings.Trim(text, blanks) }

// parse reads a value of the variable's type.
func (v *Variable) parse(text string) (value, error) {
	text = trimmed(text)
	switch v.Type {
	case Boolean:
		return parseBoolean(text)
	case UI2:
		return parseNumber(text, 16)
	case UI4:
		return parseNumber(text, 32)
	}
	switch {
	case slices.Contains(v.wildcard, text):
		return value{}, nil
	case v.Allowed == nil:
		return value{text: text}, nil
	}
	for _, allowed := range v.Allowed {
		if strings.EqualFold(text, allowed) {
			return value{text: allowed}, nil
		}
	}
	return value{}, ValueOutOfRange
}

func parseBoolean(text string) (value, error) {
	switch strings.ToLower(text) {
	case "0", "false", "no":
		return value{text, 0}, nil
	case "1", "true", "yes":
		return value{text, 1}, nil
	}
	return value{}, InvalidArgs
}

// parseNumber reads digits into so many bits.
func parseNumber(text string, bits int) (value, error) {
	digits, negative := strings.CutPrefix(text, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return value{}, InvalidArgs
	}
	n, err := strconv.ParseUint(digits, 10, bits)
	if err != nil || negative {
		return value{}, ValueOutOfRange
	}
	return value{text, uint32(n)}, nil
}

// value returns the argument of that name, which the action must have.
func (c *Call) value(name string) value {
	for i, argument := range c.In {
		if argument.Name == name {
			return c.values[i]
		}
	}
	return value{}
}

// Text returns the text of an argument.
func (c *Call) Text(name string) string { return c.value(name).text }

// Number returns the value of an argument whose type is a number.
func (c *Call) Number(name string) uint32 { return c.value(name).number }

// Port returns the value of an argument that is a port.
func (c *Call) Port(name string) uint16 { return uint16(c.value(name).number) }

// Flag returns the value of an argument whose type is boolean.
func (c *Call) Flag(name string) bool { return c.value(name).number != 0 }

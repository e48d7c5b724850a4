package upnp

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

const (
	soapNamespace    = "http://schemas.xmlsoap.org/soap/envelope/"
	soap12Namespace  = "http://www.w3.org/2003/05/soap-envelope"
	controlNamespace = "urn:schemas-upnp-org:control-1-0"
)

// Call is a control point's call of an action.
type Call struct {
	*Action
	Version Version // of the requested service type, whose rules apply
	asked   string  // the service type
	values  []value // by Action.In
}

// value is an argument: its text, and its value if the type is a number or boolean.
type value struct {
	text   string
	number uint32
}

// Errors of requests whose response is not a Fault.
var (
	// ErrNoAction is a SOAPACTION field that is missing or names no action. Only a
	// script in a client's browser omits it: nothing may be done.
	ErrNoAction = errors.New("upnp: SOAPACTION names no action")
	// ErrMustUnderstand is a SOAP header entry that must not be ignored.
	ErrMustUnderstand = errors.New("upnp: SOAP header entry that must be understood")
)

// query is UDA 1.0's way to read a variable (section 3.3), which Windows XP
// uses: an action of every service, with a service type of its own. Some clients use
// the type of the service.
var query = &Action{
	Name: "QueryStateVariable",
	In:   []Argument{{"varName", &Variable{Type: String}}},
	Out:  []Argument{{"return", &Variable{Type: String}}},
}

// ParseCall parses a request to the service's control URL, on a gateway that offers
// versions up to highest: the field SOAPACTION and the body. The
// error is a Fault, ErrNoAction or ErrMustUnderstand.
func (s *Service) ParseCall(soapAction string, body []byte, highest Version) (*Call, error) {
	field, name, ok := cutAction(soapAction)
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
	if !strings.EqualFold(cmp.Or(asked.local, name), name) {
		return nil, InvalidAction
	}
	c, ok := s.find(field, asked.space, name, highest)
	if !ok {
		return nil, InvalidAction
	}
	return c, c.readArguments(envelope, asked)
}

// strays reports whether a part of the envelope has an argument anywhere but in the
// action: parsers that ignore the structure would accept it.
func (c *Call) strays(part, asked *element) bool {
	return slices.ContainsFunc(part.children, func(e *element) bool {
		return part != asked && slices.ContainsFunc(c.In, e.is) || c.strays(e, asked)
	})
}

// is reports whether an element is an argument; names are case-insensitive.
func (e *element) is(a Argument) bool { return strings.EqualFold(e.local, a.Name) }

// cutAction splits a SOAPACTION field into service type and name of the
// action. Clients omit the quotes, use other ones, or put them around the
// type only.
func cutAction(field string) (serviceType, name string, ok bool) {
	serviceType, name, ok = strings.Cut(field, "#")
	const around = `"'` + blanks
	name = strings.Trim(name, around)
	return strings.Trim(serviceType, around), name, ok && name != ""
}

// unwrap returns the content of an envelope's body: one element, since parsers could
// differ about which of several is the action. Clients omit an element without
// arguments: the result has no name then. The namespace of the envelope is ignored:
// clients use those of other SOAP versions, or none.
func unwrap(envelope *element) (*element, error) {
	if !strings.EqualFold(envelope.local, "Envelope") {
		return nil, InvalidArgs
	}
	for _, header := range envelope.named("Header") {
		if slices.ContainsFunc(header.children, mustUnderstand) {
			return nil, ErrMustUnderstand
		}
	}
	body := envelope.named("Body")
	switch {
	case len(body) != 1 || len(body[0].children) > 1:
		return nil, InvalidArgs
	case len(body[0].children) == 0:
		return new(element), nil
	}
	asked := body[0].children[0]
	if asked.space == soapNamespace || asked.space == soap12Namespace { // the default of the envelope, not the action's own
		asked.space = ""
	}
	return asked, nil
}

// mustUnderstand reports whether a SOAP header entry must not be ignored.
func mustUnderstand(entry *element) bool {
	return slices.ContainsFunc(entry.attributes, func(a attribute) bool {
		return a.local == "mustUnderstand" && (trimmed(a.value) == "1" || trimmed(a.value) == "true")
	})
}

// find returns a call of the requested action, without arguments, by the service types
// in the field and the body. These may be different types of the service, and one may
// be missing; that of the body takes precedence. Actions of version 2 only can be
// called with the type of version 1 as well, since clients that found version 1 do so;
// they follow the rules of version 2.
func (s *Service) find(field, body, name string, highest Version) (*Call, bool) {
	field, body = cmp.Or(field, body), cmp.Or(body, field)
	a := s.action(name, s.At(highest))
	version := func(text string) (string, Version) {
		if a == query && text == controlNamespace {
			return text, s.At(highest)
		}
		return s.version(text, highest)
	}
	_, known := version(field)
	asked, v := version(body)
	if known == 0 || v == 0 || a == nil {
		return nil, false
	}
	return &Call{Action: a, Version: max(v, a.Only), asked: asked}, true
}

// version returns the service type in a text and its version, 0 if it is not one of
// the service up to highest.
func (s *Service) version(text string, highest Version) (serviceType string, v Version) {
	for v = V1; v <= s.At(highest); v++ {
		if serviceType = s.Type(v); isType(text, serviceType) {
			return serviceType, v
		}
	}
	for _, serviceType = range s.aliases {
		if isType(text, serviceType) {
			return serviceType, V1
		}
	}
	return "", 0
}

// isType reports whether a text is a service type, in any case. Version 1 may be
// omitted.
func isType(text, serviceType string) bool {
	text = trimmed(text)
	bare, first := strings.CutSuffix(serviceType, ":1")
	return strings.EqualFold(text, serviceType) || first && strings.EqualFold(strings.TrimSuffix(text, ":"), bare)
}

// readArguments reads the arguments, in any order, and ignores others.
func (c *Call) readArguments(envelope, asked *element) error {
	if c.strays(envelope, asked) {
		return InvalidArgs
	}
	c.values = make([]value, len(c.In))
	for i, argument := range c.In {
		var err error
		if c.values[i], err = argument.read(asked); err != nil {
			return err
		}
	}
	return nil
}

// read returns the value of an argument. A repeated argument counts once if the values
// are equal.
func (a Argument) read(asked *element) (v value, err error) {
	found := false
	for _, e := range asked.children {
		if !e.is(a) {
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

// parse parses the value of an argument's element.
func (a Argument) parse(e *element) (value, error) {
	switch {
	case len(e.children) > 0:
		return value{}, InvalidArgs
	case a.Variable.optional && trimmed(e.text) == "":
		return a.Variable.parse(a.Variable.omitted)
	}
	return a.Variable.parse(e.text)
}

// equal reports whether two values of the variable's type are the same.
func (v *Variable) equal(a, b value) bool {
	return a.number == b.number && (v.Type != String || a.text == b.text)
}

// trimmed returns a value without the blanks and line breaks around it, which indented
// XML has.
func trimmed(text string) string { return strings.Trim(text, blanks) }

// parse parses a value of the variable's type.
func (v *Variable) parse(text string) (value, error) {
	text = trimmed(text)
	if n, ok := v.words[strings.ToUpper(text)]; ok {
		return value{text, n}, nil
	}
	switch v.Type {
	case Boolean:
		return parseBoolean(text)
	case UI2:
		return v.parseNumber(text, 16)
	case UI4:
		return v.parseNumber(text, 32)
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

// parseNumber parses a decimal number with so many bits.
func (v *Variable) parseNumber(text string, bits int) (value, error) {
	digits, negative := strings.CutPrefix(text, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return value{}, InvalidArgs
	}
	n, err := strconv.ParseUint(digits, 10, bits)
	if err != nil || negative {
		return value{}, cmp.Or(v.beyond, ValueOutOfRange)
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

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

// Call is an action that a control point wants carried out.
type Call struct {
	*Action
	Version Version // of the service type that was asked: its rules hold
	asked   string  // the service type
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
// uses: an action that every service has, by a type of its own. Some ask for it
// by the service's.
var query = &Action{
	Name: "QueryStateVariable",
	In:   []Argument{{"varName", &Variable{Type: String}}},
	Out:  []Argument{{"return", &Variable{Type: String}}},
}

// ParseCall reads a request to the service's control URL, on a gateway that
// shows faces up to version highest: the field SOAPACTION and the body. The
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

// strays reports whether a part of the envelope has an argument anywhere but in
// the action: readers that do not heed the tree would take it.
func (c *Call) strays(part, asked *element) bool {
	return slices.ContainsFunc(part.children, func(e *element) bool {
		return part != asked && slices.ContainsFunc(c.In, e.is) || c.strays(e, asked)
	})
}

// is reports whether an element is an argument, whose name clients may write in
// another case.
func (e *element) is(a Argument) bool { return strings.EqualFold(e.local, a.Name) }

// cutAction splits a SOAPACTION field into service type and name of the
// action. Clients forget the quotes, use other ones, or set them around the
// type alone.
func cutAction(field string) (serviceType, name string, ok bool) {
	serviceType, name, ok = strings.Cut(field, "#")
	const around = `"'` + blanks
	name = strings.Trim(name, around)
	return strings.Trim(serviceType, around), name, ok && name != ""
}

// unwrap returns what the body of an envelope holds: one element, since readers
// would differ about which of several is the action. Clients leave out one that
// would have no arguments: it has no name then. The namespace of the
// envelope does not count; clients write those of other SOAPs, or none.
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
	if asked.space == soapNamespace || asked.space == soap12Namespace { // the envelope's default: the action has none of its own
		asked.space = ""
	}
	return asked, nil
}

// mustUnderstand reports whether a SOAP header entry must not be passed over.
func mustUnderstand(entry *element) bool {
	return slices.ContainsFunc(entry.attributes, func(a attribute) bool {
		return a.local == "mustUnderstand" && (trimmed(a.value) == "1" || trimmed(a.value) == "true")
	})
}

// find returns a call of the action that is asked for, without arguments, by
// the service types that the field and the body name. They may name different
// ones of the service's types, and one of them none: the body's counts, if it
// has one. What version 2 alone has can be asked for by the type of version 1 as
// well, since clients that found that one call it all the same; it follows the
// rules of version 2.
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

// version returns the service type that a text names and its version, 0 if it
// is none of the service's up to highest.
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

// isType reports whether a text names a service type, in any case. Version 1
// may be left out.
func isType(text, serviceType string) bool {
	text = trimmed(text)
	bare, first := strings.CutSuffix(serviceType, ":1")
	return strings.EqualFold(text, serviceType) || first && strings.EqualFold(strings.TrimSuffix(text, ":"), bare)
}

// readArguments reads the arguments, in any order. Others are passed over.
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

// read returns the value of an argument. One that stands there several times
// counts once if the values are equal.
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

// parseNumber reads digits into so many bits.
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

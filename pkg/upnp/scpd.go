package upnp

import "strconv"

// AppendSCPD appends the service description in version v: what the
// control URL executes, and nothing else (UDA 1.1, section 2.5).
func (s *Service) AppendSCPD(b []byte, v Version) []byte {
	v = s.At(v)
	b = append(b, `<?xml version="1.0"?>`+"\n"+`<scpd xmlns="urn:schemas-upnp-org:service-1-0">`+
		`<specVersion><major>1</major><minor>0</minor></specVersion><actionList>`...)
	for i := range s.Actions {
		if a := &s.Actions[i]; v.has(a.Only) {
			b = a.append(b)
		}
	}
	b = append(b, "</actionList><serviceStateTable>"...)
	for _, variable := range s.Variables {
		if v.has(variable.Only) {
			b = variable.append(b)
		}
	}
	return append(b, "</serviceStateTable></scpd>\n"...)
}

func (a *Action) append(b []byte) []byte {
	b = appendStart(b, "action")
	b = appendElement(b, "name", a.Name)
	if len(a.In)+len(a.Out) > 0 {
		b = appendStart(b, "argumentList")
		for _, argument := range a.In {
			b = argument.append(b, "in")
		}
		for _, argument := range a.Out {
			b = argument.append(b, "out")
		}
		b = appendEnd(b, "argumentList")
	}
	return appendEnd(b, "action")
}

func (a Argument) append(b []byte, direction string) []byte {
	b = appendStart(b, "argument")
	b = appendElement(b, "name", a.Name)
	b = appendElement(b, "direction", direction)
	b = appendElement(b, "relatedStateVariable", a.Variable.Name)
	return appendEnd(b, "argument")
}

func (v *Variable) append(b []byte) []byte {
	if v.Evented {
		b = append(b, `<stateVariable sendEvents="yes">`...)
	} else {
		b = append(b, `<stateVariable sendEvents="no">`...)
	}
	b = appendElement(b, "name", v.Name)
	b = appendElement(b, "dataType", string(v.Type))
	if v.Default != "" {
		b = appendElement(b, "defaultValue", v.Default)
	}
	b = v.appendAllowed(b)
	return appendEnd(b, "stateVariable")
}

// appendAllowed appends the list or the range of a variable's values.
func (v *Variable) appendAllowed(b []byte) []byte {
	if v.Allowed != nil {
		b = appendStart(b, "allowedValueList")
		for _, value := range v.Allowed {
			b = appendElement(b, "allowedValue", value)
		}
		return appendEnd(b, "allowedValueList")
	}
	if v.Max == 0 {
		return b
	}
	b = appendStart(b, "allowedValueRange")
	b = appendElement(b, "minimum", strconv.FormatUint(uint64(v.Min), 10))
	b = appendElement(b, "maximum", strconv.FormatUint(uint64(v.Max), 10))
	return appendEnd(b, "allowedValueRange")
}

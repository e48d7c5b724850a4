package upnp

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// spelling writes one request in the way that its octets choose, as clients do;
// without octets in the strict way.
type spelling struct{ choices []byte }

// pick returns one of the texts, the first if nothing is left to choose by.
func (s *spelling) pick(texts ...string) string {
	if len(s.choices) == 0 {
		return texts[0]
	}
	n := int(s.choices[0]) % len(texts)
	s.choices = s.choices[1:]
	return texts[n]
}

// element writes an element around its content.
func (s *spelling) element(prefix, name, attributes, content string) string {
	end := s.pick(prefix+name, prefix+name+" ", "AddPortMapping", "", "x:y")
	return "<" + prefix + name + attributes + s.pick("", " ", "\n") + ">" + content + s.pick("", "", "<!-- - -->", "<?p q?>") + "</" + end + ">"
}

// value writes a value.
func (s *spelling) value(text string) string {
	text = strings.NewReplacer("&", s.pick("&amp;", "&#38;", "&#x26;", "<![CDATA[&]]>", "&"), "<", "&lt;").Replace(text)
	return s.pick("", " ", "\n\t", "&#13;&#10;") + text + s.pick("", "\r\n", " ")
}

// request writes SOAPACTION and body.
func (s *spelling) request(version Version, action string, arguments map[string]string) (field, body string) {
	serviceType := wanip + string('0'+rune(version))
	asked, named := serviceType, s.pick(serviceType, wanip+"1", wanip+"2", wanppp, "")
	if version == V1 {
		asked = s.pick(serviceType, wanip[:len(wanip)-1], wanip, strings.ToUpper(serviceType))
	}
	quote := s.pick(`"`, "", "'")
	field = named + s.pick("", quote) + "#" + action
	var list string
	for _, argument := range slices.Sorted(maps.Keys(arguments)) {
		value, prefix := arguments[argument], s.pick("", "u:", "m:")
		one := s.element(prefix, s.pick(argument, strings.ToLower(argument)), "", s.value(value))
		if argument == "NewRemoteHost" && value == "" {
			one = s.pick(one, "", "<NewRemoteHost/>", "<NewRemoteHost>*</NewRemoteHost>", "<NewRemoteHost> 0.0.0.0 </NewRemoteHost>")
		}
		list += s.pick("", "\n", "text", "<Other>1</Other>") + s.pick(one, one, one+one)
	}
	prefix, declaration := "u:", s.pick(" xmlns:u='"+asked+"'", "xmlns", "")
	switch declaration {
	case "xmlns":
		prefix, declaration = "", ` xmlns="`+asked+`"`
	case "":
		field = asked + strings.TrimPrefix(field, named) // the one type that there is
	}
	body = s.element(prefix, s.pick(action, strings.ToUpper(action)), declaration, list)
	soap := s.pick("s:", "SOAP-ENV:", "undeclared:", "")
	spaces := ` xmlns:s="` + s.pick(soapNamespace, soap12Namespace, "http://www.w3.org/2001/12/soap-envelope") + `" xmlns:SOAP-ENV="` + soapNamespace + `"`
	body = s.element(soap, s.pick("Body", "body"), "", body)
	body = s.element(soap, "Envelope", spaces+s.pick("", ` other:encodingStyle="x"`), s.pick("", "<s:Header/>", "\n")+body)
	return quote + field + s.pick(quote, ""), s.pick(`<?xml version="1.0"?>`, "\t<?xml version='1.0' encoding='iso-8859-1' ?>\n", "\ufeff", "") + body + s.pick("", "\r\n", "\x00", " \n\x00\x00", "\"\n")
}

// demandSpelling wants a spelling read as the strict one.
func demandSpelling(t *testing.T, choices []byte, version Version, action string, arguments map[string]string) {
	t.Helper()
	parse := func(choices []byte) (*Call, string, error) {
		s := spelling{choices}
		field, body := s.request(version, action, arguments)
		c, err := wanIPConnection.ParseCall(field, []byte(body), V2)
		return c, field + "\n" + body, err
	}
	want, _, wantErr := parse(nil)
	got, text, err := parse(choices)
	switch {
	case err != wantErr:
		t.Fatalf("%v, want %v\n%s", err, wantErr, text)
	case err == nil && (got.Action != want.Action || got.Version != want.Version || got.asked != want.asked || !slices.Equal(got.values, want.values)):
		t.Fatalf("%+v, want %+v\n%s", got, want, text)
	}
}

// spellings are requests to be spelled.
var spellings = []struct {
	action    string
	arguments map[string]string
}{
	{"AddPortMapping", map[string]string{"NewRemoteHost": "", "NewExternalPort": "4000", "NewProtocol": "TCP", "NewInternalPort": "4001",
		"NewInternalClient": "192.168.1.2", "NewEnabled": "1", "NewPortMappingDescription": "a & b &nbsp; <c>", "NewLeaseDuration": "60"}},
	{"AddAnyPortMapping", map[string]string{"NewRemoteHost": "45.67.89.1", "NewExternalPort": "0", "NewProtocol": "UDP", "NewInternalPort": "4001",
		"NewInternalClient": "a host", "NewEnabled": "0", "NewPortMappingDescription": "", "NewLeaseDuration": "0"}},
	{"DeletePortMapping", map[string]string{"NewRemoteHost": "", "NewExternalPort": "4000", "NewProtocol": "UDP"}},
	{"DeletePortMapping", map[string]string{"NewRemoteHost": "", "NewExternalPort": "69536", "NewProtocol": "UDP"}},
	{"GetGenericPortMappingEntry", map[string]string{"NewPortMappingIndex": "7"}},
	{"GetStatusInfo", nil},
}

// TestSpellings changes each detail of each request alone, to each of its
// spellings.
func TestSpellings(t *testing.T) {
	for _, r := range spellings {
		for _, version := range []Version{V1, V2} {
			const most = 200
			s := spelling{make([]byte, most)}
			s.request(version, r.action, r.arguments)
			for at := range most - len(s.choices) {
				for n := range byte(6) {
					demandSpelling(t, append(make([]byte, at), n), version, r.action, r.arguments)
				}
			}
		}
	}
}

// FuzzSpelling mixes the spellings.
func FuzzSpelling(f *testing.F) {
	for n := range byte(6) {
		f.Add(n, n, slices.Repeat([]byte{n, n + 1, 0}, 40))
	}
	f.Fuzz(func(t *testing.T, n, version byte, choices []byte) {
		r := spellings[int(n)%len(spellings)]
		demandSpelling(t, choices, V1+Version(version%2), r.action, r.arguments)
	})
}

// flat finds values as readers do that look for tags and heed no tree.
var flat = regexp.MustCompile(`<(?:[^\s<>/:"']*:)?(New[A-Za-z]+)(?:\s(?:[^<>/"']|"[^"]*"|'[^']*')*)?>([^<]*)</`)

// FuzzFlatReading wants every request that is taken read alike by a reader that
// heeds no tree, wherever tags are moved to: it is one request.
func FuzzFlatReading(f *testing.F) {
	plain := envelope(wanip+"2", "AddPortMapping", full)
	f.Add([]byte(plain))
	f.Add([]byte(strings.Replace(plain, "</NewProtocol>", "</NewInternalPort>", 1)))
	f.Add([]byte(strings.Replace(plain, "<s:Body>", "<s:Header><NewProtocol>UDP</NewProtocol></s:Header><s:Body>", 1)))
	f.Add([]byte(strings.Replace(plain, "<NewRemoteHost></NewRemoteHost>", "<x><NewRemoteHost>1.1.1.1</NewRemoteHost></x>", 1)))
	f.Add([]byte(strings.Replace(plain, "</NewProtocol>", "</NewProtocol></x><NewProtocol>UDP", 1)))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := wanIPConnection.ParseCall(wanip+"2#AddPortMapping", body, V2)
		if err != nil || !utf8.Valid(body) || strings.Contains(strings.TrimPrefix(string(body), "<?"), "<?") || strings.Contains(string(body), "<!") {
			return // comments and the like may hide tags
		}
		for _, found := range flat.FindAllStringSubmatch(string(body), -1) {
			n := slices.IndexFunc(c.In, func(a Argument) bool { return a.Name == found[1] })
			if n < 0 {
				continue
			}
			text, err := decode(found[2])
			if err != nil {
				t.Fatal(err)
			}
			e := element{text: text}
			if v, err := c.In[n].parse(&e); err != nil || !c.In[n].Variable.equal(v, c.values[n]) {
				t.Fatalf("%s is %q, and %+v in the tree\n%s", found[1], found[2], c.values[n], body)
			}
		}
	})
}

package upnp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	wanip  = "urn:schemas-upnp-org:service:WANIPConnection:"
	wanppp = "urn:schemas-upnp-org:service:WANPPPConnection:1"
)

// envelope wraps an action as most clients do.
func envelope(serviceType, action, arguments string) string {
	return `<?xml version="1.0"?><s:Envelope xmlns:s="` + soapNamespace + `"><s:Body><u:` + action +
		` xmlns:u="` + serviceType + `">` + arguments + "</u:" + action + "></s:Body></s:Envelope>"
}

// The arguments of DeletePortMapping, AddPortMapping and GetListOfPortMappings.
const (
	key  = "<NewRemoteHost></NewRemoteHost><NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol>"
	full = key + "<NewInternalPort>4000</NewInternalPort><NewInternalClient>192.168.1.2</NewInternalClient>" +
		"<NewEnabled>1</NewEnabled><NewPortMappingDescription>a game</NewPortMappingDescription><NewLeaseDuration>3600</NewLeaseDuration>"
	ports = "<NewStartPort>4000</NewStartPort><NewEndPort>4001</NewEndPort><NewProtocol>TCP</NewProtocol>" +
		"<NewManage>0</NewManage><NewNumberOfPorts>0</NewNumberOfPorts>"
)

func TestParseCall(t *testing.T) {
	plain := envelope(wanip+"2", "DeletePortMapping", key)
	for _, tt := range []struct {
		name, action, body string
		highest, version   Version
	}{
		{"plain", `"` + wanip + `2#DeletePortMapping"`, plain, V2, V2},
		{"no quotes", wanip + "2#DeletePortMapping", plain, V2, V2},
		{"single quotes", "'" + wanip + "2#DeletePortMapping'", plain, V2, V2},
		{"version 1 of 2", wanip + "1#DeletePortMapping", envelope(wanip+"1", "DeletePortMapping", key), V2, V1},
		{"version 1 of 1", wanip + "1#DeletePortMapping", envelope(wanip+"1", "DeletePortMapping", key), V1, V1},
		{"PPP", wanppp + "#DeletePortMapping", envelope(wanppp, "DeletePortMapping", key), V2, V1},
		{"prefixed arguments", wanip + "2#DeletePortMapping",
			strings.NewReplacer("<New", "<u:New", "</New", "</u:New").Replace(plain), V2, V2},
		{"typed arguments", wanip + "2#DeletePortMapping", envelope(wanip+"2", "DeletePortMapping",
			`<NewExternalPort xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="ui2">4000</NewExternalPort>`+
				"<NewProtocol>tcp</NewProtocol><NewRemoteHost/>"), V2, V2},
		{"header", wanip + "2#DeletePortMapping",
			strings.Replace(plain, "<s:Body>", `<s:Header><x s:mustUnderstand="0"/></s:Header><s:Body>`, 1), V2, V2},
	} {
		c, err := wanIPConnection.ParseCall(tt.action, []byte(tt.body), tt.highest)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if c.Name != "DeletePortMapping" || c.Version != tt.version || c.Text("NewRemoteHost") != "" ||
			c.Port("NewExternalPort") != 4000 || c.Text("NewProtocol") != "TCP" {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}

// TestVersion2ByVersion1 asks for what version 2 alone has by the types that
// clients of version 1 know. Its own rules hold then, and the answer bears the
// type that was asked.
func TestVersion2ByVersion1(t *testing.T) {
	for action, arguments := range map[string]string{
		"AddAnyPortMapping": full, "DeletePortMappingRange": ports, "GetListOfPortMappings": ports,
	} {
		for _, asked := range []string{wanip + "1", wanip + "2", wanppp} {
			c, err := wanIPConnection.ParseCall(asked+"#"+action, []byte(envelope(asked, action, arguments)), V2)
			if err != nil || c.Name != action || c.Version != V2 {
				t.Errorf("%s by %s: %+v, %v", action, asked, c, err)
				continue
			}
			if reply := string(c.AppendReply(nil)); !strings.Contains(reply, "<u:"+action+`Response xmlns:u="`+asked+`">`) {
				t.Errorf("%s by %s is answered %s", action, asked, reply)
			}
			if _, err := wanIPConnection.ParseCall(asked+"#"+action, []byte(envelope(asked, action, arguments)), V1); err != InvalidAction {
				t.Errorf("%s by %s of a gateway of version 1: %v", action, asked, err)
			}
		}
	}
}

// TestServiceTypes names the service in the field and in the body by different
// types. The body's counts for the rules and for the answer.
func TestServiceTypes(t *testing.T) {
	const (
		layer3 = "urn:schemas-upnp-org:service:Layer3Forwarding:1"
		bare   = "urn:schemas-upnp-org:service:WANIPConnection"
	)
	for _, tt := range []struct {
		field, body string
		want        string // the type that counts, "" for none
		of1         bool   // a gateway of version 1 has it too
	}{
		{wanip + "1", wanip + "1", wanip + "1", true},
		{wanip + "2", wanip + "1", wanip + "1", false},
		{wanip + "1", wanip + "2", wanip + "2", false},
		{wanppp, wanip + "1", wanip + "1", true},
		{wanip + "1", wanppp, wanppp, true},
		{wanip + "2", wanppp, wanppp, false},
		{wanppp, wanip + "2", wanip + "2", false},
		{bare, bare, wanip + "1", true},
		{wanip + "1", bare, wanip + "1", true},
		{wanip + "2", bare, wanip + "1", false},
		{bare, wanip + "2", wanip + "2", false},
		{wanip, bare + ":", wanip + "1", true},
		{"urn:schemas-upnp-org:service:WANPPPConnection", wanip, wanip + "1", true},
		{wanip + "1", "urn:schemas-upnp-org:service:WANPPPConnection:", wanppp, true},
		{"URN:schemas-upnp-org:service:wanipconnection:1", strings.ToUpper(wanip + "2"), wanip + "2", false},
		{wanip + "2", "", wanip + "2", false},
		{bare, "", wanip + "1", true},
		{"", wanip + "1", wanip + "1", true},
		{"", wanip + "2", wanip + "2", false},
		{"", "", "", false},
		{wanip + "1", "x", "", false},
		{"x", wanip + "1", "", false},
		{wanip + "1", wanip + "3", "", false},
		{wanip + "3", wanip + "1", "", false},
		{wanip + "3", "", "", false},
		{wanip + "0", wanip + "1", "", false},
		{wanip + "1", wanip + "01", "", false},
		{wanip + "1", wanip + "1.0", "", false},
		{wanip + "11", wanip + "1", "", false},
		{wanip + ":", wanip + "1", "", false},
		{bare + "2", wanip + "2", "", false},
		{"urn:schemas-upnp-org:service:WANPPPConnection:2", wanip + "1", "", false},
		{wanip + "1", layer3, "", false},
		{layer3, wanip + "1", "", false},
		{layer3, layer3, "", false},
		{"urn:schemas-upnp-org:service:", wanip + "1", "", false},
		{controlNamespace, wanip + "1", "", false},
		{wanip + "1", controlNamespace, "", false},
	} {
		for _, highest := range []Version{V1, V2} {
			body := strings.Replace(envelope(tt.body, "DeletePortMapping", key), ` xmlns:u=""`, ` xmlns:u="`+soapNamespace+`"`, 1)
			c, err := wanIPConnection.ParseCall(`"`+tt.field+`#DeletePortMapping"`, []byte(body), highest)
			if tt.want == "" || highest == V1 && !tt.of1 {
				if err != InvalidAction {
					t.Errorf("%q, %q of %d: %+v, %v", tt.field, tt.body, highest, c, err)
				}
				continue
			}
			if err != nil || c.asked != tt.want || wanip+string('0'+rune(c.Version)) != tt.want && c.Version != V1 {
				t.Errorf("%q, %q of %d: %+v, %v", tt.field, tt.body, highest, c, err)
				continue
			}
			if reply := string(c.AppendReply(nil)); !strings.Contains(reply, `<u:DeletePortMappingResponse xmlns:u="`+tt.want+`">`) {
				t.Errorf("%q, %q is answered %s", tt.field, tt.body, reply)
			}
		}
	}
}

// TestQuotes sets quotes and blanks in SOAPACTION where clients do.
func TestQuotes(t *testing.T) {
	plain := []byte(envelope(wanip+"2", "DeletePortMapping", key))
	const serviceType, action = wanip + "2", "DeletePortMapping"
	for _, field := range []string{
		serviceType + "#" + action, `"` + serviceType + "#" + action + `"`, "'" + serviceType + "#" + action + "'",
		`"` + serviceType + `"#` + action, "'" + serviceType + "'#" + action, `"` + serviceType + `"#"` + action + `"`,
		serviceType + `#"` + action + `"`, `"` + serviceType + "#" + action, serviceType + "#" + action + `"`,
		`" ` + serviceType + " # " + action + " \"\t", `""` + serviceType + "#" + action + `""`,
	} {
		if c, err := wanIPConnection.ParseCall(field, plain, V2); err != nil || c.Name != action || c.Version != V2 {
			t.Errorf("%s: %+v, %v", field, c, err)
		}
	}
	for _, field := range []string{`"` + serviceType + `"`, `"#"`, `"` + serviceType + `#"`, serviceType + "# ", action, `"` + action + `"`, "''"} {
		if c, err := wanIPConnection.ParseCall(field, plain, V2); err != ErrNoAction {
			t.Errorf("%s: %+v, %v", field, c, err)
		}
	}
}

func TestParseCallRefuses(t *testing.T) {
	action := wanip + "2#DeletePortMapping"
	plain := envelope(wanip+"2", "DeletePortMapping", key)
	change := func(from, to string) string { return strings.Replace(plain, from, to, 1) }
	for _, tt := range []struct {
		name, action, body string
		highest            Version
		want               error
	}{
		{"no SOAPACTION", "", plain, V2, ErrNoAction},
		{"no action in it", wanip + "2", plain, V2, ErrNoAction},
		{"empty action in it", `"` + wanip + `2#"`, plain, V2, ErrNoAction},
		{"empty body", action, "", V2, InvalidArgs},
		{"half a body", action, plain[:len(plain)/2], V2, InvalidArgs},
		{"another document", action, "<html/>", V2, InvalidArgs},
		{"another root", action, strings.ReplaceAll(plain, "s:Envelope", "s:Letter"), V2, InvalidArgs},
		{"two Bodies", action, change("</s:Body>", "</s:Body><s:Body/>"), V2, InvalidArgs},
		{"Bodies of two namespaces", action, change("<s:Body>", "<x:Body/><s:Body>"), V2, InvalidArgs},
		{"two actions", action, change("<u:Delete", "<GetStatusInfo/><u:Delete"), V2, InvalidArgs},
		{"no action but arguments", action, `<s:Envelope xmlns:s="` + soapNamespace + `"><s:Body>` + key + "</s:Body></s:Envelope>", V2, InvalidArgs},
		{"action without envelope", action, `<u:DeletePortMapping xmlns:u="` + wanip + `2">` + key + "</u:DeletePortMapping>", V2, InvalidArgs},
		{"Body without envelope", action, strings.NewReplacer("s:Envelope", "s:Body", "s:Body", "u:x").Replace(plain), V2, InvalidArgs},
		{"argument in the Header", action, change("<s:Body>", "<s:Header><NewRemoteHost>45.67.89.1</NewRemoteHost></s:Header><s:Body>"), V2, InvalidArgs},
		{"argument in another element", action, change("<NewRemoteHost></NewRemoteHost>", "<x><NewRemoteHost>45.67.89.1</NewRemoteHost></x>"), V2, InvalidArgs},
		{"argument in an argument", action, change("<NewRemoteHost></NewRemoteHost>", "<NewRemoteHost><NewRemoteHost/></NewRemoteHost>"), V2, InvalidArgs},
		{"argument behind the action", action, change("</s:Body>", "</s:Body><NewRemoteHost/>"), V2, InvalidArgs},
		{"argument closed too late", action, change("<NewRemoteHost></NewRemoteHost><NewExternalPort>4000</NewExternalPort>",
			"<NewRemoteHost><NewExternalPort>4000</NewRemoteHost></NewExternalPort>"), V2, InvalidArgs},
		{"action closed too early", action, change("<NewProtocol>", "</u:DeletePortMapping><NewProtocol>"), V2, InvalidArgs},
		{"an end tag too few", action, change("</NewProtocol>", ""), V2, InvalidArgs},
		{"an end tag too many", action, change("</NewProtocol>", "</NewProtocol></NewProtocol>"), V2, InvalidArgs},
		{"SOAP 1.2 mustUnderstand", action, change("<s:Body>", `<s:Header><x SOAP:mustUnderstand=" true "/></s:Header><s:Body>`), V2, ErrMustUnderstand},
		{"argument in two cases", action, change("<NewProtocol>", "<newprotocol>UDP</newprotocol><NewProtocol>"), V2, InvalidArgs},
		{"text and an argument behind", action, plain + "x<NewRemoteHost/>", V2, InvalidArgs},
		{"another envelope behind", action, plain + plain, V2, InvalidArgs},
		{"document type", action, "<!DOCTYPE x>" + envelope(wanip+"2", "DeletePortMapping", key)[len(`<?xml version="1.0"?>`):], V2, InvalidArgs},
		{"no Body", action, strings.ReplaceAll(plain, "s:Body", "s:Head"), V2, InvalidArgs},
		{"empty Body", action, `<s:Envelope xmlns:s="` + soapNamespace + `"><s:Body/></s:Envelope>`, V2, InvalidArgs},
		{"mustUnderstand", action, change("<s:Body>", `<s:Header><x s:mustUnderstand="1"/></s:Header><s:Body>`), V2, ErrMustUnderstand},
		{"another action in the body", wanip + "2#GetStatusInfo", plain, V2, InvalidAction},
		{"another action in the field", wanip + "2#DeletePortMappingRange", plain, V2, InvalidAction},
		{"field in another case", wanip + "2#deleteportmapping", plain, V2, InvalidAction},
		{"two actions in the field", wanip + "2#DeletePortMapping#DeletePortMapping", plain, V2, InvalidAction},
		{"no namespace in the body", action, change(` xmlns:u="`+wanip+`2"`, ` xmlns:u="x"`), V2, InvalidAction},
		{"version 3", wanip + "3#DeletePortMapping", envelope(wanip+"3", "DeletePortMapping", key), V2, InvalidAction},
		{"version 0", wanip + "0#DeletePortMapping", envelope(wanip+"0", "DeletePortMapping", key), V2, InvalidAction},
		{"version 2 of 1", action, plain, V1, InvalidAction},
		{"action of version 2 by version 1 of 1", wanip + "1#AddAnyPortMapping", envelope(wanip+"1", "AddAnyPortMapping", full), V1, InvalidAction},
		{"action of version 2 by PPP of 1", wanppp + "#GetListOfPortMappings", envelope(wanppp, "GetListOfPortMappings", ports), V1, InvalidAction},
		{"another service", "urn:schemas-upnp-org:service:Layer3Forwarding:1#GetDefaultConnectionService",
			envelope("urn:schemas-upnp-org:service:Layer3Forwarding:1", "GetDefaultConnectionService", ""), V2, InvalidAction},
		{"unknown action", wanip + "2#MakeCoffee", envelope(wanip+"2", "MakeCoffee", ""), V2, InvalidAction},
		{"optional action", wanip + "2#RequestTermination", envelope(wanip+"2", "RequestTermination", ""), V2, InvalidAction},
		{"argument missing", action, change("<NewProtocol>TCP</NewProtocol>", ""), V2, InvalidArgs},
		{"argument twice", action, change("<NewProtocol>", "<NewProtocol>UDP</NewProtocol><NewProtocol>"), V2, InvalidArgs},
		{"argument with elements", action, change("4000", "<b>4000</b>"), V2, InvalidArgs},
		{"empty number", action, change("4000", ""), V2, InvalidArgs},
		{"no number", action, change("4000", "http"), V2, InvalidArgs},
		{"number and more", action, change("4000", "4000x"), V2, InvalidArgs},
		{"two numbers", action, change("4000", "40 00"), V2, InvalidArgs},
		{"hexadecimal", action, change("4000", "0x50"), V2, InvalidArgs},
		{"plus sign", action, change("4000", "+4000"), V2, InvalidArgs},
		{"two minus signs", action, change("4000", "--1"), V2, InvalidArgs},
		{"fraction", action, change("4000", "4000.0"), V2, InvalidArgs},
		{"other digits", action, change("4000", "٤٠٠٠"), V2, InvalidArgs},
		{"negative", action, change("4000", "-1"), V2, ValueOutOfRange},
		{"too large", action, change("4000", "65536"), V2, ValueOutOfRange},
		{"far too large", action, change("4000", strings.Repeat("9", 400)), V2, ValueOutOfRange},
		{"index out of range", wanip + "1#GetGenericPortMappingEntry",
			envelope(wanip+"1", "GetGenericPortMappingEntry", "<NewPortMappingIndex>65536</NewPortMappingIndex>"), V2, NoSuchIndex},
		{"action by the type of the query", controlNamespace + "#AddPortMapping", envelope(controlNamespace, "AddPortMapping", full), V2, InvalidAction},
		{"no protocol", action, change("TCP", ""), V2, ValueOutOfRange},
		{"another protocol", action, change("TCP", "SCTP"), V2, ValueOutOfRange},
	} {
		if c, err := wanIPConnection.ParseCall(tt.action, []byte(tt.body), tt.highest); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v, want %v", tt.name, c, err, tt.want)
		}
	}
}

func TestParseValue(t *testing.T) {
	for _, tt := range []struct {
		variable *Variable
		text     string
		want     value
		err      error
	}{
		{externalPort, " 04000\n", value{"04000", 4000}, nil},
		{externalPort, "65535", value{"65535", 65535}, nil},
		{leaseDuration, "4294967295", value{"4294967295", 4294967295}, nil},
		{leaseDuration, "4294967296", value{}, ValueOutOfRange},
		{leaseDuration, "soon", value{}, InvalidArgs},
		{mappingEnabled, "0", value{"0", 0}, nil},
		{mappingEnabled, "False", value{"False", 0}, nil},
		{mappingEnabled, "no", value{"no", 0}, nil},
		{mappingEnabled, " 1 ", value{"1", 1}, nil},
		{mappingEnabled, "TRUE", value{"TRUE", 1}, nil},
		{mappingEnabled, "yes", value{"yes", 1}, nil},
		{mappingEnabled, "", value{}, InvalidArgs},
		{mappingEnabled, "maybe", value{}, InvalidArgs},
		{mappingEnabled, "2", value{}, InvalidArgs},
		{mappingDescription, " a\nb ", value{"a\nb", 0}, nil},
		{mappingDescription, " \r\n\t", value{}, nil},
		{remoteHost, "\n 45.67.89.1\t", value{"45.67.89.1", 0}, nil},
		{remoteHost, "*", value{}, nil},
		{remoteHost, " 0.0.0.0\r\n", value{}, nil},
		{remoteHost, "0.0.0.0/0", value{"0.0.0.0/0", 0}, nil},
		{remoteHost, "0.0.0.1", value{"0.0.0.1", 0}, nil},
		{pinholeRemote, " * ", value{}, nil},
		{pinholeRemote, "::", value{"::", 0}, nil},
		{internalClient, "\n192.168.1.2 ", value{"192.168.1.2", 0}, nil},
		{internalClient, "0.0.0.0", value{"0.0.0.0", 0}, nil},
		{internalClient, "192.168. 1.2", value{"192.168. 1.2", 0}, nil},
		{mappingProtocol, "\ntcp\n", value{"TCP", 0}, nil},
		{mappingProtocol, "6", value{}, ValueOutOfRange},
		{pinholeProtocol, "6", value{"6", 6}, nil},
		{pinholeProtocol, "TCP", value{"TCP", 6}, nil},
		{pinholeProtocol, " Udp\n", value{"Udp", 17}, nil},
		{pinholeProtocol, "65535", value{"65535", 65535}, nil},
		{pinholeProtocol, "SCTP", value{}, InvalidArgs},
		{pinholeProtocol, "TCP,UDP", value{}, InvalidArgs},
		{pinholeProtocol, "TCP 6", value{}, InvalidArgs},
		{pinholeProtocol, "any", value{}, InvalidArgs},
		{pinholeProtocol, "0x6", value{}, InvalidArgs},
		{pinholeProtocol, "", value{}, InvalidArgs},
		{pinholePort, "TCP", value{}, InvalidArgs},
		{connectionType, " IP_Routed\n", value{"IP_Routed", 0}, nil},
		{connectionType, "ip_routed", value{"IP_Routed", 0}, nil},
		{connectionType, "Tunnel", value{}, ValueOutOfRange},
	} {
		if got, err := tt.variable.parse(tt.text); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s %q: %v, %v, want %v, %v", tt.variable.Name, tt.text, got, err, tt.want, tt.err)
		}
	}
}

// TestParseEmptyBody wants the action of the field where the body names none and
// it has no arguments.
func TestParseEmptyBody(t *testing.T) {
	const envelope = `<s:Envelope xmlns:s="` + soapNamespace + `">%s</s:Envelope>`
	for body, want := range map[string]error{"<s:Body/>": nil, "<s:Body>\n</s:Body>": nil, "": InvalidArgs, "<s:Body/><s:Body/>": InvalidArgs} {
		c, err := wanIPConnection.ParseCall(wanip+"1#GetExternalIPAddress", fmt.Appendf(nil, envelope, body), V2)
		if !errors.Is(err, want) || err == nil && (c.Name != "GetExternalIPAddress" || c.Version != V1) {
			t.Errorf("%q: %v, %v", body, c, err)
		}
	}
}

func TestParseQuery(t *testing.T) {
	c, err := wanIPConnection.ParseCall(`"`+controlNamespace+`#QueryStateVariable"`,
		[]byte(envelope(controlNamespace, "QueryStateVariable", "<u:varName>ConnectionStatus</u:varName>")), V2)
	if err != nil || c.Name != "QueryStateVariable" || c.Text("varName") != "ConnectionStatus" {
		t.Fatalf("%v, %v", c, err)
	}
	want := envelopeStart + `<u:QueryStateVariableResponse xmlns:u="` + controlNamespace +
		`"><return>Connected</return></u:QueryStateVariableResponse>` + envelopeEnd
	if got := string(c.AppendReply(nil, "Connected")); got != want {
		t.Errorf("answer %s", got)
	}
	for field, body := range map[string]string{controlNamespace: wanip + "1", wanip + "2": controlNamespace, wanppp: wanip + "1"} {
		c, err := wanIPConnection.ParseCall(field+"#QueryStateVariable", []byte(envelope(body, "QueryStateVariable", "<varName>Uptime</varName>")), V2)
		if err != nil || c.Action != query || c.asked != body || c.Text("varName") != "Uptime" {
			t.Errorf("%s, %s: %v, %v", field, body, c, err)
		}
	}
}

// FuzzParseCall wants of every call that is understood an answer that reads
// back as one.
func FuzzParseCall(f *testing.F) {
	f.Add(`"`+wanip+`2#DeletePortMapping"`, []byte(envelope(wanip+"2", "DeletePortMapping", key)))
	f.Add(`"`+wanip+`1#GetStatusInfo"`, []byte(envelope(wanip+"1", "GetStatusInfo", "")))
	f.Add("'"+controlNamespace+"#QueryStateVariable'", []byte(envelope(controlNamespace, "QueryStateVariable", "<varName>x</varName>")))
	f.Add(wanip+"2#AddPortMapping", []byte(envelope(wanip+"2", "AddPortMapping", key)))
	f.Add(wanip+"1#AddAnyPortMapping", []byte(envelope(wanip+"1", "AddAnyPortMapping", full+key)))
	f.Add("#", []byte("<a/>"))
	f.Fuzz(func(t *testing.T, action string, body []byte) {
		c, err := wanIPConnection.ParseCall(action, body, V2)
		if err != nil {
			fault := InvalidAction
			if !errors.As(err, &fault) && err != ErrNoAction && err != ErrMustUnderstand {
				t.Fatalf("%q, %q: %v", action, body, err)
			}
			return
		}
		results := make([]string, len(c.Out))
		for i, v := range c.values {
			if i < len(results) {
				results[i] = v.text
			}
		}
		root, err := parseXML(c.AppendReply(nil, results...))
		if err != nil {
			t.Fatalf("answer to %q, %q: %v", action, body, err)
		}
		answer := root.children[0].children[0]
		if answer.local != c.Name+"Response" || len(answer.children) != len(results) {
			t.Fatalf("answer to %q, %q: %v", action, body, answer)
		}
		for i, r := range results {
			if answer.children[i].text != r {
				t.Fatalf("result %q reads back as %q", r, answer.children[i].text)
			}
		}
	})
}

func BenchmarkParseCall(b *testing.B) {
	body := []byte(envelope(wanip+"2", "AddPortMapping", key+"<NewInternalPort>4000</NewInternalPort>"+
		"<NewInternalClient>192.168.1.2</NewInternalClient><NewEnabled>1</NewEnabled>"+
		"<NewPortMappingDescription>libtorrent</NewPortMappingDescription><NewLeaseDuration>3600</NewLeaseDuration>"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wanIPConnection.ParseCall(`"`+wanip+`2#AddPortMapping"`, body, V2); err != nil {
			b.Fatal(err)
		}
	}
}

package upnpd

import (
	"fmt"
	"strings"
	"testing"

	"igdd/pkg/upnp"
)

const (
	ip1  = "urn:schemas-upnp-org:service:WANIPConnection:1"
	ip2  = "urn:schemas-upnp-org:service:WANIPConnection:2"
	ppp1 = "urn:schemas-upnp-org:service:WANPPPConnection:1"
)

// actionSpellings are ways in which clients write SOAPACTION and body, by what they
// replace in them.
var actionSpellings = []struct {
	name    string
	replace []string
}{
	{"strict", nil},
	{"no remote host", []string{"<NewRemoteHost></NewRemoteHost>", ""}},
	{"remote host of blanks", []string{"<NewRemoteHost>", "<NewRemoteHost>\n  "}},
	{"remote host of zeros", []string{"<NewRemoteHost>", "<NewRemoteHost>0.0.0.0"}},
	{"remote host of zeros and blanks", []string{"<NewRemoteHost>", "<NewRemoteHost>\t0.0.0.0 "}},
	{"blanks around everything", []string{"></", ">\n</", "<New", "\n<New", "</New", " \n</New", ">192", ">\r\n 192", ">TCP", "> TCP"}},
	{"defaults left out", []string{"<NewEnabled>1</NewEnabled>", "", "<NewPortMappingDescription>a game</NewPortMappingDescription>", ""}},
	{"defaults left empty", []string{"<NewEnabled>1", "<NewEnabled>", "<NewPortMappingDescription>a game", "<NewPortMappingDescription>"}},
	{"an argument twice", []string{"<NewProtocol>TCP", "<NewProtocol>tcp</NewProtocol><NewProtocol>TCP"}},
	{"SOAPACTION of another version", []string{`"` + ip2, `"` + ip1}},
	{"SOAPACTION of PPP", []string{`"` + ip2, `"` + ppp1}},
	{"body of another version", []string{`u="` + ip2, `u="` + ip1}},
	{"body of PPP", []string{`u="` + ip2, `u="` + ppp1}},
	{"body without version", []string{`u="` + ip2, `u="` + strings.TrimSuffix(ip1, ":1")}},
	{"body without type", []string{` xmlns:u="` + ip2 + `"`, ""}},
	{"type alone quoted", []string{"#AddPortMapping\"", `"#AddPortMapping`}},
	{"no quotes", []string{`"` + ip2 + `#AddPortMapping"`, ip2 + "#AddPortMapping"}},
	{"undeclared prefix", []string{` xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"`, ""}},
	{"SOAP 1.2", []string{"http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"}},
	{"another end tag", []string{"</u:AddPortMapping>", "</u:AddAnyPortMapping>", "</NewProtocol>", "</NewPort>"}},
	{"end tags without names", []string{"</NewProtocol>", "</>", "</s:Body>", "</>"}},
	{"line ends and NUL behind", []string{"</s:Envelope>", "</s:Envelope>\r\n\x00"}},
	{"quote behind", []string{"</s:Envelope>", "</s:Envelope>\"\n"}},
	{"tab in front", []string{"<?xml", "\t<?xml"}},
	{"ampersands", []string{"a game", "a & b &nbsp; &"}},
	{"arguments in another case", []string{"NewInternalClient", "newInternalClient"}},
}

// requestFor writes SOAPACTION and body of AddPortMapping.
func requestFor(replace []string, client string, port int) (field, body string) {
	text := `"` + ip2 + `#AddPortMapping"` + "\v" + `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` +
		`<u:AddPortMapping xmlns:u="` + ip2 + `"><NewRemoteHost></NewRemoteHost><NewExternalPort>` + fmt.Sprint(port) + "</NewExternalPort>" +
		"<NewProtocol>TCP</NewProtocol><NewInternalPort>4000</NewInternalPort><NewInternalClient>" + client + "</NewInternalClient>" +
		"<NewEnabled>1</NewEnabled><NewPortMappingDescription>a game</NewPortMappingDescription>" +
		"<NewLeaseDuration>60</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>"
	field, body, _ = strings.Cut(strings.NewReplacer(replace...).Replace(text), "\v")
	return field, body
}

// TestSpellings wants every spelling to open what the strict one opens, and
// nothing for another host, nor against the policy.
func TestSpellings(t *testing.T) {
	t.Parallel()
	c1, c2 := hosts["c1"], hosts["c2"]
	for _, s := range actionSpellings {
		h := testNet{}.newGateway(t, gatewayConfigOf("both"))
		try := func(target string, port int) reply {
			field, body := requestFor(s.replace, target, port)
			return send(t, h.server, c1, "/ctl/IPConn", field, body)
		}
		for _, refused := range []reply{try(c2, 4000), try(c1, 80), try(hosts["gw1"], 4000), try("127.0.0.1", 4000)} {
			if refused.code != 606 && refused.code != 718 && refused.code != 402 || len(h.firewall.Open()) != 0 {
				t.Errorf("%s: %v, open %v", s.name, refused, h.firewall.Open())
			}
		}
		got, open := try(c1, 4000), h.firewall.Open()
		if got.status != 200 || len(open) != 1 || open[0].Internal.String() != c1+":4000" || open[0].External != 4000 ||
			open[0].Filters() != nil || !open[0].Enabled() {
			t.Errorf("%s: %v, open %v", s.name, got, open)
		}
		if got := ask(t, h.server, c1, v2, "GetGenericPortMappingEntry", "0"); got.status != 200 || got.out[7] > "60" {
			t.Errorf("%s: entry %v", s.name, got)
		}
		if field, body := requestFor(s.replace, c2, 4000); send(t, h.server, c2, "/ctl/IPConn", field, body).code != 718 {
			t.Errorf("%s: another host takes the port", s.name)
		}
	}
}

// TestSpellingsOfOneVersion wants a gateway that shows one version to take the
// actionSpellings in its types alone.
func TestSpellingsOfOneVersion(t *testing.T) {
	t.Parallel()
	for version, replace := range map[upnp.Version][]string{upnp.V1: {ip2, ip1}, upnp.V2: nil} {
		p := gatewayConfigOf("both")
		p.versions = []upnp.Version{version}
		for _, s := range actionSpellings {
			h := testNet{}.newGateway(t, p)
			field, body := requestFor(s.replace, hosts["c1"], 4000)
			of2 := strings.Contains(field+body, ip2)
			if got := send(t, h.server, hosts["c1"], "/ctl/IPConn", field, body); (got.status == 200) == (of2 && version == upnp.V1) {
				t.Errorf("%s at version %d: %v", s.name, version, got)
			}
			again := strings.NewReplacer(replace...)
			if got := send(t, h.server, hosts["c1"], "/ctl/IPConn", again.Replace(field), again.Replace(body)); got.status != 200 {
				t.Errorf("%s in the types of version %d: %v", s.name, version, got)
			}
		}
	}
}

package upnp

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestAppendCall wants calls that our own gateway parses to the same arguments.
func TestAppendCall(t *testing.T) {
	m := PortMapping{"198.51.100.7", 4000, "TCP", 5000, "192.168.1.2", true, `<"web"> & more`, 3600}
	body := AppendCall(nil, wanip+"2", "AddAnyPortMapping", slices.Concat(m.Key(), m.Value())...)
	c, err := wanIPConnection.ParseCall(SOAPAction(wanip+"2", "AddAnyPortMapping"), body, V2)
	if err != nil {
		t.Fatal(err)
	}
	got := PortMapping{
		c.Text("NewRemoteHost"), c.Port("NewExternalPort"), c.Text("NewProtocol"), c.Port("NewInternalPort"),
		c.Text("NewInternalClient"), c.Flag("NewEnabled"), c.Text("NewPortMappingDescription"), c.Number("NewLeaseDuration"),
	}
	if got != m || c.Name != "AddAnyPortMapping" {
		t.Errorf("got %s %+v, want %+v", c.Name, got, m)
	}
	want := `<s:Body><u:GetExternalIPAddress xmlns:u="` + wanppp + `"></u:GetExternalIPAddress></s:Body>`
	if got := string(AppendCall(nil, wanppp, "GetExternalIPAddress")); !strings.Contains(got, want) {
		t.Errorf("a call without arguments is %s", got)
	}
}

// TestParseReply takes replies as gateways write them.
func TestParseReply(t *testing.T) {
	const miniupnpd = `<?xml version="1.0"?>` + "\r\n" + `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>` +
		`<u:GetSpecificPortMappingEntryResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1"><NewInternalPort>5000</NewInternalPort>` +
		`<NewInternalClient>192.168.1.2</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>a &amp; b</NewPortMappingDescription>` +
		`<NewLeaseDuration>3599</NewLeaseDuration></u:GetSpecificPortMappingEntryResponse></s:Body></s:Envelope>` + "\r\n"
	tests := []struct {
		name, action, body string
		want               []string
	}{
		{"miniupnpd", "GetSpecificPortMappingEntry", miniupnpd, []string{"5000", "192.168.1.2", "1", "a & b", "3599"}},
		{"another prefix and indented", "GetExternalIPAddress", `<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/">
 <SOAP-ENV:Body>
  <m:GetExternalIPAddressResponse xmlns:m="urn:schemas-upnp-org:service:WANPPPConnection:1">
   <NewExternalIPAddress xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="string">
     203.0.113.9
   </NewExternalIPAddress>
  </m:GetExternalIPAddressResponse>
 </SOAP-ENV:Body>
</SOAP-ENV:Envelope>` + "\x00", []string{"203.0.113.9"}},
		{"no namespace, other case", "AddAnyPortMapping", "<envelope><body><addanyportmappingresponse><newreservedport>4001</newreservedport>" +
			"</addanyportmappingresponse></body></envelope>", []string{"4001"}},
		{"a missing result", "GetStatusInfo", "<s:Envelope><s:Body><u:GetStatusInfoResponse><NewConnectionStatus>Connected</NewConnectionStatus>" +
			"</u:GetStatusInfoResponse></s:Body></s:Envelope>", []string{"Connected", "", ""}},
		{"no results", "AddPortMapping", "<s:Envelope><s:Body><u:AddPortMappingResponse/></s:Body></s:Envelope>", []string{}},
	}
	for _, tt := range tests {
		if got, err := ParseReply([]byte(tt.body), tt.action); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestParseOwnReplies reads what our own gateway writes.
func TestParseOwnReplies(t *testing.T) {
	c := Call{Action: wanIPConnection.action("GetStatusInfo", V1), asked: wanip + "1"}
	if got, err := ParseReply(c.AppendReply(nil, "Connected", "ERROR_NONE", "17"), c.Name); err != nil || !slices.Equal(got, []string{"Connected", "ERROR_NONE", "17"}) {
		t.Errorf("got %q, %v", got, err)
	}
	for fault := Fault(1); int(fault) < len(faults); fault++ {
		_, err := ParseReply(fault.Append(nil), c.Name)
		if !errors.Is(err, fault) || err.Error() != fault.Error() {
			t.Errorf("%v is read as %v", fault, err)
		}
	}
}

// TestParseReplyFaults reads faults as gateways write them.
func TestParseReplyFaults(t *testing.T) {
	wrap := func(fault string) string {
		return "<s:Envelope><s:Body><s:Fault>" + fault + "</s:Fault></s:Body></s:Envelope>"
	}
	for name, c := range map[string]struct{ body, want string }{
		"RouterOS": {wrap("<faultCode>s:Client</faultCode><faultString>UPnPError</faultString><detail>" +
			"<UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\">\r\n<errorCode>725</errorCode>\r\n<errorDescription>OnlyPermanentLeasesSupported</errorDescription>" +
			"</UPnPError></detail>"), "725 OnlyPermanentLeasesSupported"},
		"no description":    {wrap("<detail><UPnPError><errorCode> 606 </errorCode></UPnPError></detail>"), "606"},
		"many lines":        {wrap("<detail><UPnPError><errorCode>501</errorCode><errorDescription> a\n\tb </errorDescription></UPnPError></detail>"), "501 a b"},
		"a long text":       {wrap("<faultstring>" + strings.Repeat("x", 1000) + "</faultstring>"), strings.Repeat("x", 63)},
		"no code":           {wrap("<faultcode>s:Client</faultcode><faultstring>not today</faultstring>"), "not today"},
		"a code in words":   {wrap("<detail><UPnPError><errorCode>no</errorCode><errorDescription>no</errorDescription></UPnPError></detail>"), "no"},
		"nothing within it": {wrap(""), "a fault without a reason"},
	} {
		_, err := ParseReply([]byte(c.body), "AddPortMapping")
		if f, ok := errors.AsType[*RemoteFault](err); !ok || f.Error() != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func TestParseReplyRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":            "",
		"a web page":         "<html><body>log in</body></html>",
		"no XML":             "OK",
		"cut off":            "<s:Envelope><s:Body><u:GetExternalIPAddressResponse>",
		"an empty body":      "<s:Envelope><s:Body></s:Body></s:Envelope>",
		"no body":            "<s:Envelope></s:Envelope>",
		"another reply":      "<s:Envelope><s:Body><u:AddPortMappingResponse/></s:Body></s:Envelope>",
		"the call":           string(AppendCall(nil, wanip+"1", "GetExternalIPAddress")),
		"two replies":        "<s:Envelope><s:Body><u:GetExternalIPAddressResponse/><u:GetExternalIPAddressResponse/></s:Body></s:Envelope>",
		"a result twice":     "<s:Envelope><s:Body><u:GetExternalIPAddressResponse><NewExternalIPAddress>1.2.3.4</NewExternalIPAddress><NewExternalIPAddress>1.2.3.5</NewExternalIPAddress></u:GetExternalIPAddressResponse></s:Body></s:Envelope>",
		"a document type":    `<!DOCTYPE x [<!ENTITY a "b">]><s:Envelope><s:Body><u:GetExternalIPAddressResponse/></s:Body></s:Envelope>`,
		"too many elements":  "<s:Envelope>" + strings.Repeat("<x/>", maxElements) + "<s:Body><u:GetExternalIPAddressResponse/></s:Body></s:Envelope>",
		"elements too deep":  strings.Repeat("<x>", 100_000),
		"a header to be met": `<s:Envelope><s:Header><x mustUnderstand="1"/></s:Header><s:Body><u:GetExternalIPAddressResponse/></s:Body></s:Envelope>`,
	} {
		got, err := ParseReply([]byte(body), "GetExternalIPAddress")
		if _, fault := errors.AsType[*RemoteFault](err); err == nil || fault {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestParseMapping(t *testing.T) {
	m := PortMapping{InternalPort: 5000, Client: "192.168.1.2", Enabled: true, Description: "web", LeaseDuration: 3600}
	if got, ok := ParseMapping(m.Value()); !ok || got != m {
		t.Errorf("got %+v, %v, want %+v", got, ok, m)
	}
	bare := PortMapping{InternalPort: 5000, Client: "192.168.1.2", Enabled: true}
	if got, ok := ParseMapping([]string{"5000", "192.168.1.2", "", "", ""}); !ok || got != bare {
		t.Errorf("with nothing optional: got %+v, %v", got, ok)
	}
	for _, results := range [][]string{
		{"", "192.168.1.2", "1", "", "0"}, {"0", "192.168.1.2", "1", "", "0"}, {"65536", "192.168.1.2", "1", "", "0"},
		{"-1", "192.168.1.2", "1", "", "0"}, {"5000", "192.168.1.2", "on", "", "0"}, {"5000", "192.168.1.2", "1", "", "for ever"},
	} {
		if got, ok := ParseMapping(results); ok {
			t.Errorf("%q is read as %+v", results, got)
		}
	}
}

// FuzzParseReply demands a reply that has all results, or an error.
func FuzzParseReply(f *testing.F) {
	c := Call{Action: wanIPConnection.action("GetSpecificPortMappingEntry", V1), asked: wanip + "1"}
	f.Add(c.AppendReply(nil, PortMapping{InternalPort: 5000, Client: "192.168.1.2"}.Value()...))
	f.Add(OnlyPermanentLeases.Append(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		results, err := ParseReply(body, c.Name)
		switch {
		case err != nil && (results != nil || err.Error() == ""):
			t.Errorf("%q, and the error %v", results, err)
		case err == nil && len(results) != len(c.Out):
			t.Errorf("results %q", results)
		case err == nil:
			ParseMapping(results)
		}
	})
}

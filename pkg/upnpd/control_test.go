package upnpd

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// reply is an answer to an action.
type reply struct {
	status int
	code   int
	out    []string
}

func (r reply) String() string {
	if r.code != 0 {
		return fmt.Sprint(r.code)
	}
	return fmt.Sprintf("%d %q", r.status, r.out)
}

// ask calls an action of a service, "WANIPConnection:2", with the arguments in
// the order of the table.
func ask(t testing.TB, s *Server, client, service, action string, arguments ...string) reply {
	t.Helper()
	name, version, _ := strings.Cut(service, ":")
	var path string
	var body strings.Builder
	for p, known := range s.controls {
		if known.Name != name {
			continue
		}
		path = p
		for _, a := range known.Actions {
			for i, argument := range a.In {
				if a.Name == action && i < len(arguments) {
					fmt.Fprintf(&body, "<%s>", argument.Name)
					xml.EscapeText(&body, []byte(arguments[i]))
					fmt.Fprintf(&body, "</%s>", argument.Name)
				}
			}
		}
	}
	serviceType := "urn:schemas-upnp-org:service:" + name + ":" + version
	return send(t, s, client, path, serviceType+"#"+action, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>`+
		"<u:"+action+` xmlns:u="`+serviceType+`">`+body.String()+"</u:"+action+"></s:Body></s:Envelope>")
}

func send(t testing.TB, s *Server, client, path, action, body string) reply {
	t.Helper()
	got := s.control(&request{
		method: "POST", path: path, fields: map[string]string{"soapaction": action}, body: []byte(body),
		client: netip.MustParseAddr(client), local: netip.MustParseAddr(hosts["gw1"]),
	}).complete()
	if got.list != nil {
		got = got.list.response(s.opts.Table)
	}
	if got.pieces != nil {
		for piece := range got.pieces {
			got.body = append(got.body, piece...)
		}
		if len(got.body) != got.length {
			t.Errorf("%d octets, announced as %d", len(got.body), got.length)
		}
	}
	var envelope struct {
		Body struct {
			Fault *struct {
				Code int `xml:"detail>UPnPError>errorCode"`
			}
			Answer struct {
				Results []struct {
					Text string `xml:",chardata"`
				} `xml:",any"`
			} `xml:",any"`
		}
	}
	r := reply{status: got.status}
	if len(got.body) == 0 {
		return r
	}
	if err := xml.Unmarshal(got.body, &envelope); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	if f := envelope.Body.Fault; f != nil {
		r.code = f.Code
	}
	for _, result := range envelope.Body.Answer.Results {
		r.out = append(r.out, result.Text)
	}
	return r
}

// add maps an external port to the same port of a client.
func add(t testing.TB, s *Server, client, service, port, lease string) reply {
	t.Helper()
	return ask(t, s, client, service, "AddPortMapping", "", port, "TCP", port, client, "1", "test", lease)
}

const (
	v1 = "WANIPConnection:1"
	v2 = "WANIPConnection:2"
	fw = "WANIPv6FirewallControl:1"
)

// TestActions wants everything on show to be carried out, and nothing else.
func TestActions(t *testing.T) {
	t.Parallel()
	handlers := actions()
	delete(handlers, "QueryStateVariable")
	description := (&upnp.Gateway{Pinholes: true}).Description(upnp.V2)
	for _, d := range description.Devices {
		for _, service := range d.Services {
			for _, a := range service.Actions {
				if handlers[a.Name] == nil {
					t.Errorf("nothing carries out %s", a.Name)
				}
				delete(handlers, a.Name)
			}
		}
	}
	for name := range handlers {
		t.Errorf("no service has %s", name)
	}
}

// TestVariables wants a value for every variable that is evented or read by an
// action that needs no arguments.
func TestVariables(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	for path, service := range h.server.controls {
		for _, name := range service.Evented(upnp.V2) {
			if value, _ := h.server.state().value(name, upnp.V2); value == "" {
				t.Errorf("%s: %s is empty", path, name)
			}
		}
		for _, a := range service.Actions {
			if len(a.In) > 0 || len(a.Out) == 0 {
				continue
			}
			r := ask(t, h.server, hosts["c1"], fmt.Sprintf("%s:%d", service.Name, service.Version), a.Name)
			if r.status != 200 || len(r.out) != len(a.Out) || slices.Contains(r.out, "") {
				t.Errorf("%s: %v", a.Name, r)
			}
		}
	}
}

// refusing is a table that always answers the same.
type refusing struct {
	*portmap.Table
	portmap.Refusal
	err error
}

func (d refusing) Do(context.Context, portmap.Request) (portmap.Answer, error) {
	return portmap.Answer{Refusal: d.Refusal}, d.err
}

// TestRefusals translates every refusal of the table for every action and
// version.
func TestRefusals(t *testing.T) {
	t.Parallel()
	columns := []struct {
		service, action string
		arguments       []string
	}{
		{v1, "AddPortMapping", []string{"", "4000", "TCP", "4000", hosts["c1"], "1", "", "0"}},
		{v2, "AddPortMapping", []string{"", "4000", "TCP", "4000", hosts["c1"], "1", "", "0"}},
		{v2, "AddAnyPortMapping", []string{"", "4000", "TCP", "4000", hosts["c1"], "1", "", "0"}},
		{v1, "DeletePortMapping", []string{"", "4000", "TCP"}},
		{v2, "DeletePortMapping", []string{"", "4000", "TCP"}},
		{v2, "DeletePortMappingRange", []string{"4000", "4001", "TCP", "0"}},
		{fw, "AddPinhole", []string{"", "0", hosts["c1v6"], "5000", "6", "60"}},
		{fw, "UpdatePinhole", []string{"1", "60"}},
		{fw, "DeletePinhole", []string{"1"}},
	}
	for refusal, want := range map[portmap.Refusal][9]int{
		portmap.NotAuthorized:     {718, 606, 606, 714, 606, 730, 606, 606, 606},
		portmap.Conflict:          {718, 718, 728, 718, 718, 718, 501, 501, 501},
		portmap.HeldDown:          {718, 718, 728, 718, 718, 718, 501, 501, 501},
		portmap.NotProvided:       {718, 718, 728, 718, 718, 718, 501, 501, 501},
		portmap.NotForwarded:      {718, 729, 728, 718, 729, 729, 501, 501, 501},
		portmap.PortInUse:         {718, 729, 729, 718, 729, 729, 501, 501, 501},
		portmap.NoPorts:           {501, 728, 728, 501, 728, 728, 701, 701, 701},
		portmap.QuotaExceeded:     {501, 728, 728, 501, 728, 728, 701, 701, 701},
		portmap.TableFull:         {501, 728, 728, 501, 728, 728, 701, 701, 701},
		portmap.TooManyFilters:    {501, 501, 501, 501, 501, 501, 501, 501, 501},
		portmap.NotFound:          {501, 501, 501, 714, 714, 730, 704, 704, 704},
		portmap.NoExternalAddress: {501, 501, 501, 501, 501, 501, 501, 501, 501},
		portmap.BadTarget:         {402, 606, 606, 402, 606, 606, 606, 606, 606},
		portmap.FirewallFailed:    {501, 501, 501, 501, 501, 501, 501, 501, 501},
		portmap.Stopping:          {501, 501, 501, 501, 501, 501, 501, 501, 501},
	} {
		h := testNet{}.newGateway(t, gatewayConfigOf("both"))
		h.server.opts.Table = refusing{h.table, refusal, nil}
		for i, c := range columns {
			if got := ask(t, h.server, hosts["c1"], c.service, c.action, c.arguments...); got.code != want[i] || got.status != 500 {
				t.Errorf("%v: %s %s: %v, want %d", refusal, c.service, c.action, got, want[i])
			}
		}
	}
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	h.server.opts.Table = refusing{h.table, 0, context.DeadlineExceeded}
	for _, c := range columns {
		if got := ask(t, h.server, hosts["c1"], c.service, c.action, c.arguments...); got.code != 501 {
			t.Errorf("no answer: %s %s: %v, want 501", c.service, c.action, got)
		}
	}
}

// TestFaults calls the actions in ways that the vectors leave out.
func TestFaults(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	c1, c1v6 := hosts["c1"], hosts["c1v6"]
	down := testNet{}.newGateway(t, gatewayConfigOf("wan_down"))
	downV1 := gatewayConfigOf("wan_down")
	downV1.versions = []upnp.Version{upnp.V1}
	for _, tt := range []struct {
		gateway                 *testGateway
		client, service, action string
		arguments               []string
		want                    int
	}{
		{h, c1, v1, "AddPortMapping", []string{"", "0", "TCP", "4000", c1, "1", "", "0"}, 716},
		{h, c1, v1, "AddPortMapping", []string{"", "4000", "TCP", "0", c1, "1", "", "0"}, 402},
		{h, c1, v2, "AddPortMapping", []string{"", "4000", "TCP", "0", c1, "1", "", "0"}, 732},
		{h, c1, v2, "AddPortMapping", []string{"example.net", "4000", "TCP", "4000", c1, "1", "", "0"}, 402},
		{h, c1, v2, "AddPortMapping", []string{"0.0.0.0/0", "4000", "TCP", "4000", c1, "1", "", "0"}, 402},
		{h, c1, v2, "AddPortMapping", []string{"0.0.0.1", "4000", "TCP", "4000", hosts["c2"], "1", "", "0"}, 606},
		{h, c1, v2, "AddPortMapping", []string{"0.0.0.0", "4000", "TCP", "4000", hosts["c2"], "1", "", "0"}, 606},
		{h, c1, v2, "AddPortMapping", []string{" ", "4000", "TCP", "4000", " " + hosts["c2"] + "\n", "1", "", "0"}, 606},
		{h, c1, v2, "AddPortMapping", []string{"", "4000", "6", "4000", c1, "1", "", "0"}, 601},
		{h, c1, v2, "AddPortMapping", []string{"224.0.0.1", "4000", "TCP", "4000", c1, "1", "", "0"}, 402},
		{h, c1, v2, "AddPortMapping", []string{"::1", "4000", "TCP", "4000", c1, "1", "", "0"}, 402},
		{h, c1, v2, "AddPortMapping", []string{"192.0.2.1/24", "4000", "TCP", "4000", c1, "1", "", "0"}, 402},
		{h, c1, v2, "AddPortMapping", []string{"", "4000", "TCP", "4000", "::ffff:" + c1, "1", "", "0"}, 402},
		{h, c1, v2, "AddPortMapping", []string{"", "4000", "TCP", "4000", "192.168.077.010", "1", "", "0"}, 402},
		{h, c1, v2, "AddPortMapping", []string{"", "4000", "UDP", "4000", "255.255.255.255", "1", "", "0"}, 606},
		{h, c1v6, v2, "AddPortMapping", []string{"", "4000", "TCP", "4000", "", "1", "", "0"}, 402},
		{h, c1, v2, "AddAnyPortMapping", []string{"", "0", "TCP", "0", c1, "1", "", "0"}, 732},
		{h, c1, v2, "AddAnyPortMapping", []string{"x", "0", "TCP", "4000", c1, "1", "", "0"}, 402},
		{h, c1, v2, "DeletePortMapping", []string{"", "0", "TCP"}, 714},
		{h, c1, v2, "DeletePortMapping", []string{"example.net", "4000", "TCP"}, 402},
		{h, c1, v2, "GetSpecificPortMappingEntry", []string{"example.net", "4000", "TCP"}, 402},
		{h, c1, v2, "GetSpecificPortMappingEntry", []string{"", "0", "TCP"}, 714},
		{h, c1, v2, "DeletePortMappingRange", []string{"0", "0", "TCP", "0"}, 730},
		{h, c1, v2, "GetListOfPortMappings", []string{"2", "1", "TCP", "0", "0"}, 733},
		{h, c1, v1, "SetConnectionType", []string{"IP_Bridged"}, 703},
		{h, c1, v2, "SetConnectionType", []string{"IP_Bridged"}, 731},
		{h, c1, v2, "ForceTermination", nil, 606},
		{h, c1, v1, "ForceTermination", nil, 501},
		{down, c1, v2, "ForceTermination", nil, 711},
		{down, c1, v2, "RequestConnection", nil, 704},
		{down, c1, v2, "AddPortMapping", []string{"", "4000", "TCP", "4000", c1, "1", "", "0"}, 501},
		{h, c1v6, fw, "AddPinhole", []string{"example.net", "0", c1v6, "5000", "6", "60"}, 402},
		{h, c1v6, fw, "AddPinhole", []string{"192.0.2.1", "0", c1v6, "5000", "6", "60"}, 402},
		{h, c1v6, fw, "AddPinhole", []string{"::", "0", c1v6, "5000", "6", "60"}, 402},
		{h, c1v6, fw, "AddPinhole", []string{"", "0", "fe80::1%lo", "5000", "6", "60"}, 402},
		{h, c1v6, fw, "AddPinhole", []string{"", "0", "::ffff:" + c1, "5000", "6", "60"}, 402},
		{h, c1v6, fw, "AddPinhole", []string{"", "0", c1v6, "5000", "6", "86401"}, 402},
		{h, c1v6, fw, "AddPinhole", []string{"", "65536", c1v6, "5000", "6", "60"}, 601},
		{h, c1v6, fw, "AddPinhole", []string{"", "0", c1v6, "80", "6", "60"}, 606},
		{h, c1v6, fw, "UpdatePinhole", []string{"0", "60"}, 704},
		{h, c1v6, fw, "DeletePinhole", []string{"0"}, 704},
		{h, c1v6, fw, "GetPinholePackets", []string{"0"}, 704},
		{h, c1v6, fw, "GetOutboundPinholeTimeout", nil, 401},
		{testNet{}.newGateway(t, downV1), c1, v1, "ForceTermination", nil, 711},
	} {
		if got := ask(t, tt.gateway.server, tt.client, tt.service, tt.action, tt.arguments...); got.code != tt.want || got.status != 500 {
			t.Errorf("%s %s %q: %v, want %d", tt.service, tt.action, tt.arguments, got, tt.want)
		}
	}
	if count, _ := h.table.Count(); count != 0 {
		t.Errorf("%d mappings after nothing but errors", count)
	}
}

// TestVersion2ByVersion1 has a client that knows the type of version 1 alone
// call what version 2 has, as upnpc does.
func TestVersion2ByVersion1(t *testing.T) {
	t.Parallel()
	c1 := hosts["c1"]
	calls := []struct {
		action    string
		arguments []string
		want      string // of 200: the results
	}{
		{"AddAnyPortMapping", []string{"", "4000", "TCP", "4000", c1, "1", "mine", "0"}, `200 ["4000"]`},
		{"GetSpecificPortMappingEntry", []string{"", "4000", "TCP"}, `200 ["4000" "` + c1 + `" "1" "mine" "604800"]`},
		{"GetListOfPortMappings", []string{"4000", "4001", "UDP", "0", "0"}, "730"},
		{"AddAnyPortMapping", []string{"", "4001", "TCP", "80", hosts["c2"], "1", "", "0"}, "606"},
		{"DeletePortMappingRange", []string{"4001", "4000", "TCP", "0"}, "733"},
		{"DeletePortMappingRange", []string{"4000", "4001", "TCP", "0"}, "200 []"},
		{"DeletePortMappingRange", []string{"4000", "4001", "TCP", "0"}, "730"},
	}
	for _, config := range []string{"both", "default", "v1"} {
		h := testNet{}.newGateway(t, gatewayConfigOf(config))
		for _, c := range calls {
			want := c.want
			if config == "v1" {
				want = "401"
				if c.action == "GetSpecificPortMappingEntry" {
					want = "714"
				}
			}
			if got := ask(t, h.server, c1, v1, c.action, c.arguments...).String(); got != want {
				t.Errorf("%s: %s %q: %s, want %s", config, c.action, c.arguments, got, want)
			}
		}
		if count, _ := h.table.Count(); count != 0 {
			t.Errorf("%s: %d mappings are left", config, count)
		}
	}
}

// TestDefaults leaves out, or leaves empty, what has a default, by either type,
// whatever versions are on show.
func TestDefaults(t *testing.T) {
	t.Parallel()
	c1 := hosts["c1"]
	requests := []struct {
		serviceType, action, lease string
		of1                        bool // a gateway of version 1 alone takes it too
	}{
		{ip1, "AddPortMapping", "0", true},
		{ppp1, "AddPortMapping", "0", true},
		{ip2, "AddPortMapping", "604800", false},
		{ip1, "AddAnyPortMapping", "604800", false},
		{ppp1, "AddAnyPortMapping", "604800", false},
		{ip2, "AddAnyPortMapping", "604800", false},
	}
	for _, config := range []string{"both", "default", "v1"} {
		h := testNet{}.newGateway(t, gatewayConfigOf(config))
		for _, empty := range []string{"", "<NewRemoteHost/><NewEnabled/><NewPortMappingDescription/><NewLeaseDuration/>"} {
			for _, tt := range requests {
				call := func(action, arguments string) string {
					return send(t, h.server, c1, "/ctl/IPConn", tt.serviceType+"#"+action,
						`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:`+action+` xmlns:u="`+tt.serviceType+`">`+
							arguments+"</u:"+action+"></s:Body></s:Envelope>").String()
				}
				const key = "<NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol>"
				got := call(tt.action, key+"<NewInternalPort>4000</NewInternalPort><NewInternalClient>"+c1+"</NewInternalClient>"+empty)
				if config == "v1" && !tt.of1 {
					if got != "401" {
						t.Errorf("%s: %s by %s: %s", config, tt.action, tt.serviceType, got)
					}
					continue
				}
				if !strings.HasPrefix(got, "200") {
					t.Errorf("%s: %s by %s: %s", config, tt.action, tt.serviceType, got)
				}
				want := fmt.Sprintf(`200 ["4000" "%s" "1" "" "%s"]`, c1, tt.lease)
				if got := call("GetSpecificPortMappingEntry", key); got != want {
					t.Errorf("%s: %s by %s makes %s, want %s", config, tt.action, tt.serviceType, got, want)
				}
				if got := call("DeletePortMapping", key); got != "200 []" {
					t.Errorf("%s: DeletePortMapping by %s: %s", config, tt.serviceType, got)
				}
			}
		}
		if count, _ := h.table.Count(); count != 0 {
			t.Errorf("%s: %d mappings are left", config, count)
		}
	}
}

// TestWildcards opens, finds and closes by every spelling of the wildcard what
// the empty one does, and no more.
func TestWildcards(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	c1 := hosts["c1"]
	spellings := []string{"", " ", "\n\t ", "*", "0.0.0.0", " 0.0.0.0\r\n"}
	for i, remote := range spellings {
		if got := ask(t, h.server, c1, v2, "AddPortMapping", remote, " 4000\n", "\tUDP ", " 4000 ", "\n"+c1+" ", " 1\n", "", " 60 "); got.status != 200 {
			t.Errorf("%q: %v", remote, got)
		}
		if open := h.firewall.Open(); len(open) != 1 || open[0].Filters() != nil || open[0].Internal.String() != c1+":4000" {
			t.Errorf("%q opens %v", remote, open)
		}
		other := spellings[(i+1)%len(spellings)]
		if got := ask(t, h.server, c1, v1, "GetSpecificPortMappingEntry", other, "4000", "UDP"); got.status != 200 {
			t.Errorf("%q is not found by %q: %v", remote, other, got)
		}
		if got := ask(t, h.server, hosts["c2"], v2, "DeletePortMapping", other, "4000", "UDP"); got.code != 606 {
			t.Errorf("another host deletes %q by %q: %v", remote, other, got)
		}
		if got := ask(t, h.server, c1, v2, "DeletePortMapping", other, "4000", "UDP"); got.status != 200 || len(h.firewall.Open()) != 0 {
			t.Errorf("%q is not deleted by %q: %v", remote, other, got)
		}
	}
	ask(t, h.server, c1, v2, "AddPortMapping", hosts["wan"], "4000", "UDP", "4000", c1, "1", "", "60")
	for _, remote := range spellings {
		if got := ask(t, h.server, c1, v2, "AddPortMapping", remote, "4000", "UDP", "4000", c1, "1", "", "60"); got.code != 718 {
			t.Errorf("an entry with a remote host is widened by %q: %v", remote, got)
		}
		if got := ask(t, h.server, c1, v2, "GetSpecificPortMappingEntry", remote, "4000", "UDP"); got.code != 714 {
			t.Errorf("an entry with a remote host is found by %q: %v", remote, got)
		}
	}
	if open := h.firewall.Open(); len(open) != 1 || len(open[0].Filters()) != 1 {
		t.Errorf("the firewall holds %v", open)
	}
}

// TestOwnName maps ports to the asking host by the name in its lease, and to no
// other.
func TestOwnName(t *testing.T) {
	t.Parallel()
	c1, c2 := hosts["c1"], hosts["c2"]
	leases := map[string][]netip.Addr{
		"laptop":  {netip.MustParseAddr(c1)},
		"printer": {netip.MustParseAddr(c2)},
		"twin":    {netip.MustParseAddr(c1), netip.MustParseAddr(c2)},
		"same":    {netip.MustParseAddr(c1), netip.MustParseAddr(c1)},
		c2:        {netip.MustParseAddr(c1)},
	}
	for _, config := range []string{"both", "open"} {
		h := testNet{}.newGateway(t, gatewayConfigOf(config))
		h.server.opts.Leased = func(name string) []netip.Addr { return leases[name] }
		for _, tt := range []struct {
			client, name string
			want         string // the address that is mapped, or the code
		}{
			{c1, "laptop", c1},
			{c1, "\n laptop\t", c1},
			{c1, "", c1},
			{c1, " \n", c1},
			{c2, "printer", c2},
			{c1, "printer", "402"},
			{c2, "laptop", "402"},
			{c1, "twin", "402"},
			{c1, "same", "402"},
			{c1, "unknown", "402"},
			{c1, "laptop.lan", "402"},
			{c1, "/" + c1, "402"},
			{c1, c1 + ":4000", "402"},
			{hosts["c1v6"], "laptop", "402"},
		} {
			for _, action := range []string{"AddPortMapping", "AddAnyPortMapping"} {
				got := ask(t, h.server, tt.client, v2, action, "", "4000", "TCP", "4000", tt.name, "1", "", "60")
				open := h.firewall.Open()
				switch {
				case len(tt.want) == 3 && (fmt.Sprint(got.code) != tt.want || len(open) != 0):
					t.Errorf("%s, %s by %s for %q: %v, open %v", config, action, tt.client, tt.name, got, open)
				case len(tt.want) > 3 && (got.status != 200 || len(open) != 1 || open[0].Internal.String() != tt.want+":4000"):
					t.Errorf("%s, %s by %s for %q: %v, open %v", config, action, tt.client, tt.name, got, open)
				}
				ask(t, h.server, tt.client, v2, "DeletePortMapping", "", "4000", "TCP")
			}
		}
	}
	// An address is an address, whatever hosts are called.
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	h.server.opts.Leased = func(name string) []netip.Addr { return leases[name] }
	if got := ask(t, h.server, c1, v2, "AddPortMapping", "", "4000", "TCP", "4000", c2, "1", "", "60"); got.code != 606 {
		t.Errorf("another host's address as a name: %v", got)
	}
	// The name changes nothing else: who may have a port decides as ever.
	for port, want := range map[string]int{"80": 606, "65536": 601} {
		if got := ask(t, h.server, c1, v2, "AddPortMapping", "", port, "TCP", "4000", "laptop", "1", "", "60"); got.code != want {
			t.Errorf("port %s by name: %v, want %d", port, got, want)
		}
	}
}

// TestRequestsWithoutAction wants nothing done for requests that a browser
// could be made to send.
func TestRequestsWithoutAction(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	for _, action := range []string{"", "#", "AddPortMapping"} {
		if got := send(t, h.server, hosts["c1"], "/ctl/IPConn", action, ""); got.status != 400 {
			t.Errorf("SOAPACTION %q: %v", action, got)
		}
	}
}

// TestLeases wants version 1 to grant for ever, and version 2 at most a week.
func TestLeases(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	for _, tt := range []struct{ service, port, lease, want string }{
		{v1, "4000", "0", "0"},
		{v1, "4001", "31536000", "31536000"},
		{v1, "4002", "4294967295", "4294967295"},
		{v2, "4003", "0", "604800"},
		{v2, "4004", "604801", "604800"},
		{v2, "4005", "1", "1"},
		{v2, "4000", "60", "60"}, // a renewal has its own
	} {
		if got := add(t, h.server, hosts["c1"], tt.service, tt.port, tt.lease); got.status != 200 {
			t.Errorf("lease %s by %s: %v", tt.lease, tt.service, got)
			continue
		}
		got := ask(t, h.server, hosts["c1"], tt.service, "GetSpecificPortMappingEntry", "", tt.port, "TCP")
		if len(got.out) != 5 || got.out[4] != tt.want {
			t.Errorf("lease %s by %s: %v", tt.lease, tt.service, got)
		}
	}
}

// TestDescriptions wants texts back as they were, and nothing in them that a
// terminal would obey.
func TestDescriptions(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	long := strings.Repeat("漢", 100)
	for text, want := range map[string]string{
		"":                            "",
		"a&b<c>\"'":                   "a&b<c>\"'",
		"]]></p:x>&amp;":              "]]></p:x>&amp;",
		" \n ünï 漢\t":                 "ünï 漢",
		"tab\tline\nreturn\rC1\u0085": "tab line return C1 ",
		long:                          long[:255],
		strings.Repeat("d", 300):      strings.Repeat("d", 256),
	} {
		ask(t, h.server, hosts["c1"], v2, "AddPortMapping", "", "4000", "TCP", "4000", hosts["c1"], "1", text, "60")
		generic := ask(t, h.server, hosts["c1"], v2, "GetGenericPortMappingEntry", "0")
		specific := ask(t, h.server, hosts["c1"], v2, "GetSpecificPortMappingEntry", "", "4000", "TCP")
		if len(generic.out) != 8 || generic.out[6] != want || len(specific.out) != 5 || specific.out[3] != want {
			t.Errorf("%q comes back by index as %v, by port as %v", text, generic, specific)
		}
		listing := ask(t, h.server, hosts["c1"], v2, "GetListOfPortMappings", "1", "65535", "TCP", "0", "0")
		var list struct {
			Entries []struct{ NewDescription string } `xml:"PortMappingEntry"`
		}
		if err := xml.Unmarshal([]byte(listing.out[0]), &list); err != nil || len(list.Entries) != 1 || list.Entries[0].NewDescription != want {
			t.Errorf("%q comes back in a listing as %q, %v", text, list.Entries, err)
		}
	}
}

// TestDisabled wants an entry that forwards nothing, and its remote host shown.
func TestDisabled(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	ask(t, h.server, hosts["c1"], v2, "AddPortMapping", hosts["wan"], "4000", "TCP", "4000", hosts["c1"], "0", "off", "60")
	want := []string{hosts["wan"], "4000", "TCP", "4000", hosts["c1"], "0", "off", "60"}
	if got := ask(t, h.server, hosts["c1"], v2, "GetGenericPortMappingEntry", "0"); !slices.Equal(got.out, want) {
		t.Errorf("entry %v", got)
	}
	if open := h.firewall.Open(); len(open) != 0 {
		t.Errorf("the firewall holds %v", open)
	}
	if got := ask(t, h.server, hosts["c1"], v2, "DeletePortMapping", hosts["wan"], "4000", "TCP"); got.status != 200 {
		t.Errorf("delete: %v", got)
	}
}

// TestOtherProtocols lists what NAT-PMP and PCP have mapped, but no pinholes.
func TestOtherProtocols(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	for _, req := range []portmap.Request{
		{Origin: portmap.PCP, Internal: netip.MustParseAddrPort("[" + hosts["c1v6"] + "]:5000")},
		{Origin: portmap.NATPMP, Internal: netip.MustParseAddrPort(hosts["c1"] + ":4000")},
	} {
		req.Protocol, req.Client, req.Lifetime = portmap.TCP, req.Internal.Addr(), 60e9
		if a, err := h.table.Do(t.Context(), req); err != nil || a.Refusal != portmap.Granted {
			t.Fatal(a, err)
		}
	}
	if got := ask(t, h.server, hosts["c2"], v2, "GetGenericPortMappingEntry", "0"); len(got.out) != 8 || got.out[4] != hosts["c1"] {
		t.Errorf("first entry %v", got)
	}
	if got := ask(t, h.server, hosts["c2"], v2, "GetGenericPortMappingEntry", "1"); got.code != 713 {
		t.Errorf("second entry %v", got)
	}
	if n, _ := h.server.state().value("PortMappingNumberOfEntries", upnp.V2); n != "1" {
		t.Errorf("%s entries", n)
	}
	if got := ask(t, h.server, hosts["c1"], v2, "DeletePortMapping", "", "4000", "TCP"); got.code != 606 {
		t.Errorf("UPnP deletes a mapping of NAT-PMP: %v", got)
	}
}

// TestManage wants NewManage to reach other clients' entries as far as the
// policy lets it.
func TestManage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		config, manage string
		listed         int
		code           int
		left           int
	}{
		{"default", "0", 1, 0, 1},
		{"default", "1", 2, 0, 1},
		{"open", "0", 1, 0, 1},
		{"open", "1", 2, 0, 0},
	} {
		h := testNet{}.newGateway(t, gatewayConfigOf(tt.config))
		add(t, h.server, hosts["c1"], v2, "4000", "60")
		add(t, h.server, hosts["c2"], v2, "4001", "60")
		list := ask(t, h.server, hosts["c1"], v2, "GetListOfPortMappings", "1", "65535", "TCP", tt.manage, "0")
		if n := strings.Count(list.out[0], "<p:PortMappingEntry>"); n != tt.listed {
			t.Errorf("%s, NewManage %s: %d listed, want %d", tt.config, tt.manage, n, tt.listed)
		}
		got := ask(t, h.server, hosts["c1"], v2, "DeletePortMappingRange", "0", "65535", "TCP", tt.manage)
		if left, _ := h.table.Count(); got.code != tt.code || left != tt.left {
			t.Errorf("%s, NewManage %s: %v, %d left, want %d", tt.config, tt.manage, got, left, tt.left)
		}
	}
}

// TestLongListing wants listings bounded.
func TestLongListing(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	const entries = 2000
	for i := range entries {
		add(t, h.server, hosts["c1"], v2, fmt.Sprint(4000+i), "0")
	}
	for most, want := range map[string][2]int{"3": {3, 3}, "0": {1000, entries - 1}} {
		list := ask(t, h.server, hosts["c1"], v2, "GetListOfPortMappings", "1", "65535", "TCP", "0", most)
		if n := strings.Count(list.out[0], "<p:PortMappingEntry>"); n < want[0] || n > want[1] || len(list.out[0]) > maxListing+4096 {
			t.Errorf("NewNumberOfPorts %s: %d entries, %d octets", most, n, len(list.out[0]))
		}
	}
}

// TestAddAnyAtOnce wants a port for each of many clients that ask for the same
// one at the same moment.
func TestAddAnyAtOnce(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("open"))
	ports := make([]string, 20)
	var wg sync.WaitGroup
	for i := range ports {
		wg.Go(func() {
			client := fmt.Sprintf("192.168.77.%d", 100+i)
			if got := ask(t, h.server, client, v2, "AddAnyPortMapping", "", "4000", "UDP", "4000", client, "1", "", "60"); len(got.out) == 1 {
				ports[i] = got.out[0]
			}
		})
	}
	wg.Wait()
	slices.Sort(ports)
	if slices.Contains(ports, "") || len(slices.Compact(ports)) != 20 {
		t.Errorf("ports %v", ports)
	}
}

// TestPinholeProtocols opens one pinhole by all names of a protocol, for the
// asking host alone.
func TestPinholeProtocols(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	c1v6 := hosts["c1v6"]
	for number, spellings := range map[string][]string{"6": {"TCP", "tcp", " Tcp\n", "06"}, "17": {"UDP", "udp", "\tuDP"}} {
		want := ask(t, h.server, c1v6, fw, "AddPinhole", "", "0", c1v6, "5000", number, "60")
		for _, protocol := range spellings {
			got := ask(t, h.server, c1v6, fw, "AddPinhole", " * ", "0", "\n"+c1v6+" ", "5000", protocol, " 60")
			if got.status != 200 || !slices.Equal(got.out, want.out) {
				t.Errorf("%q: %v, want %v", protocol, got, want)
			}
			if got := ask(t, h.server, hosts["c2v6"], fw, "AddPinhole", "", "0", c1v6, "5001", protocol, "60"); got.code != 606 {
				t.Errorf("%q for another host: %v", protocol, got)
			}
			if got := ask(t, h.server, hosts["c1"], fw, "AddPinhole", "", "0", c1v6, "5001", protocol, "60"); got.code != 606 {
				t.Errorf("%q over IPv4: %v", protocol, got)
			}
		}
	}
	if open := h.firewall.Open(); len(open) != 2 {
		t.Errorf("the firewall holds %v", open)
	}
	for protocol, want := range map[string]int{"TCPUDP": 402, "ICMP": 402, "1": 705, "65535": 707, "-6": 601} {
		if got := ask(t, h.server, c1v6, fw, "AddPinhole", "", "0", c1v6, "5000", protocol, "60"); got.code != want {
			t.Errorf("%q: %v, want %d", protocol, got, want)
		}
	}
}

// TestPinholeTraffic wants packets counted for the pinhole's owner alone.
func TestPinholeTraffic(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	c1v6 := hosts["c1v6"]
	id := ask(t, h.server, c1v6, fw, "AddPinhole", hosts["wanv6"], "1234", c1v6, "5003", "17", "60").out[0]
	if other := ask(t, h.server, c1v6, fw, "AddPinhole", "", "1234", c1v6, "5003", "17", "60").out; slices.Equal(other, []string{id}) {
		t.Errorf("two remote peers have one pinhole, %s", id)
	}
	if got := ask(t, h.server, c1v6, fw, "GetPinholePackets", id); !slices.Equal(got.out, []string{"3"}) {
		t.Errorf("packets %v", got)
	}
	if got := ask(t, h.server, c1v6, fw, "CheckPinholeWorking", id); !slices.Equal(got.out, []string{"1"}) {
		t.Errorf("works %v", got)
	}
	for _, action := range []string{"GetPinholePackets", "CheckPinholeWorking"} {
		if got := ask(t, h.server, hosts["c2v6"], fw, action, id); got.code != 606 {
			t.Errorf("%s by another host: %v", action, got)
		}
	}
	h.server.opts.Packets = func(*portmap.Mapping) (uint64, error) { return 0, errors.New("no counters") }
	if got := ask(t, h.server, c1v6, fw, "GetPinholePackets", id); got.code != 501 {
		t.Errorf("packets without counters: %v", got)
	}
	if open := h.firewall.Open(); len(open) != 1 || len(open[0].Filters()) != 2 {
		t.Errorf("the firewall holds %v", open)
	}
}

// TestCounters wants counters to roll over and rates to stop at what fits.
func TestCounters(t *testing.T) {
	t.Parallel()
	p := gatewayConfigOf("default")
	p.traffic.BytesSent, p.traffic.BytesReceived = 1<<32+5, 1<<32-1
	p.traffic.PacketsSent, p.traffic.PacketsReceived = 5e9, 0
	h := testNet{}.newGateway(t, p)
	const common = "WANCommonInterfaceConfig:1"
	for action, want := range map[string][]string{
		"GetTotalBytesSent":       {"5"},
		"GetTotalBytesReceived":   {"4294967295"},
		"GetTotalPacketsSent":     {"705032704"},
		"GetTotalPacketsReceived": {"0"},
		"GetCommonLinkProperties": {"Ethernet", "1000000", "4294967295", "Up"},
	} {
		if got := ask(t, h.server, hosts["c1"], common, action); !slices.Equal(got.out, want) {
			t.Errorf("%s: %v, want %v", action, got, want)
		}
	}
}

// TestStatus wants the uplink connected only while it is up and has an address.
func TestStatus(t *testing.T) {
	t.Parallel()
	since := time.Now().Add(-time.Hour)
	for _, tt := range []struct {
		uplink       Uplink
		status, says string
		uptime       bool
	}{
		{Uplink{Up: true, Since: since}, "Connected", "ERROR_NONE", true},
		{Uplink{Up: true}, "Disconnected", "ERROR_IP_CONFIGURATION", false},
		{Uplink{Since: since}, "Disconnected", "ERROR_NO_CARRIER", false},
	} {
		p := gatewayConfigOf("default")
		p.uplink = tt.uplink
		got := ask(t, testNet{}.newGateway(t, p).server, hosts["c1"], v2, "GetStatusInfo")
		if len(got.out) != 3 || got.out[0] != tt.status || got.out[1] != tt.says || (got.out[2] >= "3600") != tt.uptime || len(got.out[2]) > 4 {
			t.Errorf("%+v: %v", tt.uplink, got)
		}
	}
}

// TestVersions wants each type of a request served by its own rules, and a
// gateway of version 1 without anything of version 2.
func TestVersions(t *testing.T) {
	t.Parallel()
	both, one := testNet{}.newGateway(t, gatewayConfigOf("both")), testNet{}.newGateway(t, gatewayConfigOf("v1"))
	const ppp = "WANPPPConnection:1"
	for _, tt := range []struct {
		gateway *testGateway
		service string
		want    int
	}{
		{both, v1, 606}, {both, v2, 606}, {one, v1, 401}, {one, v2, 401},
	} {
		arguments := []string{"", "4000", "TCP", "4000", hosts["c2"], "1", "", "0"}
		if got := ask(t, tt.gateway.server, hosts["c1"], tt.service, "AddAnyPortMapping", arguments...); got.code != tt.want {
			t.Errorf("AddAnyPortMapping of %s: %v, want %d", tt.service, got, tt.want)
		}
	}
	if one.server.controls["/ctl/IP6FCtl"] != nil {
		t.Error("version 1 has pinholes")
	}
	got := send(t, both.server, hosts["c1"], "/ctl/IPConn", "urn:schemas-upnp-org:service:"+ppp+"#GetExternalIPAddress",
		`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:GetExternalIPAddress xmlns:u="urn:schemas-upnp-org:service:`+
			ppp+`"/></s:Body></s:Envelope>`)
	if !slices.Equal(got.out, []string{hosts["ext"]}) {
		t.Errorf("the address by %s: %v", ppp, got)
	}
}

// TestVersionOfBody wants the rules of the version that the body names, whatever
// the field says.
func TestVersionOfBody(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("both"))
	one := testNet{}.newGateway(t, gatewayConfigOf("v1"))
	c1 := hosts["c1"]
	call := func(h *testGateway, field, body, action, arguments string) string {
		return send(t, h.server, c1, "/ctl/IPConn", field+"#"+action,
			`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:`+action+` xmlns:u="`+body+`">`+
				arguments+"</u:"+action+"></s:Body></s:Envelope>").String()
	}
	const key = "<NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol>"
	const target = key + "<NewInternalPort>4000</NewInternalPort><NewInternalClient>"
	for _, tt := range []struct{ field, body, lease, foreign, of1 string }{
		{ip1, ip2, "604800", "606", "401"},
		{ip2, ip1, "0", "718", "401"},
		{ppp1, ip1, "0", "718", "718"},
		{ip1, ppp1, "0", "718", "718"},
		{ppp1, ip2, "604800", "606", "401"},
	} {
		if got := call(h, tt.field, tt.body, "AddPortMapping", target+hosts["c2"]+"</NewInternalClient>"); got != tt.foreign {
			t.Errorf("for another host by %s and %s: %s", tt.field, tt.body, got)
		}
		if got := call(one, tt.field, tt.body, "AddPortMapping", target+hosts["c2"]+"</NewInternalClient>"); got != tt.of1 {
			t.Errorf("for another host by %s and %s of version 1: %s", tt.field, tt.body, got)
		}
		if got := call(h, tt.field, tt.body, "AddPortMapping", target+c1+"</NewInternalClient>"); got != "200 []" {
			t.Errorf("by %s and %s: %s", tt.field, tt.body, got)
		}
		want := fmt.Sprintf(`200 ["4000" "%s" "1" "" "%s"]`, c1, tt.lease)
		if got := call(h, tt.field, tt.body, "GetSpecificPortMappingEntry", key); got != want {
			t.Errorf("by %s and %s: %s, want %s", tt.field, tt.body, got, want)
		}
		if got := call(h, tt.field, tt.body, "DeletePortMapping", key); got != "200 []" {
			t.Errorf("delete by %s and %s: %s", tt.field, tt.body, got)
		}
	}
}

// TestQuery reads variables in UDA 1.0's way.
func TestQuery(t *testing.T) {
	t.Parallel()
	both, one := testNet{}.newGateway(t, gatewayConfigOf("both")), testNet{}.newGateway(t, gatewayConfigOf("v1"))
	for _, tt := range []struct {
		gateway *testGateway
		path    string
		name    string
		want    string
	}{
		{both, "/ctl/IPConn", "ConnectionStatus", `200 ["Connected"]`},
		{both, "/ctl/IPConn", "SystemUpdateID", `200 ["0"]`},
		{one, "/ctl/IPConn", "SystemUpdateID", "404"},
		{both, "/ctl/IPConn", "RemoteHost", "404"},
		{both, "/ctl/IPConn", "PhysicalLinkStatus", "404"},
		{both, "/ctl/CmnIfCfg", "PhysicalLinkStatus", `200 ["Up"]`},
	} {
		got := send(t, tt.gateway.server, hosts["c1"], tt.path, "urn:schemas-upnp-org:control-1-0#QueryStateVariable",
			`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>`+
				`<u:QueryStateVariable xmlns:u="urn:schemas-upnp-org:control-1-0"><u:varName>`+tt.name+
				"</u:varName></u:QueryStateVariable></s:Body></s:Envelope>")
		if got.String() != tt.want {
			t.Errorf("%s at %s: %v, want %s", tt.name, tt.path, got, tt.want)
		}
	}
}

// TestMPOST reads the action of a request that hides it behind a number.
func TestMPOST(t *testing.T) {
	t.Parallel()
	r := &request{method: "M-POST", fields: map[string]string{
		"man": `"http://schemas.xmlsoap.org/soap/envelope/"; ns=42`, "42-soapaction": "a#b", "soapaction": "c#d",
	}}
	if got := r.soapAction(); got != "a#b" {
		t.Errorf("action %q", got)
	}
}

// BenchmarkGetSpecificPortMappingEntry measures control without the network.
func BenchmarkGetSpecificPortMappingEntry(b *testing.B) {
	h := testNet{}.newGateway(b, gatewayConfigOf("default"))
	h.server.opts.Log = slog.New(slog.DiscardHandler)
	add(b, h.server, hosts["c1"], v2, "4000", "0")
	r := &request{
		method: "POST", path: "/ctl/IPConn", client: netip.MustParseAddr(hosts["c1"]),
		fields: map[string]string{"soapaction": `"urn:schemas-upnp-org:service:WANIPConnection:2#GetSpecificPortMappingEntry"`},
		body: []byte(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` +
			`<u:GetSpecificPortMappingEntry xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:2"><NewRemoteHost></NewRemoteHost>` +
			`<NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol></u:GetSpecificPortMappingEntry></s:Body></s:Envelope>`),
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := h.server.control(r); got.status != 200 {
			b.Fatal(got.status)
		}
	}
}

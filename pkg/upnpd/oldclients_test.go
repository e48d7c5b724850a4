package upnpd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// oldCalls are the actions that clients of version 1 may call, in the order in
// which they are called: service type, action, arguments.
var oldCalls = [][]string{
	{"Layer3Forwarding:1", "GetDefaultConnectionService"},
	{"Layer3Forwarding:1", "SetDefaultConnectionService", "NewDefaultConnectionService=uuid:x,y"},
	{"WANCommonInterfaceConfig:1", "GetCommonLinkProperties"},
	{"WANCommonInterfaceConfig:1", "GetTotalBytesSent"},
	{"WANCommonInterfaceConfig:1", "GetTotalBytesReceived"},
	{"WANCommonInterfaceConfig:1", "GetTotalPacketsSent"},
	{"WANCommonInterfaceConfig:1", "GetTotalPacketsReceived"},
	{"WANIPConnection:1", "SetConnectionType", "NewConnectionType=Unconfigured"},
	{"WANIPConnection:1", "GetConnectionTypeInfo"},
	{"WANIPConnection:1", "RequestConnection"},
	{"WANIPConnection:1", "ForceTermination"},
	{"WANIPConnection:1", "GetStatusInfo"},
	{"WANIPConnection:1", "GetNATRSIPStatus"},
	{"WANIPConnection:1", "GetExternalIPAddress"},
	{"WANIPConnection:1", "GetGenericPortMappingEntry", "NewPortMappingIndex=0"},
	{"WANIPConnection:1", "AddPortMapping", "NewRemoteHost=", "NewExternalPort=4000", "NewProtocol=UDP", "NewInternalPort=4001",
		"NewInternalClient=192.168.77.10", "NewEnabled=1", "NewPortMappingDescription=Xbox", "NewLeaseDuration=0"},
	{"WANIPConnection:1", "GetSpecificPortMappingEntry", "NewRemoteHost=", "NewExternalPort=4000", "NewProtocol=UDP"},
	{"WANIPConnection:1", "GetGenericPortMappingEntry", "NewPortMappingIndex=0"},
	{"WANIPConnection:1", "AddPortMapping", "NewRemoteHost=", "NewExternalPort=80", "NewProtocol=TCP", "NewInternalPort=4001",
		"NewInternalClient=192.168.77.10", "NewEnabled=1", "NewPortMappingDescription=Xbox", "NewLeaseDuration=0"},
	{"WANIPConnection:1", "DeletePortMapping", "NewRemoteHost=", "NewExternalPort=4000", "NewProtocol=UDP"},
	{"WANIPConnection:1", "DeletePortMapping", "NewRemoteHost=", "NewExternalPort=4000", "NewProtocol=UDP"},
	{"WANIPConnection:1", "AddAnyPortMapping", "NewRemoteHost=", "NewExternalPort=4000", "NewProtocol=UDP", "NewInternalPort=4001",
		"NewInternalClient=192.168.77.10", "NewEnabled=1", "NewPortMappingDescription=Xbox", "NewLeaseDuration=0"},
	{"WANIPConnection:1", "NoSuchAction"},
	{"WANIPConnection:2", "GetExternalIPAddress"},
	{"WANIPConnection:2", "SetConnectionType", "NewConnectionType=Unconfigured"},
	{"WANIPConnection:2", "ForceTermination"},
	{"WANPPPConnection:1", "GetExternalIPAddress"},
	{"WANIPv6FirewallControl:1", "GetFirewallStatus"},
	{"WANIPv6FirewallControl:1", "DeletePinhole", "UniqueID=1"},
}

// oldControls are the control URLs of the services.
var oldControls = map[string]string{
	"Layer3Forwarding": "/ctl/L3F", "WANCommonInterfaceConfig": "/ctl/CmnIfCfg", "WANIPConnection": "/ctl/IPConn",
	"WANPPPConnection": "/ctl/IPConn", "WANIPv6FirewallControl": "/ctl/IP6FCtl",
}

// client is an HTTP client on c1 with a User-Agent.
type client struct {
	*http.Client
	agent string
	heard bytes.Buffer // what it got: status and body of each answer
}

func (s testNet) client(agent string) *client {
	dial := func(_ context.Context, _, to string) (net.Conn, error) {
		return s.dial("c1", netip.MustParseAddrPort(to))
	}
	return &client{Client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, agent: agent}
}

// ask sends a request and notes the answer under a headline.
func (c *client) ask(t *testing.T, headline, method, path string, fields http.Header, body string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+hosts["gw1"]+":5555"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if fields != nil {
		r.Header = fields
	}
	r.Header.Set("User-Agent", c.agent)
	a, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&c.heard, "%s: %d\n%s\n", headline, a.StatusCode, text)
}

// call calls an action.
func (c *client) call(t *testing.T, serviceType, action string, arguments ...string) {
	t.Helper()
	name, _, _ := strings.Cut(serviceType, ":")
	serviceType = "urn:schemas-upnp-org:service:" + serviceType
	var in strings.Builder
	for _, argument := range arguments {
		name, value, _ := strings.Cut(argument, "=")
		fmt.Fprintf(&in, "<%s>%s</%s>", name, value, name)
	}
	c.ask(t, serviceType+"#"+action, "POST", oldControls[name], http.Header{
		"Soapaction": {`"` + serviceType + "#" + action + `"`}, "Content-Type": {`text/xml; charset="utf-8"`},
	}, fmt.Sprintf(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
		`s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%s xmlns:u="%s">%s</u:%s></s:Body></s:Envelope>`,
		action, serviceType, in.String(), action))
}

// TestOldClients wants documents and answers for clients that break on any
// sight of version 2 to stay as they are, octet by octet.
func TestOldClients(t *testing.T) {
	t.Parallel()
	s := newTestNet(t)
	for config, golden := range map[string]string{"both": "both", "v1": "1", "default": "2"} {
		want, err := os.ReadFile("testdata/oldclients/" + golden + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		for _, agent := range []string{xbox, "FDSSDP"} {
			t.Run(golden+" "+agent, func(t *testing.T) {
				p := gatewayConfigOf(config)
				p.uplink.Since = time.Now().Add(time.Hour) // Uptime is 0
				s.startGateway(t, p)
				c := s.client(agent)
				for _, path := range []string{
					"/rootDesc.xml", "/rootDesc2.xml", "/L3F.xml", "/WANCfg.xml", "/WANIPCn.xml", "/WANIPCn2.xml", "/WANIP6FC.xml",
				} {
					c.ask(t, path, "GET", path, nil, "")
				}
				for _, call := range oldCalls {
					c.call(t, call[0], call[1], call[2:]...)
				}
				if got := c.heard.Bytes(); !bytes.Equal(got, want) {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}

package daemon_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"igdd/pkg/netlab"
)

// addPortMapping asks for TCP 4000 to a host's port 4000 by UPnP, as the first
// client, and returns the answer's status and body.
func (r *rig) addPortMapping(t testing.TB, host string) (int, string) {
	t.Helper()
	return r.invoke(t, "AddPortMapping", fmt.Sprintf(`<NewRemoteHost></NewRemoteHost><NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol>`+
		`<NewInternalPort>4000</NewInternalPort><NewInternalClient>%s</NewInternalClient><NewEnabled>1</NewEnabled>`+
		`<NewPortMappingDescription>test</NewPortMappingDescription><NewLeaseDuration>600</NewLeaseDuration>`, host))
}

// invoke calls an action of WANIPConnection as the first client and returns the
// answer's status and body.
func (r *rig) invoke(t testing.TB, action, arguments string) (int, string) {
	t.Helper()
	return r.invokeAs(t, r.Clients[0], action, arguments)
}

// invokeAs is invoke for any client.
func (r *rig) invokeAs(t testing.TB, from *netlab.Namespace, action, arguments string) (int, string) {
	t.Helper()
	status, answer, err := callAction(from, action, arguments)
	if err != nil {
		t.Fatal(err)
	}
	return status, answer
}

// callAction does so, and returns an error if the daemon does not answer.
func callAction(from *netlab.Namespace, action, arguments string) (status int, answer string, err error) {
	const service = "urn:schemas-upnp-org:service:WANIPConnection:1"
	body := fmt.Sprintf(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
		`s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%[1]s xmlns:u="%[2]s">%[3]s</u:%[1]s></s:Body></s:Envelope>`,
		action, service, arguments)
	err = from.Do(func() error {
		conn, err := net.Dial("tcp", net.JoinHostPort(netlab.RouterLAN.Addr().String(), "5000"))
		if err != nil {
			return err
		}
		client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
		req, err := http.NewRequest("POST", "http://"+conn.RemoteAddr().String()+"/ctl/IPConn", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("SOAPAction", fmt.Sprintf("%q", service+"#"+action))
		req.Close = true
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		status, answer = resp.StatusCode, string(text)
		return err
	})
	return status, answer, err
}

// TestSettingFromFileToAnswer follows settings from the text of rc.conf to the
// answer that a client gets.
func TestSettingFromFileToAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ setting, target, fault string }{
		{`UPNP_SECURE_MODE="no"`, "192.168.50.77", ""},
		{`UPNP_SECURE_MODE="off"`, "192.168.50.77", "718"},
		{``, "192.168.50.77", "718"},
		{``, "192.168.50.10", ""},
		{`UPNP_ALLOW="192.168.50.11 192.168.50.10~22"`, "192.168.50.10", "718"},
		{`UPNP_ALLOW="192.168.50.10~3999-4001"`, "192.168.50.10", ""},
	} {
		t.Run(tt.setting+" "+tt.target, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "legacy", netlab.Layout{})
			conf := "EXTIF=wan0\nINTIF=lan0\nINTIP=192.168.50.1\nINTNM=255.255.255.0\nUPNP_LISTEN=\"INTIF DMZIF\"\nUPNP_ENABLE_UPNP=\"yes\"\n" +
				"UPNP_LEASE_FILE=" + r.path("upnp.leases") + "\nUPNP_CONTROL_SOCKET=" + r.path("ctl") + "\nUPNP_SANDBOX=" + r.sandbox() + "\n" + tt.setting + "\n"
			if err := os.WriteFile(r.path("rc.conf"), []byte(conf), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := r.run("-c", r.path("rc.conf")); err != nil {
				t.Fatalf("the daemon does not start: %v: %s", err, out)
			}
			status, answer := r.addPortMapping(t, tt.target)
			if tt.fault == "" && status != 200 || tt.fault != "" && !strings.Contains(answer, "<errorCode>"+tt.fault+"</errorCode>") {
				t.Errorf("status %d, want fault %q: %s", status, tt.fault, answer)
			}
		})
	}
}

package daemon_test

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// TestTornRules starts the daemon with rules that cannot be read: it serves, says so,
// and grants no more than what is left of them allows.
func TestTornRules(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{Clients: 2})
	byConf := func(rules ...string) func() []string {
		return func() []string {
			r.configure(t, rules...)
			return []string{"-f", r.path("miniupnpd.conf")}
		}
	}
	byRC := func() []string {
		text := "EXTIF=wan0\nINTIF=lan0\nINTIP=192.168.50.1\nINTNM=255.255.255.0\nUPNP_LISTEN=INTIF\nUPNP_ENABLE_NATPMP=yes\n" +
			"UPNP_ALLOW=\"192.168.50.10/33 192.168.50.11\"\nUPNP_LEASE_FILE=" + r.path("upnp.leases") + "\nUPNP_CONTROL_SOCKET=" + r.path("ctl") + "\nUPNP_SANDBOX=" + r.sandbox() + "\n"
		if err := os.WriteFile(r.path("rc.conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{"-c", r.path("rc.conf")}
	}
	const denied, granted = natpmp.NotAuthorized, natpmp.Success
	all := ruleFor("allow", "192.168.50.0/24")
	for _, tt := range []struct {
		write func() (args []string)
		says  string
		want  [2]natpmp.Result // of the clients
	}{
		{byConf("deny 0-65535 192.168.50.10/33 0-65535", all), "is taken as", [2]natpmp.Result{denied, denied}},
		{byConf("deny 0-65536 192.168.50.10/32 0-65535", all), "is taken as", [2]natpmp.Result{denied, granted}},
		{byConf("dany 0-65535 192.168.50.10/33 0-65535", all), "is neither allow nor deny", [2]natpmp.Result{denied, denied}},
		{byConf(ruleFor("allow", "192.168.50.10/33")), "no mapping is allowed", [2]natpmp.Result{denied, denied}},
		{byRC, "skipped", [2]natpmp.Result{denied, granted}},
	} {
		args := tt.write()
		if out, err := r.run(append(args, "-t")...); err == nil || !strings.Contains(out, tt.says) {
			t.Errorf("-t of %q: %v: %s", args, err, out)
		}
		var log bytes.Buffer
		cmd := r.Router.Command(r.program, append(args, "-d", "-P", r.path("pid"))...)
		cmd.Env, cmd.Stderr = r.env, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r.awaitServed(t)
		for i, source := range []netip.Addr{client1, client2} {
			if resp := r.natpmpMap(t, r.Clients[i], source, mapping(natpmp.MapTCP, 4000, 0, time.Hour)); resp.Result != tt.want[i] {
				t.Errorf("%s: client %d: %v, want %v", tt.says, i, resp.Result, tt.want[i])
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || !strings.Contains(log.String(), tt.says) {
			t.Errorf("%v: no %q in\n%s", err, tt.says, log.String())
		}
		r.removeFiles(t)
	}
}

// TestRulesForIPv6Addresses names hosts by IPv6 addresses, which counts over IPv6 alone.
func TestRulesForIPv6Addresses(t *testing.T) {
	t.Parallel()
	r := newPCPRig(t, "nft")
	for _, tt := range []struct {
		rules []string
		want  [2]pcp.Result // of the clients over IPv6
		four  pcp.Result
	}{
		{[]string{ruleFor("allow", "2001:db8:50::10"), denyAll}, [2]pcp.Result{pcp.Success, pcp.NotAuthorized}, pcp.NotAuthorized},
		{[]string{ruleFor("allow", "2001:db8:50::10/32"), denyAll}, [2]pcp.Result{pcp.Success, pcp.NotAuthorized}, pcp.NotAuthorized}, // as AstLinux's script writes it
		{[]string{ruleFor("allow", "2001:db8:50::/64"), denyAll}, [2]pcp.Result{pcp.Success, pcp.Success}, pcp.NotAuthorized},
		{[]string{ruleFor("deny", "2001:db8:50::10/128"), ruleFor("allow", "0.0.0.0/0")}, [2]pcp.Result{pcp.NotAuthorized, pcp.Success}, pcp.Success},
	} {
		r.removeFiles(t)
		r.start(t, append(tt.rules, "ipv6=yes", "enable_upnp=yes")...)
		for i, want := range tt.want {
			if resp := r.pcp(t, i, pcpMap(sixes[i], 6, 4000, 4000)); resp.Result != want {
				t.Errorf("%s: client %d by PCP: %v, want %v", tt.rules[0], i, resp.Result, want)
			}
			pinhole := "Pinhole ID = "
			if want != pcp.Success {
				pinhole = "failed with code 606"
			}
			out, _ := r.Clients[i].Command("upnpc", "-6", "-u", "http://[2001:db8:50::1]:5000/rootDesc2.xml", "-A", "", "0", "@", "4001", "6", "600").CombinedOutput()
			demandSaid(t, string(out), pinhole)
		}
		if resp := r.pcp(t, 0, pcpMap(client1, 6, 4000, 0)); resp.Result != tt.four {
			t.Errorf("%s: over IPv4: %v, want %v", tt.rules[0], resp.Result, tt.four)
		}
		r.stop(t, syscall.SIGTERM)
	}
}

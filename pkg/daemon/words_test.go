package daemon_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// ruleOf returns the rule by which explain says that a client would be answered.
func (r *rig) ruleOf(t testing.TB, q question) string {
	t.Helper()
	text, _ := r.ctl(t, "explain", "--json", addressOf(q.client).String(), q.protocol, fmt.Sprint(q.external), fmt.Sprint(q.internal), "as", q.origin)
	var list []struct{ Rule string }
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 {
		t.Fatalf("%+v: %v: %s", q, err, text)
	}
	return list[0].Rule
}

// inWords writes settings with rules in words, for two LANs, and returns the place where
// the n-th of them stands.
func (r *rig) inWords(t testing.TB, rules ...string) (place func(n int) string) {
	t.Helper()
	lines := []string{"enable_upnp=yes", "listening_ip=lan1"}
	for _, rule := range rules {
		lines = append(lines, "rule="+rule)
	}
	r.configure(t, append(lines, denyAll)...)
	text, err := os.ReadFile(r.path("miniupnpd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "rule=")
	first := strings.Count(before, "\n") + 1
	return func(n int) string { return fmt.Sprintf("(%s:%d)", r.path("miniupnpd.conf"), first+n-1) }
}

// TestRulesInWords asks by each protocol, as hosts of two LANs: the answers are those of
// the rules, and explain names the line that decides.
func TestRulesInWords(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{Clients: 2, SecondLAN: true})
		hardware := r.hardware(t, 1).String()
		rules := []string{
			"name tv " + hardware,
			"deny from upnp host 192.168.50.10",
			"allow external 7000-7001,7003 host TV from natpmp,upnp  # the one in the kitchen",
			"deny interface lan1 external 7000-7999",
			"allow external 7000-7999 internal 7000-7999",
			"deny host 192.168.50.10; deny host somebody",
		}
		place := r.inWords(t, rules...)
		if out, err := r.run("-t", "-f", r.path("miniupnpd.conf")); err == nil || !strings.Contains(out, "rule=deny host 192.168.50.10 from upnp\n"+
			"rule=allow external 7000-7001,7003 host "+hardware+" from natpmp,upnp\nrule=deny external 7000-7999 interface lan1\n") ||
			!strings.Contains(out, `rule "deny host somebody" is taken as "deny"`) {
			t.Errorf("-t: %v:\n%s", err, out)
		}
		if out, err := r.launch(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		const upnp, lan1 = "deny host 192.168.50.10 from upnp ", "deny external 7000-7999 interface lan1 "
		tv, all := "allow external 7000-7001,7003 host "+hardware+" from natpmp,upnp ", "allow external 7000-7999 internal 7000-7999 "
		for _, tt := range []struct {
			q       question
			granted bool
			rule    string
		}{
			{question{0, "natpmp", "tcp", 7000, 7000}, true, all + place(5)},
			{question{0, "pcp", "udp", 7000, 7000}, true, all + place(5)},
			{question{0, "upnp", "tcp", 7000, 7000}, false, upnp + place(2)},
			{question{0, "upnp", "udp", 7009, 7009}, false, upnp + place(2)},
			{question{0, "pcp", "tcp", 8000, 8000}, false, "deny host 192.168.50.10 " + place(6)},
			{question{1, "upnp", "tcp", 7001, 22}, true, tv + place(3)},
			{question{1, "natpmp", "tcp", 7003, 23}, true, tv + place(3)},
			{question{1, "pcp", "tcp", 7002, 24}, false, "deny " + place(6)},
			{question{1, "upnp", "tcp", 7002, 25}, false, "deny " + place(6)},
		} {
			rule, want, got := r.ruleOf(t, tt.q), r.explain(t, tt.q), r.request(t, tt.q)
			if rule != tt.rule || got.Granted != tt.granted || want.Granted != tt.granted || want.ExternalPort != got.ExternalPort {
				t.Errorf("%+v: %+v, explained as %+v by %q; want %v by %q", tt.q, got, want, rule, tt.granted, tt.rule)
			}
		}
		client3 := netip.MustParseAddr("192.168.60.10")
		if resp := r.natpmpMap(t, r.Client2, client3, mapping(natpmp.MapTCP, 7005, 7005, time.Hour)); resp.Result != natpmp.NotAuthorized {
			t.Errorf("behind the other interface: %v", resp.Result)
		}
		r.says(t, "explain 192.168.60.10 tcp 7005 7005 as natpmp", 4, "rule: "+lan1+place(4))
		r.says(t, "history", 0, lan1+place(4))
	})
}

// TestHiddenByRulesInWords hides the gateway from the hosts behind one interface.
func TestHiddenByRulesInWords(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{Clients: 2, SecondLAN: true})
	r.inWords(t, "allow interface lan0 from pcp", "deny")
	text, err := os.ReadFile(r.path("miniupnpd.conf"))
	if err == nil {
		err = os.WriteFile(r.path("miniupnpd.conf"), append(text, "hidden=yes\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := r.launch(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.awaitServed(t)
	r.says(t, "explain 192.168.50.10 tcp 4000 4000 as pcp", 0, "PCP: granted, external port 4000")
	r.says(t, "explain 192.168.50.10 tcp 4000 4000 as natpmp", 4, "NAT-PMP: refused: result 2")
	r.says(t, "explain 192.168.60.10 tcp 4000 4000 as pcp", 4, "PCP: no answer: the gateway is hidden")
	if reply, _ := exchange(t, r.Client2, netip.MustParseAddr("192.168.60.10"), netlab.RouterLAN2.Addr(), []byte{0, 0}, hush); reply != nil {
		t.Errorf("a host that may have no port is answered %x", reply)
	}
}

// TestReloadOfRulesInWords has a mapping held by two protocols, and reads rules that deny
// it to one of them.
func TestReloadOfRulesInWords(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{Clients: 2, SecondLAN: true})
	r.inWords(t, "allow")
	if out, err := r.launch(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	if resp := r.pcp(t, 0, pcpMap(client1, 6, 4000, 4000)); resp.Result != pcp.Success {
		t.Fatalf("PCP: %v", resp.Result)
	}
	pid := r.pid()
	origins := func() []string {
		list := r.entries(t)
		if len(list) != 1 {
			return nil
		}
		return list[0].Origins
	}
	demandOrigins := func(want ...string) {
		t.Helper()
		await(t, fmt.Sprint("a mapping by ", want), func() bool { return slices.Equal(origins(), want) })
	}
	demandOrigins("NAT-PMP", "PCP")
	r.inWords(t, "deny from natpmp", "allow")
	r.kill(syscall.SIGHUP)
	demandOrigins("PCP")
	r.dial("tcp", 4000).Arrives(t)
	r.inWords(t, "deny interface lan0", "allow")
	r.kill(syscall.SIGHUP)
	await(t, "no mapping", func() bool { return len(r.entries(t)) == 0 })
	r.dial("tcp", 4000).Blocked(t)
	if r.pid() != pid {
		t.Error("the daemon was restarted")
	}
}

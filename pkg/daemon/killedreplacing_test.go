package daemon_test

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
)

// TestKilledWhileReplacing kills a daemon with nft that has added the rules of a mapping's
// new version, and lists the tables to delete those of the old one. The next one has
// rules for what it lists, and no others.
func TestKilledWhileReplacing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	r.replacing()
	arguments := func(port int) string {
		return fmt.Sprintf(`<NewRemoteHost></NewRemoteHost><NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol>`+
			`<NewInternalPort>%d</NewInternalPort><NewInternalClient>%v</NewInternalClient><NewEnabled>1</NewEnabled>`+
			`<NewPortMappingDescription></NewPortMappingDescription><NewLeaseDuration>3600</NewLeaseDuration>`, port, client1)
	}
	demand := func(when string, port int) {
		t.Helper()
		if status, body := r.invoke(t, "AddPortMapping", arguments(port)); status != 200 {
			t.Fatalf("%s: %d %s", when, status, body)
		}
		r.demandRulesAsListed(t, when)
	}
	r.start(t, "enable_upnp=yes")
	demand("at first", 4001)
	r.stop(t, syscall.SIGKILL) // the next one knows no handle
	relaunch := func() {
		t.Helper()
		if out, err := r.launch(); err != nil {
			t.Fatalf("the daemon does not start again: %v: %s", err, out)
		}
	}
	relaunch()
	listing, release := r.path("listing"), r.path("release")
	restore := r.stub(t, "iptables-save", `tables=$(/usr/sbin/iptables-nft-save "$@")
case $tables in *:4002*)
	: >`+listing+`
	until [ -e `+release+` ]; do sleep 0.05; done
esac
echo "$tables"`)
	ended := make(chan error)
	go func() { _, _, err := callAction(r.Clients[0], "AddPortMapping", arguments(4002)); ended <- err }()
	await(t, "the tables to be listed for the deletion", func() bool { _, err := os.Stat(listing); return err == nil })
	if rules := r.rulesOf(t, "nat", "MINIUPNPD"); len(rules) != 2 {
		t.Errorf("in the middle the rules are %q", rules)
	}
	r.stop(t, syscall.SIGKILL)
	if <-ended == nil {
		t.Error("the request was answered")
	}
	restore()
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	relaunch()
	r.demandRulesAsListed(t, "after the end")
	demand("once more", 4003)
}

// demandRulesAsListed waits until the rules are those of the mappings that the daemon
// lists, of which there is one.
func (r *rig) demandRulesAsListed(t testing.TB, when string) {
	t.Helper()
	await(t, when+": the rules of the one mapping that is listed", func() bool {
		if _, status := r.ctl(t, "list", "--json"); status != 0 {
			return false // the control socket comes a moment after the clients'
		}
		list, rules := r.entries(t), r.mappingRules(t)
		want := rulesFor(list)
		slices.Sort(want)
		slices.Sort(rules)
		return len(list) == 1 && slices.Equal(rules, want)
	})
}

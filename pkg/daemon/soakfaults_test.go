package daemon_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// fault is something that happens to the router or its daemon.
type fault struct {
	what string
	do   func()
	ends bool // the daemon's process
}

// state is a fault that lasts until it is ended.
type state struct {
	what       string
	begin, end func()
	isOn       bool
}

// faults returns all faults.
func (s *soakRun) faults() (list []fault) {
	list = []fault{
		{what: "restart the firewall", do: func() { s.stopFirewall(); s.pause(500 * time.Millisecond); s.startFirewall() }},
		{what: "load the firewall anew at once", do: s.restoreFirewall},
		{what: "delete the chains", do: s.deleteChains},
		{what: "flush nat", do: func() { s.edit("-t nat -F"); s.edit("-t nat -A POSTROUTING -o wan+ -j MASQUERADE") }},
		{what: "flush a chain", do: func() { s.edit("-F MINIUPNPD") }},
		{what: "flush the IPv6 chain", do: func() { s.edit6("-F MINIUPNPD") }},
		{what: "another WAN address", do: s.moveWAN},
		{what: "SIGHUP", do: func() { s.kill(syscall.SIGHUP) }},
		{what: "SIGHUP with other settings", do: s.changeSettings},
		{what: "SIGUSR1", do: func() { s.kill(syscall.SIGUSR1) }},
		{what: "kill", do: func() { s.end(syscall.SIGKILL); s.serve() }, ends: true},
		{what: "kill while it starts", do: s.killAtStart, ends: true},
		{what: "stop and start", do: func() { s.end(syscall.SIGTERM); s.pause(time.Second); s.serve() }, ends: true},
		{what: "hand over", do: func() { s.end(syscall.SIGUSR2); s.serve() }, ends: true},
		{what: "restart the firewall while no daemon runs", do: func() { s.end(syscall.SIGKILL); s.stopFirewall(); s.startFirewall(); s.serve() }, ends: true},
	}
	for _, st := range s.states {
		list = append(list, fault{what: st.what, do: func() { s.begin(st) }, ends: st == s.readOnly})
	}
	return list
}

// newStates returns the faults that last.
func (s *soakRun) newStates() {
	s.full = &state{what: "full disk", begin: s.fillDisk, end: s.emptyDisk}
	s.readOnly = &state{what: "disk mounted read-only", begin: s.mountReadOnly, end: s.mountWritable}
	s.states = []*state{
		{what: "WAN link down", begin: func() { s.device("wan0", "down") }, end: func() { s.device("wan0", "up"); s.moveWAN() }},
		{what: "WAN without address", begin: func() { s.Router.IP(s.t, "-4", "address", "flush", "dev", "wan0") }, end: s.moveWAN},
		{what: "first LAN down", begin: func() { s.device("lan0", "down") }, end: func() { s.device("lan0", "up"); s.addressLANs() }},
		{what: "second LAN down", begin: func() { s.device("lan1", "down") }, end: func() { s.device("lan1", "up"); s.addressLANs() }},
		{what: "second LAN without addresses", begin: func() { s.Router.IP(s.t, "address", "flush", "dev", "lan1") }, end: s.addressLANs},
		{what: "stuck syslogd", begin: s.syslogd.stop, end: s.syslogd.resume},
		s.full, s.readOnly,
	}
}

// cause causes a fault.
func (s *soakRun) cause(f fault) {
	s.log(f.what)
	f.do()
	s.caused++
}

// begin begins a fault that lasts.
func (s *soakRun) begin(st *state) {
	if !st.isOn {
		st.isOn = true
		st.begin()
	}
}

// calm ends faults that last.
func (s *soakRun) calm(states ...*state) {
	for _, st := range states {
		if st.isOn {
			s.log("end of that: " + st.what)
			st.isOn = false
			st.end()
		}
	}
}

// calmSome ends some faults that last: they last for three others on average.
func (s *soakRun) calmSome() {
	for _, st := range s.states {
		if s.rng.IntN(3) == 0 {
			s.calm(st)
		}
	}
}

// pause waits for a random time.
func (s *soakRun) pause(most time.Duration) { time.Sleep(time.Duration(s.rng.Int64N(int64(most)))) }

// demand ends the run if the lab itself fails.
func (s *soakRun) demand(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// device sets a device of the router up or down.
func (s *soakRun) device(name, to string) { s.Router.IP(s.t, "link", "set", name, to) }

// addressLANs gives the LANs the addresses that they lack.
func (s *soakRun) addressLANs() {
	for dev, addresses := range map[string][]string{
		"lan0": {netlab.RouterLAN.String(), netlab.RouterLAN6.String(), "fe80::1/64"},
		"lan1": {netlab.RouterLAN2.String(), soakLAN6},
	} {
		for _, a := range addresses {
			s.Router.Command("ip", "address", "add", a, "dev", dev, "nodad").Run() // it may be there
		}
	}
}

// moveWAN gives the uplink another address, and what the kernel forgot with the last one.
func (s *soakRun) moveWAN() {
	s.wan = 44 + 45 - s.wan
	s.Router.IP(s.t, "-4", "address", "flush", "dev", "wan0")
	s.Router.Address(s.t, "wan0", netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 22, 33, s.wan}), 24))
	s.Router.Command("ip", "address", "add", netlab.RouterWAN6.String(), "dev", "wan0", "nodad").Run() // it may be there
	s.Router.Command("ip", "route", "replace", "default", "via", "11.22.33.1").Run()                   // the link may be down
}

// edit edits the IPv4 rules. It may fail: the daemon edits them, too.
func (s *soakRun) edit(args string) { s.editBy("iptables", args) }

// edit6 is edit for IPv6.
func (s *soakRun) edit6(args string) { s.editBy("ip6tables", args) }

func (s *soakRun) editBy(program, args string) {
	cmd := s.Router.Command(program, append([]string{"-w"}, strings.Fields(args)...)...)
	cmd.Env = s.env
	cmd.Run()
}

// deleteChains deletes the daemon's chain in nat, and the jump to it.
func (s *soakRun) deleteChains() {
	for _, args := range []string{"-D PREROUTING -i wan0 -j MINIUPNPD", "-F MINIUPNPD", "-X MINIUPNPD"} {
		s.edit("-t nat " + args)
	}
}

// The rules of the administrator, as a script loads them one after the other. Chains may
// exist: the daemon may have created them meanwhile.
const (
	soakFlush = `
for program in iptables ip6tables; do
  for table in filter nat mangle; do
    $program -w -t $table -F
    $program -w -t $table -X 2>/dev/null
  done
done
true`

	soakRules = `
rule() { "$@" || exit 1; }
chain() { iptables -w -t $1 -N MINIUPNPD 2>/dev/null; iptables -w -t $1 -F MINIUPNPD; }
for program in iptables ip6tables; do
  rule $program -w -P FORWARD DROP
  rule $program -w -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
  rule $program -w -A FORWARD -i lan+ -o wan+ -j ACCEPT
done
chain filter
rule iptables -w -A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD
chain nat
rule iptables -w -t nat -A PREROUTING -i wan0 -j MINIUPNPD
rule iptables -w -t nat -A POSTROUTING -o wan+ -j MASQUERADE`

	soakRestore = `*nat
:PREROUTING ACCEPT
:POSTROUTING ACCEPT
:MINIUPNPD -
-A PREROUTING -i wan0 -j MINIUPNPD
-A POSTROUTING -o wan+ -j MASQUERADE
COMMIT
*filter
:FORWARD DROP
:MINIUPNPD -
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i lan+ -o wan+ -j ACCEPT
-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD
COMMIT
`
)

func (s *soakRun) stopFirewall()  { s.script(soakFlush) }
func (s *soakRun) startFirewall() { s.script(soakRules) }

// script runs a script on the router.
func (s *soakRun) script(text string) {
	s.t.Helper()
	cmd := s.Router.Command("sh", "-c", text)
	cmd.Env = s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("the firewall's script: %v: %s", err, out)
	}
}

// restoreFirewall loads the IPv4 rules in one transaction.
func (s *soakRun) restoreFirewall() {
	cmd := s.Router.Command("iptables-restore", "-w")
	cmd.Env, cmd.Stdin = s.env, strings.NewReader(soakRestore)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("iptables-restore: %v: %s", err, out)
	}
}

// changeSettings changes some settings. Those that deny ports begin to count before the
// daemon knows them, and end to count before it knows that.
func (s *soakRun) changeSettings() {
	s.denying = s.rng.IntN(3) == 0
	s.book.deny(s.denying)
	s.configureSoak()
	s.kill(syscall.SIGHUP)
}

// configureSoak writes the settings of the soak, with other ones among those that may
// change.
func (s *soakRun) configureSoak() {
	port := 5000 + s.rng.IntN(2)
	settings := []string{
		"listening_ip=lan1", "enable_upnp=yes", "ipv6=yes", "pcp_peer=yes", "pcp_lenient_nonce=no", "max_per_host=32",
		fmt.Sprintf("http_port=%d", port), fmt.Sprintf("notify_interval=%d", 60+s.rng.IntN(60)),
		"hairpin=" + []string{"no", "yes"}[s.rng.IntN(2)], "igd_version=" + []string{"both", "2"}[s.rng.IntN(2)], "lease_file=" + s.disk("upnp.leases"),
	}
	if s.denying {
		settings = append(settings, fmt.Sprintf("deny %d-65535 0.0.0.0/0 0-65535", deniedPort))
	}
	s.configure(s.t, append(settings, "allow 1024-65535 192.168.0.0/16 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535")...)
	s.httpPort.Store(int32(port))
}

// end ends the daemon by a signal. What the disk did not take is lost then.
func (s *soakRun) end(signal syscall.Signal) {
	s.stop(s.t, signal)
	s.forgetUnsaved()
}

// forgetUnsaved notes that the daemon has ended.
func (s *soakRun) forgetUnsaved() {
	if !s.unsaved.IsZero() {
		s.book.doubt(s.unsaved)
	}
}

// serve starts the daemon.
func (s *soakRun) serve() {
	cmd := s.command()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("the daemon does not start: %v: %s%s", err, out, s.syslogd.about(claim{}))
	}
}

// killAtStart kills the daemon, and again while it starts, at any instant.
func (s *soakRun) killAtStart() {
	s.end(syscall.SIGKILL)
	for range 1 + s.rng.IntN(2) {
		s.startAndKill(s.t)
		s.forgetUnsaved()
	}
	s.serve()
}

// disk returns the path of a file on the disk of the leases.
func (s *soakRun) disk(name string) string { return s.path("disk") + "/" + name }

// setDisk sets a flag of the disk's file system, "ro" or "rw", wherever it is mounted. A
// child of the daemon that has just ended may use it for a moment.
func (s *soakRun) setDisk(flag string) {
	s.t.Helper()
	await(s.t, "the disk to be "+flag, func() bool {
		err := reconfigure(s.path("disk"), flag)
		if err != unix.EBUSY {
			s.demand(err)
		}
		return err == nil
	})
}

// reconfigure sets a flag of a file system.
func reconfigure(path, flag string) error {
	fs, err := unix.Fspick(unix.AT_FDCWD, path, unix.FSPICK_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetFlag(fs, flag); err != nil {
		return err
	}
	return unix.FsconfigReconfigure(fs)
}

// fillDisk leaves no room on the disk.
func (s *soakRun) fillDisk() {
	s.calm(s.readOnly)
	s.beginUnsaved()
	if err := os.WriteFile(s.disk("other"), make([]byte, 2<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		s.t.Fatalf("the disk cannot be filled: %v", err)
	}
}

// mountReadOnly has the daemon start with a disk that cannot be written. While one runs,
// its open file keeps the disk from being mounted read-only.
func (s *soakRun) mountReadOnly() {
	s.calm(s.full)
	s.end(syscall.SIGKILL)
	s.beginUnsaved()
	s.setDisk("ro")
	s.serve()
}

// emptyDisk ends what fillDisk began.
func (s *soakRun) emptyDisk() {
	s.demand(os.Remove(s.disk("other")))
	s.writable = time.Now()
}

// mountWritable ends what mountReadOnly began.
func (s *soakRun) mountWritable() {
	s.setDisk("rw")
	s.writable = time.Now()
}

// awaitSaved waits until the daemon has written the leases after the disk could not be
// written: then all changes are on it.
func (s *soakRun) awaitSaved() {
	s.t.Helper()
	if s.unsaved.IsZero() {
		return
	}
	for deadline := time.Now().Add(agreeWithin); !s.isSaved() && !s.failed.Load(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.fail(claim{}, fmt.Sprintf("the leases are not written within %v", agreeWithin))
		}
	}
	s.unsaved = time.Time{}
}

// isSaved reports whether the lease file has been written since the disk can be written.
func (s *soakRun) isSaved() bool {
	info, err := os.Stat(s.disk("upnp.leases"))
	return err == nil && info.ModTime().After(s.writable)
}

// beginUnsaved notes that from now on changes may not reach the disk.
func (s *soakRun) beginUnsaved() {
	if s.unsaved.IsZero() {
		s.unsaved = time.Now()
	}
}

// choose returns the faults in random order again and again.
func choose(rng *rand.Rand, list []fault) func() fault {
	var left []fault
	return func() (f fault) {
		if len(left) == 0 {
			left = append(left, list...)
			rng.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		f, left = left[0], left[1:]
		return f
	}
}

package daemon_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

// The flags of TestSoak, which scripts/soak.sh sets. In the time that it lasts by itself
// each fault happens at least once, in the first third.
var (
	soak        = flag.Duration("soak", 8*time.Second, "how long TestSoak lasts")
	soakVariant = flag.String("soak-variant", "legacy", "TestSoak's variant of iptables")
	soakKills   = flag.Int("soak-kills", 0, "how often TestSoak kills the daemon, instead of all other faults")
	soakSeed    = flag.Uint64("soak-seed", 0, "the seed of TestSoak's random numbers; 0: another one each time")
)

// TestSoak has hosts of two LANs send random requests of all protocols, right and wrong
// ones, while random faults happen to the router and the daemon. What hosts were answered
// must be in the table, and kernel, lease file and miniupnpctl must agree with it. In the
// last two thirds nothing ends the daemon's process: in the last one it must not hold
// more than in the one before.
func TestSoak(t *testing.T) {
	t.Parallel()
	t.Run("installed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, *soakVariant, soakLayout)
		r.installed()
		r.soak(t)
	})
	t.Run("race detector", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, *soakVariant, soakLayout)
		r.detectRaces()
		r.soak(t)
	})
}

// soakLayout has the hosts of the first LAN; those of the second one are added.
var soakLayout = netlab.Layout{Clients: 8, SecondLAN: true, IPv6: true}

// soakHosts2 is the number of hosts on the second LAN.
const soakHosts2 = 4

// soakLAN6 is the router's IPv6 address on the second LAN.
const soakLAN6 = "2001:db8:60::1/64"

// soakRun is a run of TestSoak.
type soakRun struct {
	*rig
	t              *testing.T
	rng            *rand.Rand // of the faults
	began          time.Time
	book           *book
	hosts          []*soakHost
	httpPort       atomic.Int32
	syslogd        *soakSyslogd
	stopped        chan struct{} // closed when hosts must stop
	working        sync.WaitGroup
	states         []*state
	full, readOnly *state
	wan            byte      // last octet of the uplink's address
	denying        bool      // the settings deny ports
	unsaved        time.Time // since then changes may not have reached the disk; zero: all have
	writable       time.Time // since then the disk can be written again
	caused         int       // faults

	mu     sync.Mutex
	events []string // faults, oldest first
	failed atomic.Bool
}

// soak is TestSoak with the rig's daemon.
func (r *rig) soak(t *testing.T) {
	t.Helper()
	s := newSoakRun(t, r)
	s.prepare()
	s.working.Add(len(s.hosts))
	for _, h := range s.hosts {
		go func() { defer s.working.Done(); h.work() }()
	}
	defer func() { close(s.stopped); s.working.Wait() }()
	if *soakKills > 0 {
		s.killAll(*soakKills)
		return
	}
	faults := s.faults()
	least := len(faults)
	var thirds [3][]usage
	for i := range thirds {
		thirds[i] = s.mix(*soak/3, faults, least)
		if s.failed.Load() {
			return
		}
		faults, least = keeping(faults), 1
	}
	s.demandFlat(t, thirds[1], thirds[2])
}

// newSoakRun makes a run that has not begun.
func newSoakRun(t *testing.T, r *rig) *soakRun {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64N(1e6)
	}
	t.Logf("seed %d", seed)
	s := &soakRun{
		rig: r, t: t, rng: rand.New(rand.NewPCG(seed, 0)), began: time.Now(), book: newBook(), stopped: make(chan struct{}), wan: 44,
		syslogd: newSoakSyslogd(r.listenSyslog(t)),
	}
	s.newStates()
	for i := range soakLayout.Clients {
		s.addHost(seed, s.Clients[i], netlab.RouterLAN, netlab.RouterLAN6, 10+i)
	}
	s.Router.Address(t, "lan1", netip.MustParsePrefix(soakLAN6))
	for i := range soakHosts2 {
		s.addHost(seed, s.secondLANHost(i), netlab.RouterLAN2, netip.MustParsePrefix(soakLAN6), 10+i)
	}
	return s
}

// secondLANHost returns a host of the second LAN, whose first host is there already and
// has the others beside it.
func (s *soakRun) secondLANHost(i int) *netlab.Namespace {
	first := s.Client2
	first6 := netip.MustParsePrefix(fmt.Sprintf("2001:db8:60::%d/64", 10+i))
	n := first
	if i > 0 {
		n = netlab.New(s.t, fmt.Sprintf("beside%d", i))
		first.IP(s.t, "link", "add", "link", "eth0", "name", "beside", "type", "macvlan", "mode", "bridge")
		first.IP(s.t, "link", "set", "beside", "netns", n.Name, "name", "eth0")
		n.IP(s.t, "link", "set", "eth0", "up")
		n.Address(s.t, "eth0", netip.MustParsePrefix(fmt.Sprintf("192.168.60.%d/24", 10+i)))
		n.IP(s.t, "route", "add", "default", "via", netlab.RouterLAN2.Addr().String())
	}
	n.Address(s.t, "eth0", first6)
	return n
}

// addHost adds a host with the addresses number i of the router's networks.
func (s *soakRun) addHost(seed uint64, n *netlab.Namespace, lan, lan6 netip.Prefix, i int) {
	four := lan.Addr().As4()
	four[3] = byte(i)
	h := &soakHost{
		soakRun: s, net: n, rng: rand.New(rand.NewPCG(seed, uint64(len(s.hosts)+1))), router: lan.Addr(), router6: lan6.Addr(),
		addr: netip.AddrFrom4(four), addr6: netip.MustParseAddr(fmt.Sprintf("%v%d", strings.TrimSuffix(lan6.Addr().String(), "1"), i)),
		anyProtocol: []uint8{6, 17}[i%2], subscriber: len(s.hosts)%4 == 0,
	}
	s.hosts = append(s.hosts, h)
}

// prepare makes the disk, loads the firewall and starts the daemon.
func (s *soakRun) prepare() {
	s.t.Helper()
	s.demand(os.Mkdir(s.path("disk"), 0o755))
	s.demand(syscall.Mount("tmpfs", s.path("disk"), "tmpfs", 0, "size=1m"))
	s.t.Cleanup(func() { syscall.Unmount(s.path("disk"), syscall.MNT_DETACH) })
	s.stopFirewall()
	s.startFirewall()
	for _, h := range s.hosts {
		if h.subscriber {
			s.demand(h.listenEvents())
		}
	}
	s.configureSoak()
	s.serve()
}

// command is the daemon with a /dev/log of its own, to which it logs all decisions.
func (s *soakRun) command() *exec.Cmd {
	cmd := s.Router.Command("sh", "-c", withSyslogd, "sh", s.path("log"), s.program, "-v", "-f", s.path("miniupnpd.conf"), "-P", s.path("pid"))
	cmd.Env = s.env
	return cmd
}

// keeping returns the faults that do not end the daemon's process.
func keeping(list []fault) (kept []fault) {
	for _, f := range list {
		if !f.ends {
			kept = append(kept, f)
		}
	}
	return kept
}

// The mean pause between two faults, and the time between two checks, in a long run.
const (
	faultPause = 2 * time.Second
	checkEach  = time.Minute
)

// mix causes faults for a while, but not fewer than least, and checks now and then. It
// returns what the daemon held at each check.
func (s *soakRun) mix(d time.Duration, faults []fault, least int) (usages []usage) {
	s.t.Helper()
	next, end := choose(s.rng, faults), time.Now().Add(d)
	each := min(checkEach, d/2)
	due := time.Now().Add(each)
	for i := 0; i < least || time.Now().Before(end); i++ {
		s.cause(next())
		s.calmSome()
		s.pause(min(2*faultPause, d/10))
		if time.Now().After(due) || i == least-1 {
			usages = append(usages, s.report())
			due = time.Now().Add(each)
		}
		if s.failed.Load() {
			return usages
		}
	}
	return append(usages, s.report())
}

// killsPerReport is the number of kills for each line that is printed.
const killsPerReport = 20

// killAll kills the daemon after random times, and checks after each start.
func (s *soakRun) killAll(n int) {
	s.t.Helper()
	for i := 1; i <= n && !s.failed.Load(); i++ {
		s.pause(time.Second)
		if s.rng.IntN(4) == 0 {
			s.cause(fault{what: "kill while it starts", do: s.killAtStart})
		} else {
			s.cause(fault{what: "kill", do: func() { s.end(syscall.SIGKILL); s.serve() }})
		}
		if i%killsPerReport == 0 || i == n {
			s.report()
		} else {
			s.check()
		}
	}
}

// report checks, and prints a line of the table. It returns what the daemon holds.
func (s *soakRun) report() usage {
	s.t.Helper()
	took, mappings := s.check()
	u := s.usage(s.t)
	size, content := s.stateSize()
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	n := s.book.counts
	s.t.Logf("| %v | %d | %d | %d | %d | %d | %d | %d | %d | %v | %v | %d of %d |", time.Since(s.began).Round(time.Second), s.caused,
		n["granted"], n["deleted"], n["refused"], n["unanswered"]+n["not sent"], n["read"], n["events"], mappings,
		took.Round(time.Millisecond), u, size>>10, content>>10)
	if size > 2*content+stateSlack {
		s.fail(claim{}, fmt.Sprintf("the state file has %d bytes, and its content %d", size, content))
	}
	return u
}

// stateSlack is how much longer than twice its content the state file may be, in bytes:
// its slack, and what comes until it is rewritten.
const stateSlack = 96 << 10

// log notes a fault.
func (s *soakRun) log(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, time.Now().Format("15:04:05.000 ")+what)
}

// fail says what is wrong with a claim, and the last events. Hosts call it, too.
func (s *soakRun) fail(c claim, what string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Errorf("%s%s\nthe last faults:%s%s", what, s.book.historyOf(c), last(s.events), s.syslogd.about(c))
	s.failed.Store(true)
}

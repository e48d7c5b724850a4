package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// The addresses of the lab, as bench.sh makes it. The clients, and the owners of the
// mappings that are present, are addresses of one LAN host.
var (
	routerLAN   = netip.MustParseAddr("192.168.50.1")
	routerWAN   = netip.MustParseAddr("11.22.33.44")
	far         = netip.MustParseAddr("11.22.33.1")
	firstClient = netip.MustParseAddr("192.168.50.64")
	firstOwner  = netip.MustParseAddr("192.168.50.128")
)

// owners is the number of hosts that share the mappings that are present, so that none
// of them reaches a quota.
const owners = 120

// rules is the usual firewall before the daemon starts, with the chains and jumps that
// miniupnpd needs.
const rules = `*nat
:PREROUTING ACCEPT
:POSTROUTING ACCEPT
:MINIUPNPD -
:MINIUPNPD-POSTROUTING -
-A PREROUTING -i eth0 -j MINIUPNPD
-A POSTROUTING -o eth0 -j MINIUPNPD-POSTROUTING
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP
:MINIUPNPD -
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth1 -o eth0 -j ACCEPT
-A FORWARD -i eth0 ! -o eth0 -j MINIUPNPD
COMMIT
`

// conf is the configuration file of both daemons.
const conf = `ext_ifname=eth0
listening_ip=eth1
port=5000
enable_upnp=yes
enable_natpmp=yes
secure_mode=yes
notify_interval=900
lease_file=%s
uuid=5d0a8a3c-6f0b-4d53-9f83-2f1f6b1c4c70
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`

// quota is the default maximum of mappings per LAN of igdd. miniupnpd has no such
// setting.
const quota = 8192

// lab is a router and the Internet, and where a script made it a hostile host of the
// LAN. This process runs in the LAN.
type lab struct {
	router, wan, attacker *netlab.Namespace

	rules    string // the firewall before the daemon starts
	settings string // lines of the daemon's configuration beside those of conf
	folder   string // for the daemon's files
	memory   string // folder of the daemon's memory control group, or ""
	lock     string // iptables-legacy's lock file
	log      *syslog
}

// newLab opens the lab with a name that the script has made. Its files are below dir.
// Daemons that go into the background become children of this process.
func newLab(name, dir string) (*lab, error) {
	l := &lab{
		router:   &netlab.Namespace{Name: name + "-router"},
		wan:      &netlab.Namespace{Name: name + "-wan"},
		attacker: &netlab.Namespace{Name: name + "-attacker"},
		rules:    rules,
		folder:   filepath.Join(dir, name),
		lock:     filepath.Join(dir, name+".lock"),
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	var err error
	l.log, err = newSyslog(l.folder + ".log")
	return l, err
}

func (l *lab) leaseFile() string { return filepath.Join(l.folder, "upnp.leases") }
func (l *lab) confFile() string  { return filepath.Join(l.folder, "miniupnpd.conf") }
func (l *lab) pidFile() string   { return filepath.Join(l.folder, "miniupnpd.pid") }

// onRouter returns a command of the router, whose iptables takes the lab's lock.
func (l *lab) onRouter(name string, args ...string) *exec.Cmd {
	cmd := l.router.Command(name, args...)
	cmd.Env = append(cmd.Env, "XTABLES_LOCKFILE="+l.lock)
	return cmd
}

// loadRules replaces the rules of the tables in a text for iptables-restore.
func (l *lab) loadRules(text string) error {
	cmd := l.onRouter("iptables-restore")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, out)
	}
	return nil
}

// clear resets the router to its state after a boot: rules without mappings, and no
// files of an earlier daemon.
func (l *lab) clear() error {
	if err := l.loadRules(l.rules); err != nil {
		return err
	}
	l.log.clear()
	if err := os.RemoveAll(l.folder); err != nil {
		return err
	}
	return os.Mkdir(l.folder, 0o755)
}

// countMappings counts the mappings in the firewall: each is one rule in each of the
// two chains called MINIUPNPD.
func (l *lab) countMappings() (int, error) {
	out, err := l.onRouter("iptables-save").Output()
	return bytes.Count(out, []byte("-A MINIUPNPD ")) / 2, err
}

// hasMappings reports whether n mappings are in the firewall; for 0 it does not look.
func (l *lab) hasMappings(n int) bool {
	if n == 0 {
		return true
	}
	got, err := l.countMappings()
	return err == nil && got == n
}

// privateMounts runs a command in a control group, if there is one, and with its own /run, because several daemons run at once,
// and a /dev with /dev/log: without it, miniupnpd writes every message to the console,
// which takes milliseconds.
const privateMounts = `
[ -z "$MEMORY_GROUP" ] || echo $$ >"$MEMORY_GROUP/cgroup.procs" || exit 1
mount -t tmpfs run /run && mkdir -p /run/dev/pts &&
cp -a /dev/null /dev/zero /dev/random /dev/urandom /dev/ptmx /run/dev &&
mount --bind /dev/pts /run/dev/pts && ln -s "$1" /run/dev/log &&
mount --rbind /run/dev /dev && shift && exec "$@"`

// command returns the command that starts the daemon on the router.
func (l *lab) command(program string) *exec.Cmd {
	cmd := l.onRouter("sh", "-c", privateMounts, "sh", l.log.path, program, "-f", l.confFile(), "-P", l.pidFile())
	cmd.Env = append(cmd.Env, "MEMORY_GROUP="+l.memory, "IPTABLES_CALLS="+l.callsFile())
	return cmd
}

// lease is the number of a mapping that is present.
type lease int

// blockPort is the external port of lease 0. The leases have consecutive ports, but for
// isolatedLease, whose next port is free.
const (
	blockPort     = 10000
	isolatedPort  = 9000
	isolatedLease = lease(0)
)

func (i lease) external() uint16 {
	if i == isolatedLease {
		return isolatedPort
	}
	return blockPort + uint16(i)
}

func (i lease) internal() uint16 { return 20000 + uint16(i) }

func (i lease) owner() netip.Addr { return nth(firstOwner, int(i)%owners) }

// line returns the line of the lease file, in the format of both daemons.
func (i lease) line(expires time.Time) string {
	return fmt.Sprintf("TCP:%d:%v:%d:%d:bench %d\n", i.external(), i.owner(), i.internal(), expires.Unix(), i)
}

// nth returns the address i after a.
func nth(a netip.Addr, i int) netip.Addr {
	raw := a.As4()
	raw[3] += byte(i)
	return netip.AddrFrom4(raw)
}

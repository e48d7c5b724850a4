package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"igdd/pkg/netlab"
)

const (
	// guestLeases is the number of leases of a start that is not on an empty table.
	guestLeases = 100
	// guestLimit is how long an emulated machine has for anything.
	guestLimit = 2 * time.Minute
	// guestProbe is the time from one probe to the next: they cost the machine time as
	// well.
	guestProbe = 20 * time.Millisecond
)

// guest is an emulated machine that has both programs, by their names, in /usr/sbin. It
// takes one line of base64 for each script and writes the output and the exit status, as
// scripts/firmware/rootfs/sbin/ctl does.
type guest struct {
	console string // path of its socket
	conn    net.Conn
	reader  *bufio.Reader
	started []string // the programs that have been started before
}

// rows returns the rows that are measured in the guest whose LAN is in a lab.
func (g *guest) rows(lab string) []row {
	lan := &netlab.Namespace{Name: lab + "-arm-lan"}
	return []row{
		{"start-arm", startTopic, "start in an emulated ARM machine, until it answers", micros, empty, g.measureStart(lan, 0)},
		{"start-arm-100", startTopic, fmt.Sprintf("the same with %d leases, until all rules are in place", guestLeases), micros, empty, g.measureStart(lan, guestLeases)},
	}
}

// measureStart measures the time of a start, in µs. The first one of a program does not
// count: the emulator has not translated it yet, and the kernel loads modules.
func (g *guest) measureStart(lan *netlab.Namespace, present int) func(*round) (float64, error) {
	return func(r *round) (float64, error) {
		if g.connect() != nil {
			return 0, errors.New("no ARM machine could be booted here")
		}
		if name := r.daemon.name; !slices.Contains(g.started, name) {
			g.started = append(g.started, name)
			if _, err := g.start(name, lan, present); err != nil {
				return 0, err
			}
		}
		took, err := g.start(r.daemon.name, lan, present)
		return float64(took.Microseconds()), err
	}
}

// start starts a program, returns after what time it answered, and stops it. With leases,
// all their rules are in place by then; this includes one listing of the rules.
func (g *guest) start(program string, lan *netlab.Namespace, present int) (took time.Duration, err error) {
	if _, err := g.run(guestFiles(present)); err != nil {
		return 0, err
	}
	begin, err := g.begin(program)
	if err != nil {
		return 0, err
	}
	defer g.run("kill $(cat /tmp/bench/pid); while kill -0 $(cat /tmp/bench/pid); do sleep 0.1; done; true")
	if err := awaitAnswer(lan); err != nil {
		return 0, err
	}
	took = time.Since(begin)
	if _, err := g.result(); err != nil {
		return 0, err
	}
	if present > 0 {
		err = g.awaitRules(present)
		took = time.Since(begin)
	}
	return took, err
}

// rules6 is what miniupnpd's init script in Debian has in ip6tables before the start.
const rules6 = `*filter
:FORWARD DROP
:MINIUPNPD -
-A FORWARD -i eth0 ! -o eth0 -j MINIUPNPD
COMMIT
`

// guestFiles returns the script that makes the firewall and the files of a daemon.
func guestFiles(present int) string {
	return fmt.Sprintf(`set -e
iptables-restore <<'END'
%sEND
ip6tables-restore <<'END'
%sEND
iptables -P INPUT ACCEPT
rm -rf /tmp/bench
mkdir /tmp/bench
cat >/tmp/bench/conf <<'END'
%sEND
cat >/tmp/bench/leases <<'END'
%sEND
`, rules, rules6, fmt.Sprintf(conf, "/tmp/bench/leases"), leases{present: present}.lines())
}

// awaitAnswer waits until a daemon answers a host of the LAN. Its kernel may ignore
// requests until then; a late answer to an earlier one is as good.
func awaitAnswer(lan *netlab.Namespace) error {
	return lan.Do(func() error {
		c, err := newClient(0, 0, nil, guestProbe)
		if err != nil {
			return err
		}
		defer c.close()
		for begin := time.Now(); time.Since(begin) < guestLimit; {
			probed := time.Now()
			if err = c.externalAddress(0); err == nil {
				return nil
			}
			time.Sleep(time.Until(probed.Add(guestProbe)))
		}
		return fmt.Errorf("the daemon in the ARM machine does not answer: %w", err)
	})
}

// awaitRules waits until the firewall has a number of mappings.
func (g *guest) awaitRules(n int) error {
	for end := time.Now().Add(guestLimit); ; {
		text, err := g.run("iptables-save | grep -c '^-A MINIUPNPD '")
		if got, _ := strconv.Atoi(strings.TrimSpace(text)); got == 2*n {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the ARM machine has %s rules: %w", text, err)
		}
	}
}

// connect opens the console, once.
func (g *guest) connect() (err error) {
	if g.conn != nil {
		return nil
	}
	if g.conn, err = net.Dial("unix", g.console); err == nil {
		g.reader = bufio.NewReader(g.conn)
	}
	return err
}

// send sends a script.
func (g *guest) send(script string) error {
	g.conn.SetDeadline(time.Now().Add(guestLimit))
	_, err := g.conn.Write([]byte(base64.StdEncoding.EncodeToString([]byte(script)) + "\n"))
	return err
}

// result reads what a script says until it ends.
func (g *guest) result() (text string, err error) {
	for {
		line, err := g.reader.ReadString('\n')
		if err != nil {
			return text, fmt.Errorf("console of the ARM machine: %w", err)
		}
		if code, ended := strings.CutPrefix(line, "@@EXIT "); ended {
			if code = strings.TrimSpace(code); code != "0" {
				return text, fmt.Errorf("the ARM machine's script ended with %s: %s", code, text)
			}
			return text, nil
		}
		text += line
	}
}

func (g *guest) run(script string) (string, error) {
	if err := g.send(script); err != nil {
		return "", err
	}
	return g.result()
}

// begin starts a program and returns when it began. The script's result has yet to come.
func (g *guest) begin(program string) (time.Time, error) {
	err := g.send("echo @@BEGIN\n/usr/sbin/" + program + " -f /tmp/bench/conf -P /tmp/bench/pid 2>&1")
	if err != nil {
		return time.Time{}, err
	}
	line, err := g.reader.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != "@@BEGIN" {
		err = errors.New("console of the ARM machine: " + line)
	}
	return time.Now(), err
}

// powerOff ends the machine.
func (g *guest) powerOff() {
	if g.conn != nil && g.send("poweroff -f") == nil {
		g.result() // the end of the console
	}
}

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	restarts = 6
	// firewallPause is how long the firewall is stopped, and how long it then runs.
	firewallPause = 500 * time.Millisecond
	// askPause is the pause between two requests of the client: 30 a second.
	askPause = time.Second / 30
	// agreeWithin is how long their agreement is awaited.
	agreeWithin = 30 * time.Second
)

// stopFirewall and startFirewall are what a firewall's script does. Like many, it runs
// iptables for every rule, and goes on where a chain is in use or exists already.
const (
	stopFirewall = `
for table in filter nat mangle; do
  iptables -w -t $table -F || exit 1
  iptables -w -t $table -X 2>/dev/null
done
true`

	startFirewall = `
chain() {
  iptables -w -t $1 -N $2 2>/dev/null
  iptables -w -t $1 -F $2
}
rule() { table=$1; shift; iptables -w -t $table -A "$@" || exit 1; }
iptables -w -P FORWARD DROP
chain filter BLOCKED
for host in $(seq 1 50); do
  rule filter BLOCKED -s 203.0.113.$host -j DROP
done
rule filter FORWARD -j BLOCKED
rule filter FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
rule filter FORWARD -i eth1 -o eth0 -j ACCEPT
chain filter MINIUPNPD
rule filter FORWARD -i eth0 ! -o eth0 -j MINIUPNPD
chain nat MINIUPNPD
rule nat PREROUTING -i eth0 -j MINIUPNPD
chain nat MINIUPNPD-POSTROUTING
rule nat POSTROUTING -o eth0 -j MINIUPNPD-POSTROUTING
rule nat POSTROUTING -o eth0 -j MASQUERADE`
)

// restartFirewall stops and starts the firewall while a client asks for new ports, and
// prints whether the leases and the rules agree.
func (r *repairRun) restartFirewall() error {
	p, err := r.lab.start(r.program, leases{present: held})
	if err != nil {
		return err
	}
	defer p.stop()
	asking := startAsking()
	defer asking.working.Wait()
	for i := range restarts {
		if i > 0 {
			time.Sleep(firewallPause)
		}
		if err := r.lab.restart(); err != nil {
			close(asking.ended)
			return err
		}
	}
	last := time.Now()
	close(asking.ended)
	fmt.Printf("\n%d stops and starts of the firewall, while a client asks for %d new ports a second:\n\n", restarts, time.Second/askPause)
	if err := r.awaitAgreement(last); err != nil {
		return err
	}
	asking.working.Wait()
	fmt.Printf("* The client: %v.\n", asking)
	return nil
}

// restart stops and starts the firewall.
func (l *lab) restart() error {
	for i, text := range []string{stopFirewall, startFirewall} {
		if i > 0 {
			time.Sleep(firewallPause)
		}
		if out, err := l.onRouter("sh", "-c", text).CombinedOutput(); err != nil {
			return fmt.Errorf("firewall script: %w: %s", err, out)
		}
	}
	return nil
}

// awaitAgreement prints how leases and rules compare at the firewall's last start, and
// when they first agree.
func (r *repairRun) awaitAgreement(started time.Time) error {
	c, err := r.lab.compare()
	fmt.Printf("* At the last start: %v.\n", c)
	for err == nil && !c.isEqual() && time.Since(started) < agreeWithin {
		time.Sleep(pollPause)
		c, err = r.lab.compare()
	}
	fmt.Printf("* %d ms after it: %v.\n", time.Since(started).Milliseconds(), c)
	return err
}

// comparison is the leases in the lease file and the mappings in the two chains, each
// as "external port, target" or "target".
type comparison struct {
	leases, nat, filter map[string]bool
}

// compare reads the lease file and the rules.
func (l *lab) compare() (comparison, error) {
	text, err := os.ReadFile(l.leaseFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return comparison{}, err
	}
	present, err := l.listRules()
	return compareRules(string(text), present), err
}

// compareRules compares the text of a lease file with rules.
func compareRules(text string, present []rule) comparison {
	c := comparison{make(map[string]bool), make(map[string]bool), make(map[string]bool)}
	for line := range strings.Lines(text) {
		if f := strings.Split(line, ":"); len(f) > 4 {
			c.leases[f[1]+" "+f[2]+":"+f[3]] = true
		}
	}
	for _, r := range present {
		switch {
		case r.chain() != "MINIUPNPD":
		case r.table == "nat":
			c.nat[r.option("--dport")+" "+r.option("--to-destination")] = true
		case r.table == "filter":
			c.filter[strings.TrimSuffix(r.option("-d"), "/32")+":"+r.option("--dport")] = true
		}
	}
	return c
}

// missing returns the number of leases that lack a rule.
func (c comparison) missing() (n int) {
	for lease := range c.leases {
		if _, target, _ := strings.Cut(lease, " "); !c.nat[lease] || !c.filter[target] {
			n++
		}
	}
	return n
}

func (c comparison) isEqual() bool {
	return c.missing() == 0 && len(c.nat) == len(c.leases) && len(c.filter) == len(c.leases)
}

func (c comparison) String() string {
	same := "the same ports"
	if !c.isEqual() {
		same = fmt.Sprintf("not the same ports, %d leases lack a rule", c.missing())
	}
	return fmt.Sprintf("%d leases, %d DNAT rules, %d filter rules; %s", len(c.leases), len(c.nat), len(c.filter), same)
}

// asking is a client that asks for one new port after the other.
type asking struct {
	ended                        chan struct{} // closed to make it stop
	working                      sync.WaitGroup
	granted, refused, unanswered atomic.Int64
}

// startAsking starts the client.
func startAsking() *asking {
	a := &asking{ended: make(chan struct{})}
	a.working.Go(func() {
		tick := time.NewTicker(askPause)
		defer tick.Stop()
		for port := uint16(firstPort); ; port++ {
			select {
			case <-a.ended:
				return
			case <-tick.C:
				a.working.Go(func() { a.ask(port) })
			}
		}
	})
	return a
}

// ask asks for one port, once.
func (a *asking) ask(port uint16) {
	c, err := newClient(0, 0, nil, busyWait)
	if err == nil {
		defer c.close()
		err = c.natpmpMap(port)
	}
	switch {
	case err == nil:
		a.granted.Add(1)
	case errors.Is(err, unix.EAGAIN):
		a.unanswered.Add(1)
	default:
		a.refused.Add(1)
	}
}

func (a *asking) String() string {
	return fmt.Sprintf("%d granted, %d refused, %d without response within %v",
		a.granted.Load(), a.refused.Load(), a.unanswered.Load(), busyWait)
}

package daemon_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// busy has sockets map and unmap a port each, all the time, until stop is called.
// answered counts the answers.
func (r *rig) busy(t testing.TB, sockets int) (answered *atomic.Int64, stop func()) {
	t.Helper()
	answered, ended := new(atomic.Int64), make(chan struct{})
	var all sync.WaitGroup
	for i := range uint16(sockets) {
		socket := r.socket(t)
		all.Go(func() {
			for {
				for _, lifetime := range []time.Duration{time.Hour, 0} {
					if _, ok := ask(socket, mapping(natpmp.MapTCP, 20000+i, 20000+i, lifetime)); ok {
						answered.Add(1)
					}
				}
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	return answered, sync.OnceFunc(func() { close(ended); all.Wait() })
}

// TestRepairUnderLoad has rules removed while clients map and unmap. The daemon
// may be in the middle of its own work then: one rule is removed several times.
func TestRepairUnderLoad(t *testing.T) {
	t.Parallel()
	const oneRule = "-D MINIUPNPD -p tcp -m tcp --dport 4000 -j DNAT --to-destination 192.168.50.10:4000"
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.detectRaces()
		r.start(t)
		r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		for _, clients := range []int{1, 8} {
			answered, stop := r.busy(t, clients)
			defer stop()
			remove := func(table, commands string) {
				before := answered.Load()
				await(t, "answers", func() bool { return answered.Load() > before+10 })
				r.atOnce(t, table, commands)
				await(t, fmt.Sprintf("what %q has removed, with %d clients", commands, clients), func() bool {
					nat, filter := r.ipt(t, "-t", "nat", "-S"), r.ipt(t, "-S")
					return strings.Contains(nat, "--dport 4000 ") && strings.Contains(nat, "-i wan0 -j MINIUPNPD\n") && strings.Contains(filter, "--dport 4000 ")
				})
			}
			for range 10 {
				remove("nat", oneRule)
			}
			remove("filter", "-D MINIUPNPD -d 192.168.50.10 -p tcp -m tcp --dport 4000 -j ACCEPT")
			remove("nat", "-F MINIUPNPD")
			remove("nat", "-D PREROUTING -i wan0 -j MINIUPNPD")
			stop()
		}
		r.dial("tcp", 4000).Arrives(t)
	})
}

// TestFirewallRestartsUnderLoad stops and starts the firewall while clients ask.
func TestFirewallRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		arno := netlab.NewArno(t, r.Router, variant)
		arno.Do(t, "start")
		r.start(t)
		r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		c, stop := newLoadClients(r), make(chan struct{})
		c.ports[4000] = portState{open: true}
		var asking sync.WaitGroup
		asking.Go(func() { c.ask(t, stop) })
		for range 3 {
			arno.Do(t, "stop")
			arno.Do(t, "start")
		}
		close(stop)
		asking.Wait()
		t.Logf("%d answers", c.served)
		c.check(t)
		r.dial("tcp", 4000).Arrives(t)
		r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
		await(t, "a healthy status", func() bool { _, status := r.ctl(t, "status"); return status == 0 })
	})
}

// TestStoppedFirewallInTheLog stops the firewall, and has clients and the operator
// ask: one line says so, and one when it has started again.
func TestStoppedFirewallInTheLog(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		arno := netlab.NewArno(t, r.Router, variant)
		arno.Do(t, "start")
		r.foreground(t)
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		const line = "the firewall is stopped; mappings are restored when it starts"
		for round := range 2 {
			arno.Do(t, "stop")
			await(t, "the status to say so", func() bool {
				out, status := r.ctl(t, "status")
				return status == 4 && strings.Contains(out, "stopped")
			})
			for range 3 {
				r.says(t, "list", 0, "4000")
				r.says(t, "status", 4, "the firewall is stopped")
				if got := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 5000, 5000, time.Hour)); got.Result == natpmp.Success {
					t.Error("a mapping is granted while the firewall is stopped")
				}
			}
			arno.Do(t, "start")
			r.awaitState(t, 2, 2)
			r.says(t, "status", 0, "healthy: chains, jumps and rules in place")
			log := r.log(t)
			if stops, starts := strings.Count(log, line), strings.Count(log, "rules are applied again"); stops != round+1 || starts != round+1 {
				t.Errorf("after %d stops: %d and %d lines", round+1, stops, starts)
			}
			if strings.Contains(log, `\n`) {
				t.Error("a log line has raw text of a program")
			}
		}
		if t.Failed() {
			t.Log(r.log(t))
		}
	})
}

// TestIP6TablesThatStopsWorking has the programs of IPv6 fail, or hang, while the
// daemon serves: IPv4 is granted and repaired meanwhile.
func TestIP6TablesThatStopsWorking(t *testing.T) {
	t.Parallel()
	for what, script := range map[string]string{"fails": "exit 1", "hangs": "exec sleep 1000"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			bothVariants(t, func(t *testing.T, variant string) {
				r := newClientsRig(t, variant)
				r.stop(t, syscall.SIGTERM)
				r.replacing()
				r.start(t, clientsConf()...)
				r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
				asked := r.path("asked")
				var restores []func()
				for _, part := range []string{"", "-save", "-restore"} {
					restores = append(restores, r.stub(t, "ip6tables"+part, "touch "+asked+"; "+script))
				}
				r.ip6t(t, "-F", "FORWARD")
				await(t, "ip6tables to be asked", func() bool { _, err := os.Stat(asked); return err == nil })
				for port := uint16(4000); port < 4003; port++ {
					r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour))
					r.atOnce(t, "nat", "-F MINIUPNPD")
					await(t, "the IPv4 rules", func() bool { return len(r.rulesOf(t, "nat", "MINIUPNPD")) == int(port)-3999 })
					r.dial("tcp", 4000).Arrives(t)
				}
				r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000) // a renewal needs no rule
				await(t, "the status to name IPv6", func() bool {
					out, status := r.ctl(t, "status")
					return status == 4 && strings.Contains(out, "unhealthy: IPv6:")
				})
				for _, restore := range restores {
					restore()
				}
				await(t, "the jump of IPv6", func() bool { return strings.Contains(r.ip6t(t, "-S", "FORWARD"), "-j MINIUPNPD") })
				await(t, "a new pinhole", func() bool { return r.pcp(t, 0, pcpMap(addr6, 6, 4001, 4001)).Result == pcp.Success })
			})
		})
	}
}

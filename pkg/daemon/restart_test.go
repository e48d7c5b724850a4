package daemon_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// echoStream answers on a TCP port of the first client: every connection with
// what it sends, for as long as it lasts.
func (r *rig) echoStream(t testing.TB, port uint16) {
	t.Helper()
	var l net.Listener
	err := r.Clients[0].Listen(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(client1, port).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
}

// call connects from the Internet to an external port.
func (r *rig) call(t testing.TB, port uint16) net.Conn {
	t.Helper()
	var c net.Conn
	err := r.WAN.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(netlab.RouterWAN.Addr(), port).String(), patience)
		return err
	})
	if err != nil {
		t.Fatalf("port %d cannot be reached: %v", port, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// say sends a word and demands it back.
func say(t testing.TB, c net.Conn) {
	t.Helper()
	word := make([]byte, 4)
	c.SetDeadline(time.Now().Add(patience))
	_, err := c.Write([]byte("word"))
	if err == nil {
		_, err = io.ReadFull(c, word)
	}
	if err != nil || string(word) != "word" {
		t.Fatalf("an established connection says %q: %v", word, err)
	}
}

// packets returns the counter of the nat rule for an external port.
func (r *rig) packets(t testing.TB, port uint16) (n int) {
	t.Helper()
	for line := range strings.Lines(r.ipt(t, "-t", "nat", "-nvxL", "MINIUPNPD")) {
		if strings.Contains(line, fmt.Sprintf("dpt:%d ", port)) {
			fmt.Sscan(line, &n)
		}
	}
	return n
}

// handOver ends the daemon so that its rules stay for the next process, and starts
// that one.
func (r *rig) handOver() error {
	pid := r.pid()
	r.kill(syscall.SIGUSR2)
	for deadline := time.Now().Add(patience); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("SIGUSR2 does not end the daemon")
		}
	}
	if out, err := r.launch(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestRestartKeepsForwarding keeps a connection open and opens new ones while the
// daemon is replaced, by another process or by a new instance. The rule's counter
// shows that the rule was never removed.
func TestRestartKeepsForwarding(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.start(t, "enable_upnp=yes")
		r.echoStream(t, 4000)
		for port := uint16(4000); port < 4050; port++ {
			r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour))
		}
		want, calls := r.chains(t), 0
		old := r.call(t, 4000)
		calls++
		for _, change := range []struct {
			what string
			do   func() error
		}{
			{"another process", r.handOver},
			{"a new instance", func() error {
				r.configure(t, "enable_upnp=yes", "http_port=5001")
				r.kill(syscall.SIGHUP)
				return r.awaitHTTP(5001)
			}},
		} {
			t.Run(change.what, func(t *testing.T) {
				began, done := time.Now(), make(chan error, 1)
				go func() { done <- change.do() }()
				for over := false; !over; {
					select {
					case err := <-done:
						if err != nil {
							t.Fatal(err)
						}
						over = true
						t.Logf("served again after %v", time.Since(began).Round(time.Millisecond))
					default:
					}
					say(t, old)
					say(t, r.call(t, 4000))
					calls++
					if got := r.chains(t); got != want {
						t.Fatalf("the rules are\n%s\nwant\n%s", got, want)
					}
				}
				if got := r.packets(t, 4000); got != calls {
					t.Errorf("the rule has counted %d connections, want %d", got, calls)
				}
				if resp := r.grant(t, mapping(natpmp.MapTCP, 4000, 0, time.Hour)); resp.ExternalPort != 4000 {
					t.Errorf("renewed as port %d, want 4000", resp.ExternalPort)
				}
			})
		}
		r.stop(t, syscall.SIGTERM)
		if left := r.chains(t); left != "" {
			t.Errorf("the last one leaves behind:\n%s", left)
		}
	})
}

// awaitHTTP waits until something answers at a TCP port of the router.
func (r *rig) awaitHTTP(port uint16) error {
	at := netip.AddrPortFrom(netlab.RouterLAN.Addr(), port).String()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := r.Clients[0].Do(func() error {
			c, err := net.Dial("tcp", at)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// TestOwnershipOfChains demands that the last daemon that uses the rules removes
// them, and the chains too, unless another program created them.
func TestOwnershipOfChains(t *testing.T) {
	const none, some = 0, 2 // rules
	for _, tt := range []struct {
		what    string
		foreign bool
		end     syscall.Signal
		more    string // settings that change before the end
		between int    // rules while no daemon runs
	}{
		{"handed over", false, syscall.SIGUSR2, "", some},
		{"crashed", false, syscall.SIGKILL, "", some},
		{"handed over under another name", false, syscall.SIGUSR2, "upnp_nat_chain=OTHER", none},
		{"handed over to one that cannot start", false, syscall.SIGUSR2, unusable, none},
		{"others', handed over", true, syscall.SIGUSR2, "", some},
		{"others', crashed", true, syscall.SIGKILL, "", some},
		{"others', handed over under another name", true, syscall.SIGUSR2, "upnp_nat_chain=OTHER", none},
		{"others', handed over to one that cannot start", true, syscall.SIGUSR2, unusable, none},
	} {
		t.Run(tt.what, func(t *testing.T) {
			r := newRig(t, "legacy", netlab.Layout{})
			if tt.foreign {
				for _, args := range []string{"-t nat -N MINIUPNPD", "-N MINIUPNPD"} {
					r.ipt(t, strings.Fields(args)...)
				}
			}
			r.start(t)
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
			r.configure(t, tt.more)
			r.stop(t, tt.end)
			if rules, _ := r.state(t); rules != tt.between {
				t.Errorf("%d rules while no daemon runs, want %d", rules, tt.between)
			}
			r.start(t)
			r.awaitState(t, some, 2)
			r.stop(t, syscall.SIGTERM)
			if rules, _ := r.state(t); rules != none {
				t.Errorf("%d rules in the end, want none", rules)
			}
			saved := r.Router.Run(t, "/usr/sbin/iptables-legacy-save")
			if chains := strings.Count(saved, "\n:MINIUPNPD "); chains > 0 != tt.foreign {
				t.Errorf("%d chains in the end; others made them: %v", chains, tt.foreign)
			}
		})
	}
}

// TestReloadMovesChains has the rules move when settings name other chains and
// another uplink, and nothing stay behind.
func TestReloadMovesChains(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{SecondWAN: true})
	r.installed()
	r.start(t)
	r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.configure(t, "ext_ifname=wan1", "upnp_nat_chain=OTHER")
	r.kill(syscall.SIGHUP)
	await(t, "the rules in their new places", func() bool {
		saved := r.Router.Run(t, "/usr/sbin/iptables-nft-save")
		return strings.Contains(saved, "-A PREROUTING -i wan1 -j OTHER\n") && strings.Count(saved, "-A OTHER ") == 1 &&
			strings.Count(saved, "-A MINIUPNPD ") == 1 && !strings.Contains(saved, "-i wan0")
	})
	r.Router.IP(t, "route", "replace", "default", "via", "22.33.44.1")
	netlab.Probe{Network: "tcp", From: r.WAN2, To: netip.AddrPortFrom(netlab.RouterWAN2.Addr(), 4000)}.Arrives(t)
	r.stop(t, syscall.SIGTERM)
	if saved := r.Router.Run(t, "/usr/sbin/iptables-nft-save"); strings.Contains(saved, "OTHER") || strings.Contains(saved, "MINIUPNPD") {
		t.Errorf("left behind:\n%s", saved)
	}
}

package daemon_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

// In the time that TestSoak lasts by itself each fault happens about three times.
var soak = flag.Duration("soak", 8*time.Second, "how long TestSoak lasts")

// addrPort is shorter than netip.AddrPortFrom.
func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// usage is what a process holds.
type usage struct {
	memory      int // kB
	threads     int
	descriptors int
}

// usage measures the daemon.
func (r *rig) usage(t testing.TB) (u usage) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", r.pid())
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmRSS: %d", &u.memory)
		fmt.Sscanf(line, "Threads: %d", &u.threads)
	}
	open, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	u.descriptors = len(open)
	return u
}

// TestSoak mixes requests of all protocols with faults, and demands
// that the daemon holds no more resources in the end than after the first third.
func TestSoak(t *testing.T) {
	t.Parallel()
	t.Run("installed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "legacy", netlab.Layout{})
		r.installed()
		r.soak(t)
	})
	if hasDetector {
		t.Run("race detector", func(t *testing.T) {
			t.Parallel()
			newRig(t, "legacy", netlab.Layout{}).soak(t)
		})
	}
}

// soak is TestSoak with the rig's daemon.
func (r *rig) soak(t *testing.T) {
	t.Helper()
	r.start(t, "enable_upnp=yes")
	c := newLoadClients(r)
	r.mix(t, c, *soak/3)
	c.check(t)
	before := r.usage(t)
	r.mix(t, c, *soak-*soak/3)
	c.check(t)
	var after usage
	await(t, "descriptors to be closed", func() bool {
		after = r.usage(t)
		return after.descriptors <= before.descriptors
	})
	t.Logf("%d answers in %v; at first %+v, in the end %+v", c.served, *soak, before, after)
	if after.memory > before.memory*5/4+4096 || after.threads > before.threads+8 {
		t.Errorf("it holds %+v, and before %+v", after, before)
	}
}

// pace is how much time there is between two faults.
const pace = 400 * time.Millisecond

// mix has clients send requests for a while, and causes each fault at least once
// meanwhile.
func (r *rig) mix(t testing.TB, c *loadClients, d time.Duration) {
	t.Helper()
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { c.ask(t, stop) })
	all.Go(func() {
		for !closed(stop) {
			r.browse()
		}
	})
	port := 5000
	faults := []func(){
		func() { r.ipt(t, "-F", "MINIUPNPD") },
		func() { // it may be missing since the last time
			r.Router.Command("iptables-legacy", "-w", "-t", "nat", "-D", "PREROUTING", "-i", "wan0", "-j", "MINIUPNPD").Run()
		},
		func() {
			r.Router.IP(t, "-4", "address", "flush", "dev", "wan0")
			r.Router.Address(t, "wan0", netlab.RouterWAN)
		},
		func() { r.kill(syscall.SIGHUP) },
		func() { r.kill(syscall.SIGUSR1) },
		func() { // a new instance
			port = 10001 - port
			r.configure(t, "enable_upnp=yes", fmt.Sprintf("http_port=%d", port))
			r.kill(syscall.SIGHUP)
		},
	}
	rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for i, end := 0, time.Now().Add(d); i < len(faults) || time.Now().Before(end); i++ {
		faults[i%len(faults)]()
		time.Sleep(pace)
	}
	close(stop)
	all.Wait()
	r.configure(t, "enable_upnp=yes", "http_port=5000")
	r.kill(syscall.SIGHUP)
	if err := r.awaitHTTP(5000); err != nil {
		t.Fatal(err)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// browse reads descriptions, calls actions and searches, and ignores errors.
func (r *rig) browse() {
	gateway := netlab.RouterLAN.Addr()
	r.Clients[0].Do(func() error {
		for port := range uint16(2) {
			for _, request := range []string{
				"GET /rootDesc.xml HTTP/1.1\r\nHost: 192.168.50.1:%d\r\nConnection: close\r\n\r\n",
				"SUBSCRIBE /evt/IPConn HTTP/1.1\r\nHost: 192.168.50.1:%d\r\nCallback: <http://192.168.50.10:9999/>\r\nNT: upnp:event\r\nTimeout: Second-1800\r\n\r\n",
				"POST /ctl/IPConn HTTP/1.1\r\nHost: 192.168.50.1:%d\r\nContent-Length: 100000000\r\n\r\nnonsense",
			} {
				c, err := net.Dial("tcp", addrPort(gateway, 5000+port).String())
				if err != nil {
					continue
				}
				c.SetDeadline(time.Now().Add(hush))
				fmt.Fprintf(c, request, 5000+port)
				c.Read(make([]byte, 4096))
				c.Close()
			}
		}
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addrPort(gateway, 1900)))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\nMan: \"ssdp:discover\"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n"))
		return err
	})
}

package stun

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// serve answers Binding requests on the loopback with whatever reply makes of
// them, and returns where.
func serve(t *testing.T, reply func(request []byte, from netip.AddrPort) [][]byte) string {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, r := range reply(slices.Clone(b[:n]), from) {
				c.WriteToUDPAddrPort(r, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

// success answers a request with an address.
func success(request []byte, seen netip.Addr) []byte {
	b := append(binary.BigEndian.AppendUint16(nil, bindingSuccess), 0, 12)
	b = append(b, request[4:headerLen]...)
	b = append(b, 0, xorMapped, 0, 8, 0, familyIPv4, 0, 0)
	return append(b, unmask(seen, request[4:headerLen]).AsSlice()...)
}

var public = netip.MustParseAddr("203.0.113.7")

func TestLookup(t *testing.T) {
	asked := 0
	server := serve(t, func(request []byte, from netip.AddrPort) [][]byte {
		if asked++; asked == 1 {
			return nil // lost
		}
		foreign := success(request, netip.MustParseAddr("198.51.100.1"))
		foreign[headerLen-1]++
		if from.Addr() != netip.MustParseAddr("127.0.0.2") {
			t.Errorf("asked from %v", from)
		}
		return [][]byte{foreign, []byte("junk"), success(request, public)}
	})
	got, err := Lookup(t.Context(), server, netip.MustParseAddr("127.0.0.2"))
	if err != nil || got != public {
		t.Errorf("Lookup = %v, %v, want %v", got, err, public)
	}
}

func TestLookupSaysWhatIsWrong(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	silent := serve(t, func([]byte, netip.AddrPort) [][]byte { cancel(); return nil })
	for name, c := range map[string]struct {
		ctx          context.Context
		server, says string
	}{
		"silence":           {over, silent, "no answer"},
		"nobody there":      {t.Context(), "127.0.0.1:1", "refused"},
		"no port":           {t.Context(), "127.0.0.1", "missing port"},
		"no address at all": {t.Context(), serve(t, func(r []byte, _ netip.AddrPort) [][]byte { return [][]byte{success(r, netip.IPv4Unspecified())} }), "no address of an uplink"},
		"an address of nobody": {t.Context(), serve(t, func(r []byte, _ netip.AddrPort) [][]byte {
			return [][]byte{success(r, netip.MustParseAddr("224.0.0.1"))}
		}), "no address of an uplink"},
	} {
		got, err := Lookup(c.ctx, c.server, netip.Addr{})
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.server) {
			t.Errorf("%s: %v, %v, want an error that says %q and names %s", name, got, err, c.says, c.server)
		}
	}
}

// TestFollower walks through a day: no uplink, an uplink, a server that fails,
// another uplink.
func TestFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var mu sync.Mutex // guards the rest
		var uplink netip.Addr
		var answer netip.Addr // the zero Addr: the server fails
		var told []netip.Addr
		asked := 0
		f := NewFollower(Options{
			Server: "stun.example:3478",
			Uplink: func() netip.Addr { mu.Lock(); defer mu.Unlock(); return uplink },
			Seen:   func(a netip.Addr) { mu.Lock(); defer mu.Unlock(); told = append(told, a) },
			Log:    slog.New(slog.NewTextHandler(&log, nil)),
		})
		f.lookup = func(context.Context, string, netip.Addr) (netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			if asked++; !answer.IsValid() {
				return answer, errors.New("no answer")
			}
			return answer, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.Run(ctx)
		other := netip.MustParseAddr("203.0.113.8")
		for _, step := range []struct {
			what           string
			uplink, answer netip.Addr
			ask            bool
			wait           time.Duration
			asked          int
			told           []netip.Addr
		}{
			{"no uplink: nobody is asked", netip.Addr{}, public, true, 24 * time.Hour, 0, nil},
			{"an uplink", netip.MustParseAddr("10.0.0.2"), public, true, 0, 1, []netip.Addr{public}},
			{"word of no change", netip.MustParseAddr("10.0.0.2"), public, true, 0, 0, nil},
			{"the same again is no news", netip.MustParseAddr("10.0.0.2"), public, false, refresh, 1, nil},
			{"an answer stays good while the server fails", netip.MustParseAddr("10.0.0.2"), netip.Addr{}, false, time.Hour, 8, nil},
			{"not for another uplink", netip.MustParseAddr("10.0.0.3"), netip.Addr{}, true, 0, 1, []netip.Addr{{}}},
			{"the server is back", netip.MustParseAddr("10.0.0.3"), other, false, lastRetry, 1, []netip.Addr{other}},
		} {
			mu.Lock()
			uplink, answer, asked, told = step.uplink, step.answer, 0, nil
			mu.Unlock()
			if step.ask {
				f.Refresh()
			}
			time.Sleep(step.wait)
			synctest.Wait()
			mu.Lock()
			if asked != step.asked || !slices.Equal(told, step.told) {
				t.Errorf("%s: asked %d times, told %v; want %d, %v", step.what, asked, told, step.asked, step.told)
			}
			mu.Unlock()
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d log lines for one failure:\n%s", n, &log)
		}
	})
}

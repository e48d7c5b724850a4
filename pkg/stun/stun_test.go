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

// serve responds to Binding requests on the loopback with the datagrams that respond
// returns, and returns its address.
func serve(t *testing.T, respond func(request []byte, from netip.AddrPort) [][]byte) string {
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
			for _, r := range respond(slices.Clone(b[:n]), from) {
				c.WriteToUDPAddrPort(r, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

// success returns a response with an address.
func success(request []byte, seen netip.Addr) []byte {
	b := append(binary.BigEndian.AppendUint16(nil, bindingSuccess), 0, 12)
	b = append(b, request[4:headerLen]...)
	b = append(b, 0, xorMapped, 0, 8, 0, familyIPv4, 0, 0)
	return append(b, unmask(seen, request[4:headerLen]).AsSlice()...)
}

var public = netip.MustParseAddr("203.0.113.7")

func TestLookup(t *testing.T) {
	requests := 0
	server := serve(t, func(request []byte, from netip.AddrPort) [][]byte {
		if requests++; requests == 1 {
			return nil // lost
		}
		foreign := success(request, netip.MustParseAddr("198.51.100.1"))
		foreign[headerLen-1]++
		if from.Addr() != netip.MustParseAddr("127.0.0.2") {
			t.Errorf("request from %v", from)
		}
		return [][]byte{foreign, []byte("junk"), success(request, public)}
	})
	got, err := Lookup(t.Context(), server, netip.MustParseAddr("127.0.0.2"))
	if err != nil || got != public {
		t.Errorf("Lookup = %v, %v, want %v", got, err, public)
	}
}

func TestLookupFails(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	silent := serve(t, func([]byte, netip.AddrPort) [][]byte { cancel(); return nil })
	for name, c := range map[string]struct {
		ctx             context.Context
		server, message string
	}{
		"no response":            {over, silent, "no response"},
		"no server":              {t.Context(), "127.0.0.1:1", "refused"},
		"no port":                {t.Context(), "127.0.0.1", "missing port"},
		"an unspecified address": {t.Context(), serve(t, func(r []byte, _ netip.AddrPort) [][]byte { return [][]byte{success(r, netip.IPv4Unspecified())} }), "not a unicast IPv4 address"},
		"a multicast address": {t.Context(), serve(t, func(r []byte, _ netip.AddrPort) [][]byte {
			return [][]byte{success(r, netip.MustParseAddr("224.0.0.1"))}
		}), "not a unicast IPv4 address"},
	} {
		got, err := Lookup(c.ctx, c.server, netip.Addr{})
		if err == nil || !strings.Contains(err.Error(), c.message) || !strings.Contains(err.Error(), c.server) {
			t.Errorf("%s: %v, %v, want an error with %q and %s", name, got, err, c.message, c.server)
		}
	}
}

// TestFollower has no uplink, then one, a server that fails, and another uplink.
func TestFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var mu sync.Mutex // guards what follows
		var uplink netip.Addr
		var response netip.Addr // the zero Addr: the server fails
		var reported []netip.Addr
		lookups := 0
		f := NewFollower(Options{
			Server: "stun.example:3478",
			Uplink: func() netip.Addr { mu.Lock(); defer mu.Unlock(); return uplink },
			Seen:   func(a netip.Addr) { mu.Lock(); defer mu.Unlock(); reported = append(reported, a) },
			Log:    slog.New(slog.NewTextHandler(&log, nil)),
		})
		f.lookup = func(context.Context, string, netip.Addr) (netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			if lookups++; !response.IsValid() {
				return response, errors.New("no response")
			}
			return response, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.Run(ctx)
		other := netip.MustParseAddr("203.0.113.8")
		for _, step := range []struct {
			what             string
			uplink, response netip.Addr
			refresh          bool
			wait             time.Duration
			lookups          int
			reported         []netip.Addr
		}{
			{"no uplink: no lookup", netip.Addr{}, public, true, 24 * time.Hour, 0, nil},
			{"an uplink", netip.MustParseAddr("10.0.0.2"), public, true, 0, 1, []netip.Addr{public}},
			{"no change", netip.MustParseAddr("10.0.0.2"), public, true, 0, 0, nil},
			{"the same address again is not reported", netip.MustParseAddr("10.0.0.2"), public, false, refreshInterval, 1, nil},
			{"an address is kept while the server fails", netip.MustParseAddr("10.0.0.2"), netip.Addr{}, false, time.Hour, 8, nil},
			{"but not for another uplink", netip.MustParseAddr("10.0.0.3"), netip.Addr{}, true, 0, 1, []netip.Addr{{}}},
			{"the server is back", netip.MustParseAddr("10.0.0.3"), other, false, lastRetry, 1, []netip.Addr{other}},
		} {
			mu.Lock()
			uplink, response, lookups, reported = step.uplink, step.response, 0, nil
			mu.Unlock()
			if step.refresh {
				f.Refresh()
			}
			time.Sleep(step.wait)
			synctest.Wait()
			mu.Lock()
			if lookups != step.lookups || !slices.Equal(reported, step.reported) {
				t.Errorf("%s: %d lookups, reported %v; want %d, %v", step.what, lookups, reported, step.lookups, step.reported)
			}
			mu.Unlock()
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d log lines for one failure:\n%s", n, &log)
		}
	})
}

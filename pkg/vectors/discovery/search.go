package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tryAgain is after how long a search is repeated: a gateway may limit what it
// answers to one host, and datagrams get lost.
const tryAgain = time.Second

// PlaySearch sends the vector's datagram and compares what comes back.
func (v Vector) PlaySearch(t *testing.T, g *Gateway) {
	t.Helper()
	c := Open(t, g.Hosts[v.From], g.source(v))
	replies := v.search(t, g, c)
	for end := time.Now().Add(Patience); len(replies) < v.Expect.Count && time.Now().Before(end); {
		replies = v.search(t, g, c)
	}
	// The second client's search comes behind what the first has sent.
	Await(t, g.Hosts["c2"], g.address("c2"))
	for more := true; more; {
		var m Message
		if m, more = Receive(t, c, time.Now().Add(Quiet)); more {
			replies = append(replies, m)
		}
	}
	v.compare(t, g, replies)
}

// search sends the vector's datagram and returns the replies that must come.
// A busy machine gets a second where the vector grants less.
func (v Vector) search(t *testing.T, g *Gateway, c *net.UDPConn) (replies []Message) {
	t.Helper()
	began := time.Now()
	for range max(1, v.Repeat) {
		Send(t, g.Hosts[v.From], c, g.destination(v), v.octets(g))
	}
	for len(replies) < v.Expect.Count {
		m, ok := Receive(t, c, began.Add(tryAgain))
		if !ok {
			return replies
		}
		replies = append(replies, m)
	}
	if took := time.Since(began); v.Expect.Within > 0 && took > max(time.Duration(v.Expect.Within)*time.Millisecond, time.Second) {
		t.Errorf("%s: last reply after %v", v.ID, took)
	}
	return replies
}

// source returns what the vector's datagram is sent from.
func (g *Gateway) source(v Vector) netip.Addr {
	switch {
	case v.Source != "":
		return netip.MustParseAddr(v.Source)
	case strings.HasSuffix(v.To, "ff02::c"):
		return netip.IPv6Unspecified()
	case strings.HasPrefix(v.To, "multicast6"):
		return g.address(v.From + "v6")
	}
	return g.address(v.From)
}

// destination returns what the vector's datagram is sent to.
func (g *Gateway) destination(v Vector) netip.Addr {
	kind, address, _ := strings.Cut(v.To, ":")
	switch {
	case kind == "multicast4":
		return group4
	case address != "":
		return netip.MustParseAddr(g.fill(address))
	}
	return g.router(v.From)
}

// router returns the gateway's address on the LAN of a host.
func (g *Gateway) router(host string) netip.Addr {
	if host == "c3" {
		return g.address("gw2")
	}
	return g.address("gw1")
}

func (v Vector) compare(t *testing.T, g *Gateway, replies []Message) {
	t.Helper()
	if v.Expect.CountAny != nil && !slices.Contains(v.Expect.CountAny, len(replies)) ||
		v.Expect.CountAny == nil && len(replies) != v.Expect.Count {
		t.Errorf("%s %s: %d replies", v.ID, v.Title, len(replies))
	}
	if v.Expect.Replies != nil {
		g.sameSet(t, "ST", v.Expect.Replies, replies)
	}
	host := strings.ReplaceAll(v.Expect.Host, "{gw_same_interface}", g.router(v.From).String())
	for _, m := range replies {
		if m.Start != "HTTP/1.1 200 OK" || m.From.Port() != port {
			t.Errorf("%s: %s from %v", v.ID, m.Start, m.From)
		}
		if host != "" {
			m.leadsTo(t, netip.AddrPortFrom(netip.MustParseAddr(g.fill(host)), g.Port))
		}
		m.require(t, v.Expect.Required, v.Expect.MaxAge)
	}
}

// leadsTo demands that a message comes from an address and points there.
func (m Message) leadsTo(t *testing.T, http netip.AddrPort) {
	t.Helper()
	if !strings.HasPrefix(m.Fields["LOCATION"], fmt.Sprintf("http://%v/", http)) || m.From.Addr().WithZone("") != http.Addr() {
		t.Errorf("from %v with LOCATION %s, want %v", m.From, m.Fields["LOCATION"], http)
	}
}

// require demands that fields are there and that the message is valid long
// enough.
func (m Message) require(t *testing.T, names []string, maxAge int) {
	t.Helper()
	for _, name := range names {
		if _, ok := m.Fields[name]; !ok {
			t.Errorf("no %s in %v", name, m.Fields)
		}
	}
	if age, err := strconv.Atoi(strings.TrimPrefix(m.Fields["CACHE-CONTROL"], "max-age=")); maxAge > 0 && (err != nil || age < maxAge) {
		t.Errorf("CACHE-CONTROL %s", m.Fields["CACHE-CONTROL"])
	}
}

// sameSet compares messages by their type and USN; copies do not count.
func (g *Gateway) sameSet(t *testing.T, kind string, want []map[string]string, got []Message) {
	t.Helper()
	var w, h []string
	for _, m := range want {
		w = append(w, g.fill(m[kind]+" "+m["USN"]))
	}
	for _, m := range got {
		h = append(h, m.Fields[kind]+" "+m.Fields["USN"])
	}
	slices.Sort(w)
	slices.Sort(h)
	if h = slices.Compact(h); !slices.Equal(w, h) {
		t.Errorf("got %q, want %q", h, w)
	}
}

package ssdpd_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/ssdp"
)

// vector is a search and its replies, or a situation.
type vector struct {
	ID, Title, Config, Trigger, From, To, Datagram string
	Source                                         string `json:"source_address"`
	Repeat                                         int
	Expect                                         struct {
		Count    int
		CountAny []int `json:"count_any"`
		Replies  []map[string]string
		Required []string `json:"required_headers"`
		Host     string   `json:"location_host"`
		MaxAge   int      `json:"max_age_min"`
		Within   int      `json:"within_ms"`
		Sequence []struct {
			NTS    string
			Set    []map[string]string
			Copies []int
		}
		Alive  []string `json:"required_headers_alive"`
		Byebye []string `json:"required_headers_byebye"`
		Groups []string
		Hosts  []string `json:"host_header"`
		Sets   int      `json:"alive_sets_min"`
	}
}

func load(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("../upnpd/testdata/ssdp.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Vectors
}

// tokens are what the vectors leave open.
var tokens = strings.NewReplacer("{uuid_root}", uuidRoot, "{uuid_wd}", uuidWAN, "{uuid_wcd}", uuidConnection,
	"{c1}", client1.String(), "{gw1}", netlab.RouterLAN.Addr().String(), "{gw2}", netlab.RouterLAN2.Addr().String(),
	"{gw_linklocal}", "["+linkLocal.Addr().String()+"]", "{gwv6}", "["+netlab.RouterLAN6.Addr().String()+"]")

// face returns what a configuration shows.
func (v vector) face() *ssdp.Face {
	if v.Config == "v1" {
		return face1
	}
	return face2
}

// octets returns the datagram; its code points are octets.
func (v vector) octets() (b []byte) {
	for _, c := range tokens.Replace(v.Datagram) {
		b = append(b, byte(c))
	}
	return b
}

// TestSearches plays every search against servers on two LANs.
func TestSearches(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	lab.Clients[0].Address(t, "lo", netip.MustParsePrefix("10.99.0.7/32"))
	played := 0
	for _, v := range load(t) {
		if v.Trigger != "datagram" {
			continue
		}
		played++
		t.Run(v.ID, func(t *testing.T) {
			serve(t, lab, time.Hour, v.face())
			v.search(t, lab)
		})
	}
	if played != 52 {
		t.Errorf("%d vectors played", played)
	}
}

// search sends a vector's datagram and compares what comes back.
func (v vector) search(t *testing.T, lab *netlab.Lab) {
	host, source, own := lab.Clients[0], client1, netlab.RouterLAN.Addr()
	switch v.From {
	case "c3":
		host, source, own = lab.Client2, client3, netlab.RouterLAN2.Addr()
	case "wan":
		host, source = lab.WAN, netip.MustParseAddr("11.22.33.1")
	}
	to := ssdp.IPv4.Addr()
	switch kind, address, _ := strings.Cut(v.To, ":"); {
	case kind == "multicast6":
		to, source = netip.MustParseAddr(address), client1v6
		if to == ssdp.LinkLocal.Addr() {
			source = netip.IPv6Unspecified()
		}
	case kind == "unicast4" && address != "":
		to = netip.MustParseAddr(tokens.Replace(address))
	case kind == "unicast4":
		to = own
	}
	if v.Source != "" {
		source = netip.MustParseAddr(v.Source)
	}
	c := socket(t, host, source)
	began := time.Now()
	for range max(1, v.Repeat) {
		send(t, host, c, to, v.octets())
	}
	var replies []message
	for len(replies) < v.Expect.Count {
		m, ok := receive(t, c, time.Now().Add(patience))
		if !ok {
			t.Fatalf("%d replies, want %d", len(replies), v.Expect.Count)
		}
		replies = append(replies, m)
	}
	if took := time.Since(began); v.Expect.Within > 0 && took > max(time.Duration(v.Expect.Within)*time.Millisecond, time.Second) {
		t.Errorf("last reply after %v", took)
	}
	await(t, lab.Clients[0], client1)
	for {
		m, ok := receive(t, c, time.Now().Add(quiet))
		if !ok {
			break
		}
		replies = append(replies, m)
	}
	v.compare(t, replies, own)
}

func (v vector) compare(t *testing.T, replies []message, own netip.Addr) {
	t.Helper()
	if v.Expect.CountAny != nil && !slices.Contains(v.Expect.CountAny, len(replies)) ||
		v.Expect.CountAny == nil && len(replies) != v.Expect.Count {
		t.Errorf("%d replies", len(replies))
	}
	if v.Expect.Replies != nil {
		sameSet(t, "ST", v.Expect.Replies, replies)
	}
	host := tokens.Replace(strings.ReplaceAll(v.Expect.Host, "{gw_same_interface}", own.String()))
	for _, m := range replies {
		if m.start != "HTTP/1.1 200 OK" {
			t.Errorf("starts with %q", m.start)
		}
		if host != "" && m.fields["LOCATION"] != "http://"+host+":5000"+v.face().Path {
			t.Errorf("LOCATION %s, want host %s", m.fields["LOCATION"], host)
		}
		if from := m.from.Addr().WithZone(""); host != "" && strings.Trim(host, "[]") != from.String() || m.from.Port() != ssdp.Port {
			t.Errorf("reply from %v", m.from)
		}
		m.require(t, v.Expect.Required, v.Expect.MaxAge)
	}
}

// require checks that fields are there and that the message is valid long enough.
func (m message) require(t *testing.T, names []string, maxAge int) {
	t.Helper()
	for _, name := range names {
		if _, ok := m.fields[name]; !ok {
			t.Errorf("no %s in %v", name, m.fields)
		}
	}
	if age, err := strconv.Atoi(strings.TrimPrefix(m.fields["CACHE-CONTROL"], "max-age=")); maxAge > 0 && (err != nil || age < maxAge) {
		t.Errorf("CACHE-CONTROL %s", m.fields["CACHE-CONTROL"])
	}
}

// sameSet compares messages by their type and USN; copies do not count.
func sameSet(t *testing.T, kind string, want []map[string]string, got []message) {
	t.Helper()
	var w, g []string
	for _, m := range want {
		w = append(w, tokens.Replace(m[kind]+" "+m["USN"]))
	}
	for _, m := range got {
		g = append(g, m.fields[kind]+" "+m.fields["USN"])
	}
	slices.Sort(w)
	slices.Sort(g)
	if g = slices.Compact(g); !slices.Equal(w, g) {
		t.Errorf("got %q, want %q", g, w)
	}
}

// TestSituations plays the vectors that are no searches.
func TestSituations(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	situations := map[string]func(*testing.T, *netlab.Lab, vector){
		"daemon start":                                  start,
		"daemon stop (SIGTERM)":                         stop,
		"notify interval 60 s, wait 130 s":              interval,
		"change {gw1} to another address in the subnet": newAddress,
		"change {ext}":                                  newUplink,
	}
	for _, v := range load(t) {
		if v.Trigger == "datagram" {
			continue
		}
		t.Run(v.ID, func(t *testing.T) {
			play := situations[v.Trigger]
			if play == nil {
				t.Fatalf("situation %q is not known", v.Trigger)
			}
			play(t, lab, v)
		})
	}
}

// start hears the first announcements, in each group.
func start(t *testing.T, lab *netlab.Lab, v vector) {
	for g, host := range map[ssdp.Group]string{ssdp.IPv4: "239.255.255.250:1900", ssdp.LinkLocal: "[FF02::C]:1900", ssdp.SiteLocal: "[FF05::C]:1900"} {
		t.Run(host, func(t *testing.T) {
			e := listenTo(t, lab.Clients[0], g)
			serve(t, lab, time.Hour, v.face())
			n := len(v.face().Items())
			heard := e.hear(t, "byebye, then three times alive", 4*n, all)
			for i, m := range heard {
				if m.fields["HOST"] != host {
					t.Errorf("HOST %s", m.fields["HOST"])
				}
				if kind := m.fields["NTS"]; (kind == "ssdp:byebye") != (i < n) || (kind == "ssdp:alive") != (i >= n) {
					t.Errorf("message %d is %s", i, kind)
				}
			}
			for _, s := range v.Expect.Sequence {
				v.sequence(t, s.NTS, s.Set, heard)
			}
		})
	}
}

// sequence compares the messages of one kind with a set of the vector.
func (v vector) sequence(t *testing.T, kind string, set []map[string]string, heard []message) {
	t.Helper()
	got := slices.DeleteFunc(slices.Clone(heard), func(m message) bool { return m.fields["NTS"] != kind })
	sameSet(t, "NT", set, got)
	for _, m := range got {
		if kind == "ssdp:alive" {
			m.require(t, v.Expect.Alive, v.Expect.MaxAge)
		} else {
			m.require(t, v.Expect.Byebye, 0)
		}
	}
}

// stop hears byebye in every group, with the numbers of the announcements.
func stop(t *testing.T, lab *netlab.Lab, v vector) {
	for _, g := range []ssdp.Group{ssdp.IPv4, ssdp.LinkLocal, ssdp.SiteLocal} {
		e := listenTo(t, lab.Clients[0], g)
		gateway := serve(t, lab, time.Hour, v.face())
		alive := e.hear(t, "alive", 1, nts("ssdp:alive"))[0]
		gateway.stop()
		heard := e.hear(t, "byebye at the end", len(v.face().Items()), nts("ssdp:byebye"))
		v.sequence(t, "ssdp:byebye", v.Expect.Sequence[0].Set, heard)
		for _, m := range heard {
			for _, name := range []string{"BOOTID.UPNP.ORG", "CONFIGID.UPNP.ORG"} {
				if m.fields[name] != alive.fields[name] {
					t.Errorf("%s %s, was %s", name, m.fields[name], alive.fields[name])
				}
			}
		}
	}
}

// interval hears announcements again and again, here every half second.
func interval(t *testing.T, lab *netlab.Lab, v vector) {
	e := listenTo(t, lab.Clients[0], ssdp.IPv4)
	serve(t, lab, time.Second/2, v.face())
	n := len(v.face().Items())
	for _, m := range e.hear(t, "alive sets", (3+v.Expect.Sets)*n, nts("ssdp:alive")) {
		m.require(t, nil, v.Expect.MaxAge)
	}
}

// newAddress hears an update, then alive with the new LOCATION and BOOTID: on
// the interface that it was changed on, and on the other.
func newAddress(t *testing.T, lab *netlab.Lab, v vector) {
	lab.Router.IP(t, "address", "add", "192.168.50.2/24", "dev", "lan0")
	first, second := listenTo(t, lab.Clients[0], ssdp.IPv4), listenTo(t, lab.Client2, ssdp.IPv4)
	gateway := serve(t, lab, time.Hour, v.face())
	n := len(v.face().Items())
	before := first.hear(t, "alive", 1, nts("ssdp:alive"))[0]
	gateway.first.set(netip.MustParsePrefix("192.168.50.2/24"), netlab.RouterLAN6, linkLocal)
	gateway.Changed()
	for e, location := range map[ears]string{first: "http://192.168.50.2:5000", second: "http://192.168.60.1:5000"} {
		update := e.hear(t, "update", n, nts("ssdp:update"))[n-1]
		after := e.hear(t, "alive", n, nts("ssdp:alive"))[n-1]
		if got := update.fields["BOOTID.UPNP.ORG"]; got != before.fields["BOOTID.UPNP.ORG"] {
			t.Errorf("update with BOOTID %s", got)
		}
		if got, want := after.fields["BOOTID.UPNP.ORG"], update.fields["NEXTBOOTID.UPNP.ORG"]; got != want || got <= before.fields["BOOTID.UPNP.ORG"] {
			t.Errorf("alive with BOOTID %s, announced was %s", got, want)
		}
		for _, m := range []message{update, after} {
			if m.fields["LOCATION"] != location+v.face().Path {
				t.Errorf("%s with LOCATION %s", m.fields["NTS"], m.fields["LOCATION"])
			}
		}
	}
	if m := await(t, lab.Clients[0], client1); !strings.HasPrefix(m.fields["LOCATION"], "http://192.168.50.2:5000/") {
		t.Errorf("search answered with %s", m.fields["LOCATION"])
	}
}

// newUplink hears nothing when something changes elsewhere: what comes next
// is the announcement that is asked for, with the same BOOTID.
func newUplink(t *testing.T, lab *netlab.Lab, v vector) {
	e := listenTo(t, lab.Clients[0], ssdp.IPv4)
	gateway := serve(t, lab, time.Hour, v.face())
	n := len(v.face().Items())
	before := e.hear(t, "three sets", 3*n, nts("ssdp:alive"))[0]
	gateway.Changed()
	gateway.Announce()
	for _, m := range e.hear(t, "what comes next", n, all) {
		if m.fields["NTS"] != "ssdp:alive" || m.fields["BOOTID.UPNP.ORG"] != before.fields["BOOTID.UPNP.ORG"] {
			t.Errorf("heard %v", m.fields)
		}
	}
}

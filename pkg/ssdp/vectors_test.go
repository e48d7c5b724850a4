package ssdp_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/ssdp"
	"igdd/pkg/vectors"
)

// vector is a search and its replies, or a situation.
type vector struct {
	ID, Config, Trigger, From, To, Datagram string
	Source                                  string `json:"source_address"`
	Repeat                                  int
	Expect                                  struct {
		Count    int
		CountAny []int `json:"count_any"`
		Replies  []map[string]string
		Required []string `json:"required_headers"`
		Host     string   `json:"location_host"`
		Sequence []struct {
			NTS string
			Set []map[string]string
		}
		Alive  []string `json:"required_headers_alive"`
		Byebye []string `json:"required_headers_byebye"`
	}
}

// octets returns the datagram; its code points are octets.
func (v vector) octets() []byte {
	var b []byte
	for _, c := range tokens.Replace(v.Datagram) {
		b = append(b, byte(c))
	}
	return b
}

// to returns the address that the datagram is sent to, and the router's own
// address of the same kind.
func (v vector) to(t *testing.T) (to, own netip.Addr) {
	t.Helper()
	four := netip.MustParseAddr("192.168.50.1")
	kind, address, _ := strings.Cut(v.To, ":")
	switch {
	case kind == "multicast4":
		return ssdp.IPv4.Addr(), four
	case kind == "unicast4":
		return four, four
	case address == "ff02::c":
		return ssdp.LinkLocal.Addr(), netip.MustParseAddr("fe80::1")
	case address == "ff05::c":
		return ssdp.SiteLocal.Addr(), netip.MustParseAddr("2001:db8::1")
	}
	t.Fatalf("destination %q", v.To)
	return
}

// tokens are what the vectors leave open.
var tokens = strings.NewReplacer("{uuid_root}", uuidRoot, "{uuid_wd}", uuidWAN, "{uuid_wcd}", uuidConnection,
	"{gw_same_interface}", "192.168.50.1", "{gw1}", "192.168.50.1", "{gw_linklocal}", "[fe80::1]", "{gwv6}", "[2001:db8::1]")

func load(t testing.TB) []vector {
	t.Helper()
	var file struct{ Vectors []vector }
	vectors.Decode(t, "ssdp", &file)
	return file.Vectors
}

// descriptions returns what a configuration of the vectors shows.
func (v vector) descriptions() []*ssdp.Description {
	if v.Config == "v1" {
		return []*ssdp.Description{description1}
	}
	return []*ssdp.Description{description2}
}

// TestVectors answers every search of the vectors as far as the codec can see:
// who sent it is a matter of the sockets.
func TestVectors(t *testing.T) {
	for _, v := range load(t) {
		if v.Trigger != "datagram" || v.From == "wan" || v.Source != "" {
			continue
		}
		t.Run(v.ID, func(t *testing.T) {
			to, own := v.to(t)
			var replies []map[string]string
			if s, err := ssdp.ParseSearch(v.octets(), to); err == nil {
				answer := *sender
				answer.HTTP = netip.AddrPortFrom(own, 5000)
				description, items := ssdp.Match(v.descriptions(), s.Target)
				for _, i := range items {
					replies = append(replies, read(t, answer.AppendReply(nil, description, i, time.Now()), "HTTP/1.1 200 OK"))
				}
			}
			v.check(t, replies)
		})
	}
}

func (v vector) check(t *testing.T, replies []map[string]string) {
	t.Helper()
	count := len(replies) * max(1, v.Repeat)
	if v.Expect.CountAny != nil && !slices.Contains(v.Expect.CountAny, count) || v.Expect.CountAny == nil && count != v.Expect.Count {
		t.Errorf("%d replies", count)
	}
	if v.Expect.Replies != nil {
		same(t, "ST", v.Expect.Replies, replies)
	}
	for _, r := range replies {
		if host := tokens.Replace(v.Expect.Host); host != "" && !strings.HasPrefix(r["LOCATION"], "http://"+host+":5000/") {
			t.Errorf("LOCATION %s, want host %s", r["LOCATION"], host)
		}
		require(t, r, v.Expect.Required)
	}
}

// TestSets compares the notices of a whole set with the vectors' sequences.
func TestSets(t *testing.T) {
	for _, v := range load(t) {
		for _, s := range v.Expect.Sequence {
			description := v.descriptions()[0]
			var got []map[string]string
			for _, i := range description.Items() {
				switch s.NTS {
				case "ssdp:alive":
					got = append(got, read(t, sender.AppendAlive(nil, ssdp.IPv4, description, i), "NOTIFY * HTTP/1.1"))
					require(t, got[len(got)-1], v.Expect.Alive)
				case "ssdp:byebye":
					got = append(got, read(t, sender.AppendByebye(nil, ssdp.IPv4, description, i), "NOTIFY * HTTP/1.1"))
					require(t, got[len(got)-1], v.Expect.Byebye)
				}
			}
			same(t, "NT", s.Set, got)
		}
	}
}

// same compares sets of messages by their type and USN.
func same(t *testing.T, kind string, want, got []map[string]string) {
	t.Helper()
	pairs := func(list []map[string]string) (p []string) {
		for _, m := range list {
			p = append(p, tokens.Replace(m[kind]+" "+m["USN"]))
		}
		slices.Sort(p)
		return p
	}
	if w, g := pairs(want), pairs(got); !slices.Equal(w, g) {
		t.Errorf("got %q, want %q", g, w)
	}
}

func require(t *testing.T, message map[string]string, names []string) {
	t.Helper()
	for _, name := range names {
		if _, ok := message[name]; !ok {
			t.Errorf("no field %s in %v", name, message)
		}
	}
}

// read takes a message apart: first line, fields, empty line, no body.
func read(t *testing.T, message []byte, start string) map[string]string {
	t.Helper()
	if len(message) > 1280 {
		t.Errorf("message of %d octets", len(message))
	}
	text, whole := strings.CutSuffix(string(message), "\r\n\r\n")
	lines := strings.Split(text, "\r\n")
	if !whole || lines[0] != start {
		t.Errorf("message %q", message)
	}
	fields := make(map[string]string)
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(line, "\r\n") {
			t.Errorf("line %q", line)
		}
		fields[name] = strings.TrimPrefix(value, " ")
	}
	return fields
}

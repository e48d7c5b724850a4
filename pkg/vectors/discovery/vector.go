// Package discovery holds a gateway against the test vectors of SSDP. It reads
// messages on its own, so that the codec under test does not judge itself.
package discovery

import (
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/vectors"
)

// Vector is a search and its replies, or a situation and what is announced.
type Vector struct {
	ID, Level, Title string
	Config           string // what the gateway is set up with
	Trigger          string // "datagram", or the situation
	From, To         string
	Datagram         string // its code points are octets
	Source           string `json:"source_address"`
	Repeat           int
	Expect           Expectation
}

// Expectation is what must be heard.
type Expectation struct {
	Count    int
	CountAny []int `json:"count_any"`
	Replies  []map[string]string
	Host     string `json:"location_host"`
	Within   int    `json:"within_ms"`

	Required []string `json:"required_headers"`
	Alive    []string `json:"required_headers_alive"`
	Byebye   []string `json:"required_headers_byebye"`
	MaxAge   int      `json:"max_age_min"`

	Sequence []Set
	Sets     int `json:"alive_sets_min"`
	Groups   []string
	Hosts    []string `json:"host_header"`
}

// Set is an announcement of everything.
type Set struct {
	NTS string
	Set []map[string]string
}

// Load returns the vectors of SSDP.
func Load(t testing.TB) []Vector {
	t.Helper()
	var file struct{ Vectors []Vector }
	vectors.Decode(t, "ssdp", &file)
	return file.Vectors
}

// items returns how many things the gateway of a configuration announces.
func (v Vector) items() int {
	if v.Config == "v1" {
		return 10
	}
	return 11
}

// Gateway is what the vectors are played against. Searches want it running,
// situations want it stopped.
type Gateway struct {
	Tokens map[string]string            // what stands for names in braces
	Hosts  map[string]*netlab.Namespace // c1, c2, c3 and wan
	Port   uint16                       // of HTTP

	Start func()
	Stop  func() // returns when the gateway has ended
	// MoveLAN gives the gateway another address on the first LAN, MoveUplink
	// another external one.
	MoveLAN    func() netip.Addr
	MoveUplink func()
	Announce   func() // has it repeat the announcement
}

// fill puts values in the place of names in braces.
func (g *Gateway) fill(text string) string {
	for name, value := range g.Tokens {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// address returns the address that a name stands for.
func (g *Gateway) address(name string) netip.Addr { return netip.MustParseAddr(g.Tokens[name]) }

// octets returns the vector's datagram.
func (v Vector) octets(g *Gateway) (b []byte) {
	for _, c := range g.fill(v.Datagram) {
		b = append(b, byte(c))
	}
	return b
}

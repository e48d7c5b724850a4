// Package gena holds a gateway against the test vectors of UPnP events. It
// reads messages on its own, so that the codec under test does not judge
// itself.
package gena

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/vectors"
)

// Vector is a sequence of steps with what must come of each.
type Vector struct {
	ID, Level, Title string
	Config           string // what the gateway is set up with
	Listeners        map[string]Place
	Steps            []Step
}

// Place is where a control point listens.
type Place struct {
	Host      string
	Port      uint16
	IP        int
	Behaviour string
}

// Step is one thing that is done or awaited.
type Step struct {
	Do        string
	From      string // SUBSCRIBE, UNSUBSCRIBE, soap
	On, Name  string // the listener
	Behaviour string

	EventURLOf string `json:"event_url_of"`
	Path       string
	Headers    json.RawMessage // of a request: pairs; of a message: an object
	HeaderCase string          `json:"header_case"`
	IP, Repeat int
	Expect     Expectation
	SaveSID    string `json:"save_sid"`

	Service, Action string
	Args            [][2]string

	Within int `json:"within_ms"`
	For    int `json:"for_ms"`
	MS     int
	Seq    *uint32
	Vars   map[string]json.RawMessage
	Exact  bool `json:"exact_vars"`
	SID    string

	Set *string // the external address
}

// Expectation is what the answer to a request must be.
type Expectation struct {
	HTTP         int
	HTTPAny      []int    `json:"http_any"`
	LastHTTPAny  []int    `json:"last_http_any"`
	Present      []string `json:"headers_present"`
	Absent       []string `json:"headers_absent"`
	Timeout      string
	TimeoutMin   int    `json:"timeout_min"`
	TimeoutRE    string `json:"timeout_re"`
	SameSID      string `json:"same_sid"`
	NoConnection bool   `json:"no_connection"`
}

// Load returns the vectors of event subscriptions.
func Load(t testing.TB) []Vector {
	t.Helper()
	var file struct{ Vectors []Vector }
	vectors.Decode(t, "gena", &file)
	return file.Vectors
}

// Subscribes reports whether a subscription of the vector succeeds.
func (v Vector) Subscribes() bool {
	return slices.ContainsFunc(v.Steps, func(s Step) bool { return s.Expect.HTTP == 200 || s.Repeat > 1 })
}

// Gateway is what the vectors are played against.
type Gateway struct {
	Port        uint16            // of HTTP
	Description string            // path of the device description
	Tokens      map[string]string // what stands for names in braces
	Dial        func(from string, to netip.AddrPort) (net.Conn, error)
	Listen      func(host string, at netip.AddrPort) (net.Listener, error)
	// SetUplink gives the gateway another external address, or none.
	SetUplink func(netip.Addr) error
}

// fill puts values in the place of names in braces.
func (g *Gateway) fill(text string, more map[string]string) string {
	for _, values := range []map[string]string{g.Tokens, more} {
		for name, value := range values {
			text = strings.ReplaceAll(text, "{"+name+"}", value)
		}
	}
	return text
}

// router returns the gateway's address for a host.
func (g *Gateway) router(from string, ip int) netip.AddrPort {
	name := "gw1"
	switch {
	case ip == 6:
		name = "gwv6"
	case from == "c3":
		name = "gw2"
	}
	return netip.AddrPortFrom(netip.MustParseAddr(g.Tokens[name]), g.Port)
}

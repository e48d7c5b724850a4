// Package soap holds a gateway against the test vectors of UPnP control and
// description. It reads answers on its own, so that the codec under test does
// not judge itself.
package soap

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/vectors"
)

// File is what soap.json holds.
type File struct {
	Vectors   []Vector
	Documents []Document
	Services  []Service
}

// Vector is an exchange with a control URL and what must come of it.
type Vector struct {
	ID, Level, Title string
	Config           string // what the gateway is set up with
	Caller           string // c1, c2, c3 or wan
	Service          string // WANIPConnection:2
	Action           string
	Before           []Step `json:"pre"`
	Args             []Argument
	Request          Form
	Expect           Expectation
	After            State `json:"post"`
}

// Argument is a name with its value, in which names of hosts stand in braces.
type Argument [2]string

// Step brings about a state before the request.
type Step struct {
	Wait    float64 // seconds
	Mapping *Entry
	Pinhole []Argument
	From    string
	Saves   string // the name of the UniqueID
}

// Entry is a mapping to add.
type Entry struct {
	RemoteHost  string `json:"rh"`
	External    int    `json:"ext"`
	Protocol    string `json:"proto"`
	Internal    int    `json:"int"`
	Client      string
	Description string `json:"desc"`
	Lease       int
	Enabled     string `json:"en"`
}

// Form is how a request differs from a plain one.
type Form struct {
	Control       string // the service whose control URL is used
	IP            int
	SOAPAction    json.RawMessage
	HeaderCase    string          `json:"header_case"`
	LineEnd       string          `json:"line_end"`
	Transfer      string          // chunked
	Expect        bool            `json:"expect_continue"`
	ContentLength json.RawMessage `json:"content_length"`
	Segments      string
	Version       string `json:"http_version"`
	Host          string
	Method        string
	Path          string
	Prefixes      []string
	Bare          bool `json:"bare_envelope"`
	CDATA         bool
	Charrefs      bool
	BOM           bool
	Doctype       bool
	Truncate      float64
	Header        *string `json:"soap_header"`
	Query         bool
	Destination   string `json:"dst"`
}

// Expectation is what must come back.
type Expectation struct {
	HTTP  int
	Out   [][2]json.RawMessage
	Names []string `json:"out_names"`
	Error *struct {
		Code        int
		Description string
	}
	AcceptCodes  []int  `json:"accept_codes"`
	HTTPAny      []int  `json:"http_any"`
	NoSuccess    bool   `json:"no_success"`
	NoConnection bool   `json:"no_connection"`
	Namespace    string `json:"response_ns"`
	Fault        string
}

// State is what the mapping table and the firewall must hold.
type State struct {
	Has   []map[string]json.RawMessage `json:"table_has"`
	Lacks []map[string]json.RawMessage `json:"table_lacks"`
	Count *int
	WAN   *struct {
		Port    uint16
		Reaches *struct {
			Host string
			Port uint16
		}
	} `json:"wan_connect"`
}

// Service is a service as the standard has it.
type Service struct {
	Type    string `json:"serviceType"`
	Actions []struct {
		Name     string
		Required bool
		Args     [][3]string // direction, name, variable
	}
	Variables []struct {
		Name     string
		Required bool
		Type     string
		Evented  bool
	}
}

// Load returns the vectors of actions and descriptions.
func Load(t testing.TB) File {
	t.Helper()
	var f File
	vectors.Decode(t, "soap", &f)
	return f
}

// Gateway is a gateway under test whose table is empty.
type Gateway struct {
	Port        uint16 // of HTTP
	Description string // path of the description
	// Tokens are the addresses of the hosts c1, c1v6, gw1, ext …, and the
	// UUIDs uuid_root …
	Tokens map[string]string
	// Dial connects from a host: c1, c2, c3 or wan.
	Dial func(from string, to netip.AddrPort) (net.Conn, error)
	// Reaches reports whether a TCP connection from the uplink to a port of
	// the gateway arrives at a host.
	Reaches func(port uint16, host netip.AddrPort) bool
}

// fill replaces the names in braces.
func (g *Gateway) fill(text string, more map[string]string) string {
	for _, tokens := range []map[string]string{g.Tokens, more} {
		for name, value := range tokens {
			text = strings.ReplaceAll(text, "{"+name+"}", value)
		}
	}
	return text
}

// router returns the address of the gateway that a caller talks to.
func (g *Gateway) router(caller string, ip int) string {
	switch {
	case ip == 6:
		return g.Tokens["gwv6"]
	case caller == "c3":
		return g.Tokens["gw2"]
	case caller == "wan":
		return g.Tokens["ext"]
	}
	return g.Tokens["gw1"]
}

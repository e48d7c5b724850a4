// Package vectors holds the request/response vectors of all protocols, and
// compares what a gateway answers to those of NAT-PMP and PCP. It decodes
// replies on its own, so that the codecs under test do not judge themselves.
package vectors

import (
	"embed"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"testing"
)

//go:embed testdata/*.json
var files embed.FS

// Octets is a payload, in JSON a string of hexadecimal digits.
type Octets []byte

// UnmarshalText reads hexadecimal digits.
func (o *Octets) UnmarshalText(text []byte) (err error) {
	*o, err = hex.DecodeString(string(text))
	return err
}

// Vector is one request and what must come of it. It starts from an empty
// mapping table.
type Vector struct {
	ID           string
	Requirements []string
	Description  string
	Level        string
	Profile      string // core, config, thirdparty, peer, ipv6 or announce
	Before       []Step
	Side         string `json:"iface"` // lan or wan
	Source       netip.Addr
	Destination  netip.Addr // at port 5351
	Request      Octets     `json:"request_hex"`
	Expect       Expectation
	After        []FollowUp
}

// Step establishes state before the request. Op says which fields count.
type Step struct {
	Op string // send, config, static_forward, gateway_socket, wan, nat or start

	// send: a request that must have this result.
	Source      netip.Addr
	Destination netip.Addr
	Request     Octets `json:"request_hex"`
	Result      int    `json:"expect_result"`

	// config: settings by name.
	Set map[string]any

	// wan, nat: what becomes of it ("none", "address", "disabled").
	State string
	Addr  netip.Addr // wan: the new address; gateway_socket: where it listens

	// static_forward, gateway_socket.
	Protocol     string     `json:"proto"` // tcp or udp
	ExternalPort uint16     `json:"ext_port"`
	InternalIP   netip.Addr `json:"int_ip"`
	InternalPort uint16     `json:"int_port"`
	Port         uint16
}

// FollowUp is a request that proves the state afterwards.
type FollowUp struct {
	Source      netip.Addr
	Destination netip.Addr
	Request     Octets `json:"request_hex"`
	Expect      Expectation
	Why         string
}

// Decode reads the vectors of a protocol (natpmp, pcp, soap, ssdp or gena) into
// the value that file points to.
func Decode(t testing.TB, protocol string, file any) {
	t.Helper()
	text, err := files.ReadFile("testdata/" + protocol + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, file); err != nil {
		t.Fatalf("%s.json: %v", protocol, err)
	}
}

// Load returns the vectors of a protocol, natpmp or pcp.
func Load(t testing.TB, protocol string) []Vector {
	t.Helper()
	var file struct{ Vectors []Vector }
	Decode(t, protocol, &file)
	return file.Vectors
}

// Setting returns what the vector's config steps say of a setting, or
// otherwise if they say nothing.
func Setting[T any](v Vector, name string, otherwise T) T {
	for _, step := range v.Before {
		if value, ok := step.Set[name].(T); ok {
			otherwise = value
		}
	}
	return otherwise
}

// Steps returns the vector's steps of one kind.
func (v Vector) Steps(op string) []Step {
	var steps []Step
	for _, step := range v.Before {
		if step.Op == op {
			steps = append(steps, step)
		}
	}
	return steps
}

package pcp_test

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/vectors"
)

// byForm are the results that the form of a request alone decides.
var byForm = map[pcp.Result]bool{
	pcp.UnsuppVersion: true, pcp.MalformedRequest: true, pcp.UnsuppOpcode: true,
	pcp.UnsuppOption: true, pcp.MalformedOption: true, pcp.AddressMismatch: true,
}

// TestVectors answers every vector's request: faults of form as the codec finds
// them, all else with the values that the vector expects, since no table
// stands behind it.
func TestVectors(t *testing.T) {
	for _, protocol := range []string{"natpmp", "pcp"} {
		for _, v := range vectors.Load(t, protocol) {
			if v.Expect.Capture || len(v.Request) == 0 || v.Side == "wan" || v.Destination == externalAddress {
				continue
			}
			if protocol == "natpmp" && v.Request[0] == 0 || vectors.Setting(v, "pcp", true) == false {
				continue // NAT-PMP's
			}
			t.Run(v.ID, func(t *testing.T) {
				for _, difference := range v.Expect.Check(answer(t, v)) {
					t.Error(difference)
				}
			})
		}
	}
}

var externalAddress = netip.MustParseAddr("11.22.33.44")

// answer replies as a server would that knows what the vector wants.
func answer(t *testing.T, v vectors.Vector) []byte {
	service := pcp.Service{
		Peer:       vectors.Setting(v, "peer", false),
		ThirdParty: vectors.Setting(v, "third_party", false),
	}
	r, err := service.Parse(v.Request, v.Source)
	if err == pcp.ErrIgnore {
		return nil
	}
	if result, ok := err.(pcp.Result); ok {
		return pcp.AppendError(nil, v.Request, result, result.Lifetime(), 7)
	}
	want := v.Expect.Number
	if result := pcp.Result(want("result", 0)); result != pcp.Success {
		if byForm[result] {
			t.Errorf("the codec finds no fault, want %v", result)
		}
		return pcp.AppendError(nil, v.Request, result, seconds(want("lifetime", 30)), 7)
	}
	reply := pcp.Response{
		Opcode: r.Opcode, Lifetime: seconds(want("lifetime", 0)), Epoch: 7,
		Mapping: r.Mapping, Options: r.Options,
	}
	if r.Opcode != pcp.Announce && r.Lifetime > 0 {
		reply.External = assigned(v.Expect, uint16(want("ext_port", 1024)))
	}
	return reply.Append(nil)
}

func seconds(n float64) time.Duration { return time.Duration(n) * time.Second }

// assigned returns the external endpoint that the vector wants.
func assigned(e vectors.Expectation, port uint16) netip.AddrPort {
	if len(e.AnyOf) > 0 {
		e = e.AnyOf[0]
	}
	text, _ := e.Fields["ext_ip"].Equal.(string)
	return netip.AddrPortFrom(netip.MustParseAddr(text), port)
}

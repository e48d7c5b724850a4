package upstream

import (
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

var (
	outer  = netip.MustParseAddr("203.0.113.7")
	nonce  = portmap.Nonce{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	hour   = ask{protocol: portmap.TCP, port: 40000, suggested: 40001, lifetime: time.Hour, nonce: nonce, description: "game"}
	remote = portmap.Filter{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Port: 5000}
)

// pcpServer answers PCP requests by what answer returns for them, and keeps them.
type pcpServer struct {
	mu       sync.Mutex
	requests []pcp.Request
	answer   func(pcp.Request) []pcp.Response
}

// router returns the router that asks s.
func (s *pcpServer) router(t *testing.T) *pcpRouter {
	t.Helper()
	return &pcpRouter{server: serve(t, func(b []byte) (replies [][]byte) {
		if b[0] == natpmp.Version {
			return [][]byte{pcp.AppendError(nil, b, pcp.UnsuppVersion, 0, 0)}
		}
		req, err := pcp.Service{}.Parse(b, loopback)
		if err != nil {
			t.Errorf("%x is no valid request: %v", b, err)
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, req)
		for _, r := range s.answer(req) {
			replies = append(replies, r.Append(nil))
		}
		return replies
	})}
}

// granted returns the response that grants req its port at an address.
func granted(req pcp.Request, external string) pcp.Response {
	r := pcp.Response{Opcode: req.Opcode, Lifetime: req.Lifetime, Epoch: 77, Mapping: req.Mapping}
	r.External = netip.MustParseAddrPort(external)
	return r
}

// asked returns the requests so far, without those that repeat the one before.
func (s *pcpServer) asked() []pcp.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.CompactFunc(slices.Clone(s.requests), func(a, b pcp.Request) bool { return reflect.DeepEqual(a, b) })
}

func TestPCPOpen(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "203.0.113.7:4444")} }}
	a := hour
	a.exact, a.filters = true, []portmap.Filter{remote}
	g, err := s.router(t).open(t.Context(), a)
	if err != nil || g.external != netip.AddrPortFrom(outer, 4444) || g.lifetime != time.Hour || g.epoch.seconds != 77 || g.epoch.at.IsZero() {
		t.Errorf("%+v, %v", g, err)
	}
	want := pcp.Request{
		Opcode: pcp.Map, Lifetime: time.Hour, Client: loopback,
		Mapping: pcp.Mapping{
			Nonce: pcp.Nonce(nonce), Protocol: 6, InternalPort: 40000,
			External: netip.AddrPortFrom(netip.IPv4Unspecified(), 40001),
		},
		Options: []pcp.Option{
			pcp.PreferFailure{},
			pcp.Filter{Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)},
			pcp.Filter{PrefixLength: 120, Remote: netip.MustParseAddrPort("198.51.100.0:5000")},
			pcp.Description{Text: "game"},
		},
	}
	if !reflect.DeepEqual(s.asked(), []pcp.Request{want}) {
		t.Errorf("asked %+v\nwant  %+v", s.asked(), want)
	}
}

func TestPCPClose(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "0.0.0.0:0")} }}
	if err := s.router(t).close(t.Context(), hour); err != nil {
		t.Error(err)
	}
	if r := s.asked()[0]; r.Lifetime != 0 || r.Nonce != pcp.Nonce(nonce) || r.InternalPort != 40000 || len(r.Options) != 0 {
		t.Errorf("asked %+v", r)
	}
}

// TestPCPWithoutDescription sends no empty one, which says nothing.
func TestPCPWithoutDescription(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "203.0.113.7:1")} }}
	a := hour
	a.description = ""
	if _, err := s.router(t).open(t.Context(), a); err != nil || len(s.asked()[0].Options) != 0 {
		t.Errorf("asked %+v, %v", s.asked()[0], err)
	}
}

func TestPCPFiltersAreRemoved(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "203.0.113.7:1")} }}
	a := hour
	a.filtered = true
	s.router(t).open(t.Context(), a)
	if !slices.Contains(s.asked()[0].Options, pcp.Option(pcp.Filter{Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)})) {
		t.Errorf("asked %+v", s.asked()[0])
	}
}

// TestPCPManyFilters asks for more filters than fit into a packet.
func TestPCPManyFilters(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "203.0.113.7:1")} }}
	r := s.router(t)
	a := hour
	a.exact = true
	a.description = string(make([]byte, 256))
	for n := range maxFilters + 1 {
		if _, err := r.open(t.Context(), a); err != nil {
			t.Fatalf("%d filters: %v", n, err)
		}
		a.filters = append(a.filters, remote)
	}
	r.open(t.Context(), a)
	all := s.asked()
	if last := all[len(all)-1]; len(last.Options) != 3 {
		t.Errorf("%d options", len(last.Options))
	}
}

// TestPCPWithoutOptions has servers that do not know the options, or that cannot read
// the descriptions whose length is no multiple of four, which miniupnpd 2.3.1 cannot.
func TestPCPWithoutOptions(t *testing.T) {
	t.Parallel()
	for _, result := range []pcp.Result{pcp.UnsuppOption, pcp.MalformedOption} {
		s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
			r := granted(req, "203.0.113.7:1")
			if len(req.Options) > 1 {
				r.Result = result
			}
			return []pcp.Response{r}
		}}
		r := s.router(t)
		a := hour
		a.filters = []portmap.Filter{remote}
		for range 2 {
			if _, err := r.open(t.Context(), a); err != nil {
				t.Error(err)
			}
		}
		if n := len(s.asked()); n != 2 {
			t.Errorf("%v: %d different requests, want one with options and those without", result, n)
		}
	}
}

// TestPCPWithoutOptionsAtOnce has several requests find out at the same time that the
// server does not know the options.
func TestPCPWithoutOptionsAtOnce(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
		r := granted(req, "203.0.113.7:1")
		if len(req.Options) > 0 {
			r.Result = pcp.UnsuppOption
		}
		return []pcp.Response{r}
	}}
	r := s.router(t)
	var all sync.WaitGroup
	options := r.options(hour)
	for i := range uint16(4) {
		all.Go(func() {
			a := hour
			a.port += i
			if _, err := r.openWith(t.Context(), a, options); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestPCPIgnoresLies has replies that are not about what was asked for before the one that is.
func TestPCPIgnoresLies(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(*pcp.Response){
		"nonce":         func(r *pcp.Response) { r.Nonce[0]++ },
		"internal port": func(r *pcp.Response) { r.InternalPort++ },
		"protocol":      func(r *pcp.Response) { r.Protocol = 17 },
		"opcode":        func(r *pcp.Response) { r.Opcode = pcp.Announce },
		"refusal of another nonce": func(r *pcp.Response) {
			r.Nonce[0]++
			r.Result = pcp.NotAuthorized
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
				wrong, right := granted(req, "203.0.113.8:1"), granted(req, "203.0.113.7:2")
				lie(&wrong)
				return []pcp.Response{wrong, right}
			}}
			if g, err := s.router(t).open(t.Context(), hour); err != nil || g.external.Port() != 2 {
				t.Errorf("%+v, %v", g, err)
			}
		})
	}
}

func TestPCPRefusals(t *testing.T) {
	t.Parallel()
	for result, want := range map[pcp.Result]cause{
		pcp.NotAuthorized:         denied,
		pcp.CannotProvideExternal: taken,
		pcp.UnsuppOpcode:          denied,
		pcp.UnsuppVersion:         foreign,
		pcp.AddressMismatch:       denied,
		200:                       denied,
	} {
		t.Run(result.Error(), func(t *testing.T) {
			t.Parallel()
			s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
				r := granted(req, "0.0.0.0:0")
				r.Result = result
				return []pcp.Response{r}
			}}
			if _, err := s.router(t).open(t.Context(), hour); causeOf(err) != want {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestPCPGrantForNoTime(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
		r := granted(req, "203.0.113.7:2")
		r.Lifetime = 0
		return []pcp.Response{r}
	}}
	if _, err := s.router(t).open(t.Context(), hour); causeOf(err) != invalid {
		t.Error(err)
	}
}

func TestPCPCheck(t *testing.T) {
	t.Parallel()
	for _, result := range []pcp.Result{pcp.Success, pcp.UnsuppOpcode} {
		s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
			return []pcp.Response{{Opcode: req.Opcode, Result: result, Epoch: 5}}
		}}
		if st, err := s.router(t).check(t.Context()); err != nil || st.epoch.seconds != 5 || st.external.IsValid() {
			t.Errorf("%v: %+v, %v", result, st, err)
		}
	}
}

// TestPCPAddress has servers that speak NAT-PMP too, and then no longer: they are asked
// once more.
func TestPCPAddress(t *testing.T) {
	t.Parallel()
	for name, other := range map[string][]byte{
		"refuses": natpmp.Response{Result: natpmp.UnsupportedVersion}.Append(nil),
		"ignores": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			r := &pcpRouter{server: serve(t, func(b []byte) [][]byte {
				if b[0] == pcp.Version {
					return [][]byte{pcp.Response{Epoch: 5}.Append(nil)}
				}
				if asked.Add(1) == 1 {
					return [][]byte{vpn(natpmp.Request{})[0].Append(nil)}
				}
				return [][]byte{other}
			})}
			if st, err := r.check(t.Context()); err != nil || st.external != outer {
				t.Errorf("%+v, %v", st, err)
			}
			for range 2 {
				if st, err := r.check(t.Context()); err != nil || st.external.IsValid() || st.epoch.seconds != 5 {
					t.Errorf("%+v, %v", st, err)
				}
			}
			if !r.silent.Load() {
				t.Error("it is asked again and again")
			}
		})
	}
}

// TestOtherVersion asks servers that speak only the other protocol.
func TestOtherVersion(t *testing.T) {
	t.Parallel()
	natpmpOnly := serve(t, func([]byte) [][]byte {
		return [][]byte{natpmp.Response{Result: natpmp.UnsupportedVersion}.Append(nil)}
	})
	pcpOnly := serve(t, func(b []byte) [][]byte {
		return [][]byte{pcp.AppendError(nil, b, pcp.UnsuppVersion, 0, 0)}
	})
	if _, err := (&pcpRouter{server: natpmpOnly}).check(t.Context()); causeOf(err) != foreign {
		t.Errorf("PCP: %v", err)
	}
	if _, err := (natpmpRouter{pcpOnly}).check(t.Context()); causeOf(err) != foreign {
		t.Errorf("NAT-PMP: %v", err)
	}
}

package upstream

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
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

// pcpServer answers PCP requests.
type pcpServer = requestServer[pcp.Request, pcp.Response]

// pcpRouterAt returns the router that asks s.
func pcpRouterAt(t *testing.T, s *pcpServer) *pcpRouter {
	t.Helper()
	return &pcpRouter{server: serve(t, func(b []byte) [][]byte {
		if b[0] == natpmp.Version {
			return [][]byte{pcp.AppendError(nil, b, pcp.UnsuppVersion, 0, 0)}
		}
		req, err := pcp.Service{}.Parse(b, loopback)
		if err != nil {
			t.Errorf("%x is no valid request: %v", b, err)
			return nil
		}
		return s.reply(req)
	})}
}

// granted returns the response that grants req its port at an address.
func granted(req pcp.Request, external string) pcp.Response {
	r := pcp.Response{Opcode: req.Opcode, Lifetime: req.Lifetime, Epoch: 77, Mapping: req.Mapping}
	r.External = netip.MustParseAddrPort(external)
	return r
}

func TestPCPOpen(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "203.0.113.7:4444")} }}
	a := hour
	a.exact, a.filters = true, []portmap.Filter{remote}
	g, err := pcpRouterAt(t, s).open(t.Context(), a)
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
			pcp.Description{Text: "game "},
		},
	}
	if !reflect.DeepEqual(s.asked(), []pcp.Request{want}) {
		t.Errorf("asked %+v\nwant  %+v", s.asked(), want)
	}
}

func TestPCPClose(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "0.0.0.0:0")} }}
	if err := pcpRouterAt(t, s).close(t.Context(), hour); err != nil {
		t.Error(err)
	}
	if r := s.asked()[0]; r.Lifetime != 0 || r.Nonce != pcp.Nonce(nonce) || r.InternalPort != 40000 || len(r.Options) != 0 {
		t.Errorf("asked %+v", r)
	}
}

// TestPCPWithoutDescription has a mapping without a name: it gets one.
func TestPCPWithoutDescription(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "203.0.113.7:1")} }}
	a := hour
	a.description = ""
	want := []pcp.Option{pcp.PreferFailure{}, pcp.Description{Text: "igdd 40000/TCP"}}
	if _, err := pcpRouterAt(t, s).open(t.Context(), a); err != nil || !reflect.DeepEqual(s.asked()[0].Options, want) {
		t.Errorf("asked %+v, %v", s.asked()[0], err)
	}
}

func TestPCPFiltersAreRemoved(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "203.0.113.7:1")} }}
	a := hour
	a.filtered = true
	pcpRouterAt(t, s).open(t.Context(), a)
	if !slices.Contains(s.asked()[0].Options, pcp.Option(pcp.Filter{Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)})) {
		t.Errorf("asked %+v", s.asked()[0])
	}
}

// TestPCPManyFilters asks for more filters than fit into a packet.
func TestPCPManyFilters(t *testing.T) {
	t.Parallel()
	s := &pcpServer{answer: func(req pcp.Request) []pcp.Response { return []pcp.Response{granted(req, "203.0.113.7:1")} }}
	r := pcpRouterAt(t, s)
	a := hour
	a.exact = true
	a.description = strings.Repeat("x", 256)
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

// has reports whether a request has an option of the type of T.
func has[T pcp.Option](req pcp.Request) bool {
	return slices.ContainsFunc(req.Options, func(o pcp.Option) bool { _, ok := o.(T); return ok })
}

// TestPCPWithoutOptions has servers that do not know some options: these are left out, one
// kind after the other, and from then on.
func TestPCPWithoutOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refuse   func(pcp.Request) pcp.Result
		requests int // until one is granted
		options  int // of that one
	}{
		"descriptions are malformed": {func(req pcp.Request) pcp.Result {
			if has[pcp.Description](req) {
				return pcp.MalformedOption
			}
			return pcp.Success
		}, 2, 3},
		"filters are unknown": {func(req pcp.Request) pcp.Result {
			if has[pcp.Filter](req) {
				return pcp.UnsuppOption
			}
			return pcp.Success
		}, 2, 2},
		"miniupnpd": {func(req pcp.Request) pcp.Result {
			switch {
			case has[pcp.Filter](req):
				return pcp.UnsuppOption
			case has[pcp.Description](req):
				return pcp.MalformedOption
			}
			return pcp.Success
		}, 3, 1},
		"all are unknown": {func(req pcp.Request) pcp.Result {
			if len(req.Options) > 0 {
				return pcp.UnsuppOption
			}
			return pcp.Success
		}, 4, 0},
		"too many filters": {func(req pcp.Request) pcp.Result {
			if has[pcp.Filter](req) {
				return pcp.ExcessiveRemotePeers
			}
			return pcp.Success
		}, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
				r := granted(req, "203.0.113.7:1")
				r.Result = c.refuse(req)
				return []pcp.Response{r}
			}}
			r := pcpRouterAt(t, s)
			a := hour
			a.filters = []portmap.Filter{remote}
			if _, err := r.open(t.Context(), a); err != nil {
				t.Error(err)
			}
			all := s.asked()
			if n := len(all[len(all)-1].Options); len(all) != c.requests || n != c.options {
				t.Errorf("%d requests, the last with %d options, want %d, %d", len(all), n, c.requests, c.options)
			}
			a.port, a.filters = a.port+1, nil
			if _, err := r.open(t.Context(), a); err != nil || len(s.asked()) != len(all)+1 {
				t.Errorf("%v after %d more requests", err, len(s.asked())-len(all))
			}
		})
	}
}

// TestPCPOtherPort has servers that cannot provide the suggested port.
func TestPCPOtherPort(t *testing.T) {
	t.Parallel()
	hanging := func(allowed func(uint16) bool) func(pcp.Request) pcp.Result {
		return func(req pcp.Request) pcp.Result {
			switch {
			case has[pcp.Description](req):
				return pcp.MalformedOption
			case !allowed(req.Mapping.External.Port()):
				return pcp.CannotProvideExternal
			}
			return pcp.Success
		}
	}
	never := func(uint16) bool { return false }
	for name, c := range map[string]struct {
		answer   func(pcp.Request) pcp.Result
		exact    bool
		requests int
		cause    cause
	}{
		"a small port set": {func(req pcp.Request) pcp.Result {
			if has[pcp.PreferFailure](req) {
				return pcp.CannotProvideExternal
			}
			return pcp.Success
		}, false, 2, 0},
		"an exact one":                    {func(pcp.Request) pcp.Result { return pcp.CannotProvideExternal }, true, 1, taken},
		"one that hangs":                  {hanging(never), false, 2 + maxOthers, denied},
		"an exact one, that hangs":        {hanging(never), true, 2, taken},
		"one that hangs, but allows some": {hanging(func(p uint16) bool { return p > 44000 }), false, 2 + maxOthers, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
				r := granted(req, "203.0.113.7:1")
				r.Result = c.answer(req)
				return []pcp.Response{r}
			}}
			a := hour
			a.exact = c.exact
			_, err := pcpRouterAt(t, s).open(t.Context(), a)
			if causeOf(err) != c.cause || len(s.asked()) != c.requests {
				t.Errorf("%v after %d requests, want %d", err, len(s.asked()), c.requests)
			}
			if name == "a small port set" {
				return
			}
			for _, req := range s.asked() {
				if !has[pcp.PreferFailure](req) || req.Mapping.External.Port() < minTried {
					t.Errorf("asked %+v", req)
				}
			}
		})
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
	r := pcpRouterAt(t, s)
	var all sync.WaitGroup
	for i := range uint16(4) {
		all.Go(func() {
			a := hour
			a.port += i
			if _, err := r.openWith(t.Context(), a, a.options()); err != nil {
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
			if g, err := pcpRouterAt(t, s).open(t.Context(), hour); err != nil || g.external.Port() != 2 {
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
			if _, err := pcpRouterAt(t, s).open(t.Context(), hour); causeOf(err) != want {
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
	if _, err := pcpRouterAt(t, s).open(t.Context(), hour); causeOf(err) != invalid {
		t.Error(err)
	}
}

func TestPCPCheck(t *testing.T) {
	t.Parallel()
	for _, result := range []pcp.Result{pcp.Success, pcp.UnsuppOpcode} {
		s := &pcpServer{answer: func(req pcp.Request) []pcp.Response {
			return []pcp.Response{{Opcode: req.Opcode, Result: result, Epoch: 5}}
		}}
		if st, err := pcpRouterAt(t, s).check(t.Context()); err != nil || st.epoch.seconds != 5 || st.external.IsValid() {
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

package pcpd

import (
	"net/netip"
	"slices"
	"testing"
	"unicode"
	"unicode/utf8"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
	"igdd/pkg/vectors"
)

// FuzzMappingRequest checks the table's request for every request that the codec
// accepts.
func FuzzMappingRequest(f *testing.F) {
	for _, v := range vectors.Load(f, "pcp") {
		f.Add([]byte(v.Request))
	}
	server := &Server{opts: Options{Table: portmap.NewTable(portmap.Options{
		Network: portmap.NetworkState{External: netip.MustParseAddr("11.22.33.44")},
	})}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 24 {
			return
		}
		r, err := pcp.Service{ThirdParty: true, Peer: true}.Parse(b, netip.AddrFrom16([16]byte(b[8:])).Unmap())
		if err != nil || r.Opcode == pcp.Announce {
			return
		}
		ask, options := mappingRequest(r)
		if len(options) > len(r.Options) {
			t.Errorf("%d options in the response to %d", len(options), len(r.Options))
		}
		if text := ask.Description; len(text) > 256 || !utf8.ValidString(text) || text != portmap.StoredDescription(text, -1) {
			t.Errorf("description %q", text)
		}
		for _, c := range ask.Description {
			if unicode.IsControl(c) {
				t.Errorf("description %q", ask.Description)
			}
		}
		kept := storedRequest(r)
		again, _ := mappingRequest(kept)
		if again.Description = ask.Description; len(kept.Options) > len(ask.Filters)+3 || !sameTerms(again, ask) {
			t.Errorf("from %+v stored %+v", r.Options, kept.Options)
		}
		for _, filter := range ask.Filters {
			if !filter.Prefix.IsValid() || filter.Prefix != filter.Prefix.Masked() || filter.Prefix.Addr().Is4() != r.Client.Is4() {
				t.Errorf("filter %v", filter)
			}
		}
		if ask.Op == portmap.Open && server.checkRequest(r, ask) == pcp.Success && (ask.Internal.Port() == 0 || ask.Exact && ask.External == 0) {
			t.Errorf("request to the table %+v", ask)
		}
		if reply := (pcp.Response{Opcode: r.Opcode, Mapping: r.Mapping, Options: options}).Append(nil); len(reply) > len(b) {
			t.Errorf("%d octets in the response to %d", len(reply), len(b))
		}
	})
}

// sameTerms reports whether two requests have the same filters, target and options.
func sameTerms(a, b portmap.Request) bool {
	return slices.Equal(a.Filters, b.Filters) && a.KeepFilters == b.KeepFilters && a.Exact == b.Exact &&
		a.Internal == b.Internal && a.ThirdParty == b.ThirdParty
}

// TestStoredRequest checks that a claim keeps the mandatory options in their order, and
// no others.
func TestStoredRequest(t *testing.T) {
	one := pcp.Filter{PrefixLength: 96 + 32, Remote: netip.MustParseAddrPort("45.67.89.1:0")}
	wide := pcp.Filter{PrefixLength: 96 + 24, Remote: netip.MustParseAddrPort("45.67.89.1:443")}
	sameNetwork := pcp.Filter{PrefixLength: 96 + 24, Remote: netip.MustParseAddrPort("45.67.89.2:443")}
	remove, removeToo := pcp.Filter{}, pcp.Filter{Remote: netip.MustParseAddrPort("45.67.89.1:1")}
	third := pcp.ThirdParty{Internal: netip.MustParseAddr("192.168.50.11")}
	text := pcp.Description{Text: "x"}
	for _, tt := range []struct{ options, want []pcp.Option }{
		{nil, nil},
		{[]pcp.Option{text}, nil},
		{[]pcp.Option{third, text, pcp.PreferFailure{}, one}, []pcp.Option{third, pcp.PreferFailure{}, one}},
		{[]pcp.Option{one, wide, one, sameNetwork}, []pcp.Option{one, wide}},
		{[]pcp.Option{one, remove}, []pcp.Option{remove}},
		{[]pcp.Option{remove, one, third, remove, wide}, []pcp.Option{third, remove, wide}},
		{[]pcp.Option{remove, one, removeToo}, []pcp.Option{removeToo}},
	} {
		if got := storedRequest(pcp.Request{Options: tt.options}).Options; !slices.Equal(got, tt.want) {
			t.Errorf("from %v stored %v, want %v", tt.options, got, tt.want)
		}
	}
}

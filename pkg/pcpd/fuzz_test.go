package pcpd

import (
	"net/netip"
	"testing"
	"unicode"
	"unicode/utf8"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
	"igdd/pkg/vectors"
)

// FuzzQuestion words whatever the codec lets through for the desk.
func FuzzQuestion(f *testing.F) {
	for _, v := range vectors.Load(f, "pcp") {
		f.Add([]byte(v.Request))
	}
	server := &Server{Options: Options{Desk: portmap.NewTable(portmap.Options{
		Surroundings: portmap.Surroundings{External: netip.MustParseAddr("11.22.33.44")},
	})}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 24 {
			return
		}
		r, err := pcp.Service{ThirdParty: true, Peer: true}.Parse(b, netip.AddrFrom16([16]byte(b[8:])).Unmap())
		if err != nil || r.Opcode == pcp.Announce {
			return
		}
		ask, options := question(r)
		if len(options) > len(r.Options) {
			t.Errorf("%d options answer %d", len(options), len(r.Options))
		}
		if text := ask.Description; len(text) > maxDescription || !utf8.ValidString(text) || text != printable(text) {
			t.Errorf("stored text %q", text)
		}
		for _, c := range ask.Description {
			if unicode.IsControl(c) {
				t.Errorf("stored text %q", ask.Description)
			}
		}
		for _, filter := range ask.Filters {
			if !filter.Prefix.IsValid() || filter.Prefix != filter.Prefix.Masked() || filter.Prefix.Addr().Is4() != r.Client.Is4() {
				t.Errorf("filter %v", filter)
			}
		}
		if ask.Op == portmap.Open && server.objection(r, ask) == pcp.Success && (ask.Internal.Port() == 0 || ask.Exact && ask.External == 0) {
			t.Errorf("the desk is asked %+v", ask)
		}
		if reply := (pcp.Response{Opcode: r.Opcode, Mapping: r.Mapping, Options: options}).Append(nil); len(reply) > len(b) {
			t.Errorf("%d octets answer %d", len(reply), len(b))
		}
	})
}

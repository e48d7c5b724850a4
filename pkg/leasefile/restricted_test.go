package leasefile

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// TestRestrictedWithoutStateFile loads the lease file alone: a mapping comes
// back as it was, or not at all.
func TestRestrictedWithoutStateFile(t *testing.T) {
	peer := []portmap.Filter{{Prefix: netip.MustParsePrefix("203.0.113.9/32")}}
	end := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		what   string
		claims []portmap.Claim
		want   bool
	}{
		{"open to all", []portmap.Claim{{Origin: portmap.UPnP, Description: "game"}}, true},
		{"a remote host", []portmap.Claim{{Origin: portmap.UPnP, Filters: peer, Description: "game"}}, false},
		{"a remote host, no description", []portmap.Claim{{Origin: portmap.UPnP, Filters: peer}}, false},
		{"a remote host, a long description", []portmap.Claim{{Origin: portmap.UPnP, Filters: peer, Description: strings.Repeat("é", 500)}}, false},
		{"a filter", []portmap.Claim{{Origin: portmap.PCP, Expires: end, Filters: peer, Description: "PCP MAP 3001 TCP"}}, false},
		{"disabled", []portmap.Claim{{Origin: portmap.UPnP, Disabled: true, Description: "game"}}, false},
		{"open to all for a while", []portmap.Claim{
			{Origin: portmap.NATPMP, Expires: end, Description: "NAT-PMP 3001 TCP"}, {Origin: portmap.UPnP, Filters: peer},
		}, false},
		{"open to all, and to a flow", []portmap.Claim{
			{Origin: portmap.UPnP, Description: "game"},
			{Origin: portmap.PCP, Expires: end, Remote: netip.MustParseAddrPort("203.0.113.9:443"), Filters: peer},
		}, true},
		{"open to all, with a description like a mark", []portmap.Claim{{Origin: portmap.UPnP, Description: "game [restricted]"}}, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			m := forward(1, tt.claims[0])
			m.Claims = tt.claims
			path := newFiles(t, m)
			if line := read(t, path); len(line) > maxLine || strings.HasSuffix(line, "[restricted]\n") == tt.want {
				t.Errorf("the line is %q", line)
			}
			wantSame(t, load(t, New(Options{Path: path})), []*portmap.Mapping{m})
			os.Remove(path + stateSuffix)
			s, log := logged(path)
			if got := load(t, s); len(got) > 0 != tt.want || len(got) > 0 && got[0].Description() != m.Description() {
				t.Errorf("loaded %s", text(got))
			}
			if logs := strings.Contains(log.String(), "msg=\"skipped leases"); logs == tt.want {
				t.Errorf("the log says %q", log)
			}
		})
	}
}

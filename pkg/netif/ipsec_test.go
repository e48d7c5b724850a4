package netif

import (
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlink"
)

// TestNoIPsec asks a kernel without policies, and with one for packets that leave.
func TestNoIPsec(t *testing.T) {
	ns := netlab.New(t, "netif")
	for _, tt := range []struct {
		direction string
		want      bool
	}{{"", true}, {"in", true}, {"out", false}} {
		if tt.direction != "" {
			ns.IP(t, "xfrm", "policy", "add", "src", "192.168.50.0/24", "dst", "10.0.0.0/8", "dir", tt.direction)
		}
		ns.Do(func() error {
			if got := NoIPsec(); got != tt.want {
				t.Errorf("with a policy %q: %v", tt.direction, got)
			}
			return nil
		})
	}
}

// FuzzPolicyInfo decodes any message as the kernel's.
func FuzzPolicyInfo(f *testing.F) {
	f.Add(uint16(xfrmNewPolicyInfo), netlink.AppendAttribute([]byte{0, 0, 0, 0}, xfrmPolicyInfo, make([]byte, 24)))
	f.Add(uint16(xfrmNewPolicyInfo), []byte{0})
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		if policies, ok := parsePolicyInfo(netlink.Message{Type: kind, Data: data}); !ok && policies != 0 {
			t.Errorf("%d policies of a message that cannot be decoded", policies)
		}
	})
}

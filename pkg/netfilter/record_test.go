package netfilter

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"igdd/pkg/xtables"
)

// TestPartOfRecord demands that no part of a record, and none with a changed byte, is
// taken for a record.
func TestPartOfRecord(t *testing.T) {
	const boot = "01234567-89ab-cdef-0123-456789abcdef\n"
	o := newOwnership(filepath.Join(t.TempDir(), "record"), slog.New(slog.DiscardHandler))
	o.boot = []byte(boot)
	text, err := o.text([]inventory{{program: "iptables", table: "nat", created: []string{"A", "B"},
		jumps: []xtables.Jump{{Chain: "PREROUTING", Rule: "-i wan0 -j A"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if list, ok := parseRecord(text, boot); !ok || len(list) != 3 {
		t.Fatalf("%q names %v, %v", text, list, ok)
	}
	for n := range len(text) {
		if list, ok := parseRecord(text[:n], boot); ok {
			t.Errorf("the part %q names %v", text[:n], list)
		}
		changed := []byte(text)
		changed[n] ^= 0x80
		if list, ok := parseRecord(string(changed), boot); ok {
			t.Errorf("the damaged %q names %v", changed, list)
		}
	}
	if list, ok := parseRecord(text, strings.Replace(boot, "0", "1", 1)); !ok || len(list) > 0 {
		t.Errorf("after another boot it names %v, %v", list, ok)
	}
}

// TestEarlierRecords reads records of earlier versions, without a checksum.
func TestEarlierRecords(t *testing.T) {
	const boot = "01234567-89ab-cdef-0123-456789abcdef\n"
	for text, want := range map[string]bool{
		"iptables nat A\n": true,
		"format 2\niptables nat A\niptables nat -D PREROUTING -i wan0 -j A\n": true,
		"format 2\niptables nat A\niptables nat -D PREROUTI":                  false,
		"format 2\niptables nat A\niptables nat B":                            false,
		"format 2\n":   false,
		"something\n":  false,
		"iptables nat": false,
	} {
		if list, ok := parseRecord(boot+text, boot); ok != want {
			t.Errorf("%q names %v, %v", text, list, ok)
		}
	}
}

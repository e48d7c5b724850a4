package portmap_test

import (
	"strings"
	"testing"
	"unsafe"

	"igdd/pkg/portmap"
)

func TestStoredDescription(t *testing.T) {
	for _, tt := range []struct{ text, removed, blanked string }{
		{"", "", ""},
		{"ssh", "ssh", "ssh"},
		{"two\r\nlines\tand\x00nul\u0085", "twolinesandnul", "two  lines and nul "},
		{"\x1b[2J", "[2J", " [2J"},
		{"Grüße ✓", "Grüße ✓", "Grüße ✓"},
		{strings.Repeat("a", 300), strings.Repeat("a", 256), strings.Repeat("a", 256)},
		{strings.Repeat("a", 255) + "ü", strings.Repeat("a", 255), strings.Repeat("a", 255)},
		{strings.Repeat("a", 253) + "✓✓", strings.Repeat("a", 253) + "✓", strings.Repeat("a", 253) + "✓"},
		{strings.Repeat("\n", 300) + "late", "late", strings.Repeat(" ", 256)},
	} {
		if got := portmap.StoredDescription(tt.text, -1); got != tt.removed {
			t.Errorf("%q is stored as %q, want %q", tt.text, got, tt.removed)
		}
		if got := portmap.StoredDescription(tt.text, ' '); got != tt.blanked {
			t.Errorf("%q is stored with blanks as %q, want %q", tt.text, got, tt.blanked)
		}
	}
}

func TestStoredDescriptionSharesNoMemory(t *testing.T) {
	request := "description of a long request"
	if got := portmap.StoredDescription(request[:11], -1); unsafe.StringData(got) == unsafe.StringData(request) {
		t.Error("it keeps the request in memory")
	}
}

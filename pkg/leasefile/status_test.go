package leasefile

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// TestStatusPage has PHP read the lease file as the router's status page does:
// there is a row for each mapping, with its whole description.
func TestStatusPage(t *testing.T) {
	texts := []string{
		"", "game", "test app:1", "http://host:80/path", "::", "a\nTCP:22:10.0.0.1:22:0:forged",
		"<script>alert(1)</script>", "Spiel für Zoë 🎮", "caf\xe9", "NAT-PMP 3009 TCP", strings.Repeat("lang ", 300),
	}
	path := leasePath(t)
	s := opened(t, path)
	var want []portmap.Mapping
	for i, text := range texts {
		c := portmap.Claim{Origin: portmap.UPnP, Description: text}
		if i%2 == 0 {
			c.Expires = time.Now().Add(time.Hour)
		}
		m := forward(uint64(i+1), c)
		m.External = uint16(i*i*i*i*5 + 22) // 22, 27, 102, …: as text in another order
		want = append(want, *m)
		save(t, s, portmap.Change{After: m})
	}
	checkpoint(t, s)
	slices.SortFunc(want, func(a, b portmap.Mapping) int {
		return strings.Compare(fmt.Sprint(a.External), fmt.Sprint(b.External))
	})

	out, err := exec.Command("php", "-d", "date.timezone=UTC", "testdata/status.php", path).Output()
	if err != nil {
		t.Fatalf("php: %v (the test needs php-cli): %s", err, out)
	}
	var rows []struct{ Port, Protocol, Address, Local, Expires, Text string }
	if err := json.Unmarshal(out, &rows); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(rows) != len(want) {
		t.Fatalf("page shows %d rows, want %d: %s", len(rows), len(want), out)
	}
	for i, row := range rows {
		m := want[i]
		if row.Port+"/"+row.Protocol != m.Key.String() || row.Address+":"+row.Local != m.Internal.String() {
			t.Errorf("page shows %+v for %v to %v", row, m.Key, m.Internal)
		}
		if end := m.Expires(); !shows(row.Expires, end) {
			t.Errorf("%v: page shows expiry %q, want %v", m.Key, row.Expires, end.UTC())
		}
		if got, whole := asShown(row.Text, m.Description()); got != whole {
			t.Errorf("%v: page shows %q of %q", m.Key, got, whole)
		}
	}
}

// shows reports whether the page's text is the end of a lease, to two seconds.
func shows(text string, end time.Time) bool {
	if end.IsZero() {
		return text == "N/A"
	}
	got, err := time.Parse(time.DateTime, text)
	return err == nil && got.Sub(end).Abs() < 2*time.Second
}

// asShown returns what the page shows and what it should show, with the
// look-alike colon read as a colon and only as much as fits the line.
func asShown(shown, text string) (got, want string) {
	got = strings.ReplaceAll(shown, string(colon), ":")
	want = strings.ToValidUTF8(strings.ReplaceAll(text, "\n", " "), "\ufffd")
	if len(want) > len(got) && len(got) > 950 {
		want = want[:len(got)]
	}
	return got, want
}

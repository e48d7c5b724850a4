package clock

import (
	"testing"
	"time"
)

func TestIsSet(t *testing.T) {
	for text, want := range map[string]bool{
		"1970-01-01T00:01:00Z":      false,
		"2020-06-01T00:00:00Z":      false,
		"2023-12-31T23:59:59Z":      false,
		"2024-01-01T00:30:00+01:00": false,
		"2024-01-01T00:00:00Z":      true,
		"2038-01-19T03:14:08Z":      true,
	} {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := IsSet(at); got != want {
			t.Errorf("a clock that shows %s is set: %v, want %v", text, got, want)
		}
	}
}

package portmap

import (
	"regexp"
	"testing"
)

func TestSlugs(t *testing.T) {
	word := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{Granted.Slug(): true}
	for r := range Refusals() {
		if !word.MatchString(r.Slug()) || seen[r.Slug()] {
			t.Errorf("the slug of %q is %q", r, r.Slug())
		}
		seen[r.Slug()] = true
	}
	if len(seen) != len(refusals) {
		t.Errorf("%d slugs of %d reasons", len(seen), len(refusals))
	}
}

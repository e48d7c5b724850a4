package safepath

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestLoopIsExplained(t *testing.T) {
	dir := t.TempDir()
	build(t, dir, "f -> g", "g -> f")
	path := filepath.Join(dir, "f")
	if _, err := Resolve(path); err == nil || !strings.HasPrefix(err.Error(), path+" is a link that leads back to itself") {
		t.Errorf("error is %v", err)
	}
}

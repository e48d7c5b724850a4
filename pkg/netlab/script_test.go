package netlab

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// TestScript runs scripts as soon as they are written, while other programs are started.
func TestScript(t *testing.T) {
	dir := t.TempDir()
	for n := range 8 {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			for i := range 100 {
				path := filepath.Join(dir, strconv.Itoa(n)+"-"+strconv.Itoa(i))
				Script(t, path, "exit 0\n")
				if err := exec.Command(path).Run(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

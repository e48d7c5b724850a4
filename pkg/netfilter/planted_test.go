package netfilter

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPlantedRecord demands that a record of another user's names no chains that are
// removed, and that none is written through a link of his.
func TestPlantedRecord(t *testing.T) {
	const stranger = 12345
	boot, err := os.ReadFile(bootID)
	if err != nil {
		t.Fatal(err)
	}
	record := string(boot) + recordFormat + "\niptables filter chain FORWARD\n"
	for name, plant := range map[string]func(path string) error{
		"a file": func(path string) error { return os.WriteFile(path, []byte(record), 0o644) },
		"a link": func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "elsewhere"), path) },
		"a pipe": func(path string) error { return syscall.Mkfifo(path, 0o666) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, elsewhere := filepath.Join(dir, "miniupnpd.chains"), filepath.Join(dir, "elsewhere")
			err := errors.Join(os.Chmod(dir, os.ModeSticky|0o777), os.WriteFile(elsewhere, []byte("root's"), 0o644),
				plant(path), os.Lchown(path, stranger, stranger), os.Symlink(elsewhere, path+".new"))
			if err != nil {
				t.Fatal(err)
			}
			o := newOwnership(path, slog.New(slog.DiscardHandler))
			if list, err := o.read(); err == nil {
				t.Errorf("it names %v", list)
			}
			if err := o.write([]inventory{{program: "iptables", table: "filter", created: []string{"MINIUPNPD"}}}); err != nil {
				t.Error(err)
			}
			if text, err := os.ReadFile(elsewhere); err != nil || string(text) != "root's" {
				t.Errorf("a file elsewhere reads %q, %v", text, err)
			}
			if list, err := newOwnership(path, o.log).read(); err != nil || len(list) != 1 {
				t.Errorf("the record of root's own names %v, %v", list, err)
			}
		})
	}
}

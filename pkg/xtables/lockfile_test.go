package xtables

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestCheckLock(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "lock")
	path := filepath.Join(folder, "xtables.lock")
	t.Setenv("XTABLES_LOCKFILE", path)
	legacy, nft := &Programs{}, &Programs{isNFT: true}
	if err := legacy.CheckLock(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	if err := nft.CheckLock(); err != nil {
		t.Errorf("nft: %v", err)
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := legacy.CheckLock(); err != nil {
		t.Errorf("with a folder: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the check has made the file: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := legacy.CheckLock(); err != nil {
		t.Errorf("with a file: %v", err)
	}
}

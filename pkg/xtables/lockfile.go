package xtables

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CheckLock returns why no rule can be changed: iptables cannot open the xtables lock.
// Listing the tables, which needs no lock, does not show that. The nft variant has no
// lock.
func (p *Programs) CheckLock() error {
	if p.isNFT {
		return nil
	}
	var first error
	for _, path := range LockFiles() {
		err := checkOpening(path)
		if err == nil {
			return nil
		}
		if first == nil {
			first = fmt.Errorf("iptables cannot open the xtables lock %s: %w; make its folder, or set XTABLES_LOCKFILE", path, err)
		}
	}
	return first
}

// checkOpening returns why a file can be neither opened for reading nor created.
func checkOpening(path string) error {
	err := unix.Access(path, unix.R_OK)
	if errors.Is(err, unix.ENOENT) {
		return unix.Access(filepath.Dir(path), unix.W_OK|unix.X_OK)
	}
	return err
}

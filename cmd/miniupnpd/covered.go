package main

import (
	"fmt"
	"path/filepath"

	"igdd/pkg/safepath"
	"igdd/pkg/sandbox"
)

// leaseFolder is the folder of the lease file, and what was mounted there when the
// process dropped its privileges: it does not see what is mounted later.
type leaseFolder struct {
	path  string
	mount string
}

// noteFolder notes the folder of a lease file.
func (r *rights) noteFolder(leaseFile string) {
	path, err := safepath.Resolve(leaseFile)
	if leaseFile == "" || err != nil {
		return
	}
	folder := filepath.Dir(path)
	r.folder = leaseFolder{folder, sandbox.MountOf(r.helper.pid, folder)}
}

// covered returns an error if a file system was mounted on the folder of the lease file
// after the process had dropped its privileges. The helper sees it.
func (r *rights) covered() error {
	if !r.confined || r.folder.mount == "" || r.helper.hasEnded() { // its number may be another process's by now
		return nil
	}
	now := sandbox.MountOf(r.helper.pid, r.folder.path)
	if now == "" || now == r.folder.mount {
		return nil
	}
	return fmt.Errorf("the file system that has folder %s was mounted after the start: restart the daemon to save leases there", r.folder.path)
}

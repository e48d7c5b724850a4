package leasefile

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/portmap"
)

// stranger is a user without privileges.
const stranger = 12345

// sharedFolder returns a folder like /tmp, beside one of root's own with a file.
func sharedFolder(t *testing.T, sticky fs.FileMode) (shared, own string) {
	t.Helper()
	dir := t.TempDir()
	shared, own = filepath.Join(dir, "tmp"), filepath.Join(dir, "own")
	plant(t, own, files{"precious": "root's"})
	if err := errors.Join(os.Mkdir(shared, 0o755), os.Chmod(shared, sticky|0o777)); err != nil {
		t.Fatal(err)
	}
	return shared, own
}

// TestPlantedFiles has another user plant files, folders and links where the daemon
// would write in a folder like /tmp: nothing changes but what is there, the leases are
// not saved, and the error says which file is in the way.
func TestPlantedFiles(t *testing.T) {
	for name, c := range map[string]struct {
		planted func(shared, own string) files
		owned   []string // by the stranger
	}{
		"a link to a file of root's": {func(_, own string) files { return files{"upnp.leases": "-> " + own + "/precious"} }, []string{"upnp.leases"}},
		"a link to no file":          {func(_, own string) files { return files{"upnp.leases": "-> " + own + "/new"} }, []string{"upnp.leases"}},
		"a file":                     {func(string, string) files { return files{"upnp.leases": "TCP:22:10.0.0.1:22:0:x\n"} }, []string{"upnp.leases"}},
		"a state file":               {func(string, string) files { return files{"upnp.leases.state": "x"} }, []string{"upnp.leases.state"}},
		"a link as state file":       {func(_, own string) files { return files{"upnp.leases.state": "-> " + own + "/precious"} }, []string{"upnp.leases.state"}},
		"the own folder":             {func(string, string) files { return files{"upnp/upnp.leases": "x"} }, []string{"upnp"}},
		"the own folder as a link":   {func(_, own string) files { return files{"upnp": "-> " + own} }, []string{"upnp"}},
		"the own link":               {func(string, string) files { return files{"upnp.leases": ownLink, "upnp/upnp.leases": "x"} }, []string{"upnp.leases", "upnp", "upnp/upnp.leases"}},
	} {
		for _, sticky := range []fs.FileMode{fs.ModeSticky, 0} {
			t.Run(name+" "+sticky.String(), func(t *testing.T) {
				shared, own := sharedFolder(t, sticky)
				plant(t, shared, c.planted(shared, own))
				for _, path := range c.owned {
					if err := os.Lchown(filepath.Join(shared, path), stranger, stranger); err != nil {
						t.Fatal(err)
					}
				}
				was, path := tree(t, shared), filepath.Join(shared, "upnp.leases")
				if err := MoveToFolder(path); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
					t.Errorf("the move: %v", err)
				}
				if is := tree(t, shared); !maps.Equal(is, was) {
					t.Errorf("%v becomes %v", was, is)
				}
				if is := tree(t, own); !maps.Equal(is, files{"precious": "root's"}) {
					t.Errorf("elsewhere: %v", is)
				}
			})
		}
	}
}

// TestPlantedForTheStore is TestPlantedFiles for a daemon without the sandbox, which
// gives the files no folder of their own.
func TestPlantedForTheStore(t *testing.T) {
	for name, planted := range map[string]func(path, own string) error{
		"a link":         func(path, own string) error { return os.Symlink(own+"/precious", path) },
		"a dead link":    func(path, own string) error { return os.Symlink(own+"/new", path) },
		"a file":         func(path, _ string) error { return os.WriteFile(path, []byte("TCP:22:10.0.0.1:22:0:x\n"), 0o644) },
		"a pipe":         func(path, _ string) error { return syscall.Mkfifo(path, 0o666) },
		"leads to a dir": func(path, own string) error { return os.Symlink(own, path) },
	} {
		t.Run(name, func(t *testing.T) {
			shared, own := sharedFolder(t, fs.ModeSticky)
			path := filepath.Join(shared, "upnp.leases")
			if err := errors.Join(planted(path, own), os.Lchown(path, stranger, stranger)); err != nil {
				t.Fatal(err)
			}
			s := New(Options{Path: path})
			if loaded, err := s.Load(); len(loaded) > 0 || err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
				t.Errorf("loaded %v, %v", loaded, err)
			}
			if err := s.Save([]portmap.Change{{After: sampleMappings()[0]}}); err == nil {
				t.Error("the leases are saved")
			}
			if err := s.Checkpoint(); err == nil {
				t.Error("the leases are written")
			}
			if is := tree(t, own); !maps.Equal(is, files{"precious": "root's"}) {
				t.Errorf("elsewhere: %v", is)
			}
		})
	}
}

// TestPlantedStateFile demands that the entries of another user's state file count for
// nothing.
func TestPlantedStateFile(t *testing.T) {
	path := newFiles(t, sampleMappings()...)
	if err := errors.Join(os.Chmod(filepath.Dir(path), fs.ModeSticky|0o777), os.Chown(path+stateSuffix, stranger, stranger), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	if loaded, err := New(Options{Path: path}).Load(); len(loaded) > 0 || err == nil {
		t.Errorf("loaded %d mappings, %v", len(loaded), err)
	}
}

// TestRootsLinkInASharedFolder demands that a link of root's works in /tmp.
func TestRootsLinkInASharedFolder(t *testing.T) {
	shared, own := sharedFolder(t, fs.ModeSticky)
	path := filepath.Join(shared, "upnp.leases")
	if err := os.Symlink(own+"/upnp.leases", path); err != nil {
		t.Fatal(err)
	}
	if err := MoveToFolder(path); err != nil {
		t.Fatal(err)
	}
	s := opened(t, path)
	save(t, s, portmap.Change{After: sampleMappings()[0]})
	checkpoint(t, s)
	if _, err := os.Stat(own + "/upnp.leases"); err != nil {
		t.Error(err)
	}
}

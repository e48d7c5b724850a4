package leasefile

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
)

// tree returns the files below a folder with their contents, and where links lead to.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil || e.IsDir():
			return err
		case e.Type() == os.ModeSymlink:
			to, err := os.Readlink(path)
			files[name] = "-> " + to
			return err
		}
		text, err := os.ReadFile(path)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// plant makes files and links in a folder.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, isLink := strings.CutPrefix(text, "-> "); isLink {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

type files = map[string]string

const ownLink = "-> upnp/upnp.leases"

func TestMoveToFolder(t *testing.T) {
	for name, c := range map[string]struct{ was, is files }{
		"nothing":               {files{}, files{"upnp.leases": ownLink}},
		"an empty file":         {files{"upnp.leases": ""}, files{"upnp.leases": ownLink, "upnp/upnp.leases": ""}},
		"both files":            {files{"upnp.leases": "a", "upnp.leases.state": "b"}, files{"upnp.leases": ownLink, "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}},
		"moved":                 {files{"upnp.leases": ownLink, "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}, files{"upnp.leases": ownLink, "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}},
		"back from miniupnpd":   {files{"upnp.leases": "c", "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}, files{"upnp.leases": ownLink, "upnp/upnp.leases": "c", "upnp/upnp.leases.state": "b"}},
		"and an older version":  {files{"upnp.leases": "c", "upnp.leases.state": "d", "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}, files{"upnp.leases": ownLink, "upnp/upnp.leases": "c", "upnp/upnp.leases.state": "d"}},
		"stopped before a link": {files{"upnp.leases": "a", "upnp.leases.state": "b", "upnp/upnp.leases.state": "b", "upnp.leases.new": ownLink}, files{"upnp.leases": ownLink, "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}},
		"stopped after it":      {files{"upnp.leases": ownLink, "upnp.leases.state": "b", "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}, files{"upnp.leases": ownLink, "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}},
		"the folder is removed": {files{"upnp.leases": ownLink}, files{"upnp.leases": ownLink}},
		"leases are removed":    {files{"upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}, files{"upnp.leases": ownLink}},
		"leases are emptied":    {files{"upnp.leases": "", "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"}, files{"upnp.leases": ownLink, "upnp/upnp.leases": ""}},
		"emptied before":        {files{"upnp.leases": "", "upnp.leases.state": "d"}, files{"upnp.leases": ownLink, "upnp/upnp.leases": "", "upnp/upnp.leases.state": "d"}},
		"a link of another":     {files{"upnp.leases": "-> disk/leases", "upnp.leases.state": "x"}, files{"upnp.leases": "-> disk/leases", "upnp.leases.state": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			plant(t, dir, c.was)
			for range 2 {
				if err := MoveToFolder(filepath.Join(dir, "upnp.leases")); err != nil {
					t.Fatal(err)
				}
				if is := tree(t, dir); !maps.Equal(is, c.is) {
					t.Fatalf("%v becomes %v, want %v", c.was, is, c.is)
				}
			}
			if info, err := os.Stat(filepath.Join(dir, "upnp")); c.is["upnp.leases"] == ownLink && (err != nil || info.Mode().Perm() != 0o755) {
				t.Errorf("the folder: %v, %v", info, err)
			}
		})
	}
}

// TestNoFolder demands that nothing changes where the folder cannot be made.
func TestNoFolder(t *testing.T) {
	for name, was := range map[string]files{
		"a file of that name": {"upnp.leases": "a", "upnp.leases.state": "b", "upnp": "mine"},
		"a link of that name": {"upnp.leases": "a", "upnp": "-> /tmp"},
		"a folder of leases":  {"upnp.leases/x": "a"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			plant(t, dir, was)
			if err := MoveToFolder(filepath.Join(dir, "upnp.leases")); err == nil {
				t.Error("no error")
			}
			if is := tree(t, dir); !maps.Equal(is, was) {
				t.Errorf("%v becomes %v", was, is)
			}
		})
	}
}

// TestFinishedMoveOnReadOnlyDisk demands no error where there is nothing left to move, also
// if nothing could be removed.
func TestFinishedMoveOnReadOnlyDisk(t *testing.T) {
	netlab.NeedLab(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	plant(t, dir, files{"upnp.leases": "a", "upnp.leases.state": "b"})
	path := filepath.Join(dir, "upnp.leases")
	if err := MoveToFolder(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := MoveToFolder(path); err != nil {
		t.Error(err)
	}
}

// TestMappingsAfterAMove demands that a store finds everything at the new place, also
// when miniupnpd has replaced the link by a file meanwhile.
func TestMappingsAfterAMove(t *testing.T) {
	mappings := sampleMappings()
	path := newFiles(t, mappings...)
	for range 2 {
		if err := MoveToFolder(path); err != nil {
			t.Fatal(err)
		}
		loaded, err := New(Options{Path: path}).Load()
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, loaded, mappings)
		lines, err := os.ReadFile(path)
		if err := errors.Join(err, os.Remove(path), os.WriteFile(path, lines, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCopiedModes demands that what another program has copied has the usual modes
// afterwards, and that an administrator's stricter one stays.
func TestCopiedModes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "upnp.leases")
	plant(t, dir, files{"upnp.leases": ownLink, "upnp/upnp.leases": "a", "upnp/upnp.leases.state": "b"})
	for _, tt := range []struct{ folder, lease, state, wantFolder, wantLease, wantState os.FileMode }{
		{0o777, 0o666, 0o666, 0o755, 0o644, 0o600},
		{0o755, 0o644, 0o644, 0o755, 0o644, 0o600},
		{0o700, 0o600, 0o600, 0o700, 0o600, 0o600},
	} {
		folder, state := filepath.Join(dir, "upnp"), filepath.Join(dir, "upnp/upnp.leases.state")
		if err := errors.Join(os.Chmod(folder, tt.folder), os.Chmod(path, tt.lease), os.Chmod(state, tt.state), MoveToFolder(path)); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]os.FileMode{folder: tt.wantFolder, path: tt.wantLease, state: tt.wantState} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
			}
		}
	}
}

// TestFolderOfAnother demands that the folder of their own and the files in it become
// root's, but for a file that has another name as well.
func TestFolderOfAnother(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, files{"upnp.leases": ownLink, "upnp/upnp.leases": "a", "elsewhere": "b"})
	owned := []string{"upnp", "upnp/upnp.leases", "upnp/upnp.leases.state"}
	if err := os.Link(filepath.Join(dir, "elsewhere"), filepath.Join(dir, owned[2])); err != nil {
		t.Fatal(err)
	}
	for _, name := range owned {
		if err := os.Chown(filepath.Join(dir, name), stranger, stranger); err != nil {
			t.Fatal(err)
		}
	}
	if err := MoveToFolder(filepath.Join(dir, "upnp.leases")); err != nil {
		t.Fatal(err)
	}
	for i, name := range owned {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if is := info.Sys().(*syscall.Stat_t).Uid; is != []uint32{0, 0, stranger}[i] {
			t.Errorf("%s belongs to user %d", name, is)
		}
	}
}

package safepath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// other and third are users without privileges.
const other, third = 12345, 12346

// build makes a tree: what ends in "/" is a folder, "a -> b" a link, and what else a
// file. "@" and a letter at the end name the owner: root without, "o" other, "t" third.
func build(t *testing.T, dir string, entries ...string) {
	t.Helper()
	for _, e := range entries {
		e, owner, _ := strings.Cut(e, "@")
		name, to, isLink := strings.Cut(e, " -> ")
		path := filepath.Join(dir, name)
		var err error
		switch {
		case isLink:
			err = os.Symlink(strings.ReplaceAll(to, "DIR", dir), path)
		case strings.HasSuffix(name, "/"):
			err = os.Mkdir(path, 0o755)
		default:
			err = os.WriteFile(path, []byte("x"), 0o644)
		}
		id := map[string]int{"": 0, "o": other, "t": third}[owner]
		if err := errors.Join(err, os.Lchown(path, id, id)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResolve(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("the test makes files of other users: run it as root")
	}
	for name, c := range map[string]struct {
		entries []string
		mode    fs.FileMode // of the folder "in"; 0: only root can write to it
		path    string
		want    string // "": refused
	}{
		"a file":                            {[]string{"in/", "in/f"}, 0, "in/f", "in/f"},
		"nothing":                           {[]string{"in/"}, 0, "in/f", "in/f"},
		"no folder":                         {nil, 0, "in/a/../f", "in/f"},
		"another's file":                    {[]string{"in/", "in/f@o"}, 0, "in/f", "in/f"},
		"a relative link":                   {[]string{"in/", "in/f -> ../to", "to"}, 0, "in/f", "to"},
		"an absolute link to nothing":       {[]string{"in/", "in/f -> DIR/to/x"}, 0, "in/f", "to/x"},
		"a link on the way":                 {[]string{"to/", "in -> to", "to/f"}, 0, "in/f", "to/f"},
		"shared: nothing":                   {[]string{"in/"}, fs.ModeSticky | 0o777, "in/f", "in/f"},
		"shared: root's file":               {[]string{"in/", "in/f"}, fs.ModeSticky | 0o777, "in/f", "in/f"},
		"shared: root's link":               {[]string{"in/", "in/f -> DIR/to"}, fs.ModeSticky | 0o777, "in/f", "to"},
		"shared: another's file":            {[]string{"in/", "in/f@o"}, fs.ModeSticky | 0o777, "in/f", ""},
		"shared: another's link":            {[]string{"in/", "in/f -> DIR/to@o", "to"}, fs.ModeSticky | 0o777, "in/f", ""},
		"shared: another's link to nothing": {[]string{"in/", "in/f -> DIR/to@o"}, fs.ModeSticky | 0o777, "in/f", ""},
		"shared: another's folder":          {[]string{"in/", "in/d/@o"}, fs.ModeSticky | 0o777, "in/d/f", ""},
		"not sticky":                        {[]string{"in/", "in/f@o"}, 0o777, "in/f", ""},
		"behind root's link":                {[]string{"in/", "in/f@o", "l -> in/f"}, fs.ModeSticky | 0o777, "l", ""},
		"the owner's file":                  {[]string{"in/@o", "in/f@o"}, 0, "in/f", "in/f"},
		"the owner's link":                  {[]string{"in/@o", "in/f -> ../to@o"}, 0, "in/f", "to"},
		"a third one's file":                {[]string{"in/@o", "in/f@t"}, 0, "in/f", ""},
		"a loop":                            {[]string{"in/", "in/f -> f"}, 0, "in/f", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			build(t, dir, c.entries...)
			if c.mode != 0 {
				if err := os.Chmod(filepath.Join(dir, "in"), c.mode); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Resolve(filepath.Join(dir, c.path))
			if c.want == "" && err == nil || c.want != "" && got != filepath.Join(dir, c.want) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestOpenFile opens what is no file of the process's: nothing waits, and nothing but a
// regular file is opened.
func TestOpenFile(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a link":   func(path string) error { return os.Symlink("/dev/null", path) },
		"a pipe":   func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"a folder": func(path string) error { return os.Mkdir(path, 0o755) },
		"a device": func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|3) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			for _, flags := range []int{os.O_RDONLY, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_APPEND} {
				if f, err := OpenFile(path, flags, 0o644); err == nil {
					f.Close()
					t.Errorf("flags %#x: it is opened", flags)
				}
			}
		})
	}
	path := filepath.Join(t.TempDir(), "f")
	f, err := OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Chown(path, other, other); err != nil {
		t.Fatal(err)
	}
	if f, err = OpenFile(path, os.O_RDONLY, 0); err != nil { // only root can have put it there
		t.Fatal(err)
	}
	f.Close()
	if err := os.Chmod(filepath.Dir(path), fs.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	if _, err = OpenFile(path, os.O_RDONLY, 0); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("another's file in a shared folder: %v", err)
	}
}

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Options are what the process may use. All paths are absolute; what does not exist is
// left out.
type Options struct {
	// Programs are the programs that the process may run.
	Programs []string
	// Files are the process's own. Writing one means to replace it, so the process
	// can create files in the whole folder. It sees files there whose names begin
	// with the name of one of its own, and new ones.
	Files []string
	// Readable are files of others, which may be replaced at any time.
	Readable []string
	// LowPorts lets the process listen on ports below 1024, but not its programs.
	LowPorts bool
}

// place is a file, folder or symbolic link that the process sees.
type place struct {
	path     string
	link     string   // where the symbolic link leads to; "": it is none
	writable bool     // files can be created and written
	runnable bool     // programs can be run, libraries loaded
	device   bool     // device files work
	unopened bool     // it is shown for sockets, or for what is mounted there: no file is opened
	own      []string // of a shared folder: how the names begin that are not covered; nil: all is visible
}

// flags returns the flags of the mount.
func (p place) flags() uintptr {
	var f uintptr = restricted | unix.MS_RDONLY
	if p.writable {
		f &^= unix.MS_RDONLY
	}
	if p.runnable {
		f &^= unix.MS_NOEXEC
	}
	if p.device {
		f &^= unix.MS_NODEV
	}
	return f
}

// hides reports whether a file of a shared folder has to be covered. A symbolic link
// cannot be; where it leads to is not visible.
func (p place) hides(e fs.DirEntry) bool {
	isOwn := func(prefix string) bool { return strings.HasPrefix(e.Name(), prefix) }
	return e.Type() != fs.ModeSymlink && !slices.ContainsFunc(p.own, isOwn)
}

// libraries are the folders with the libraries of the programs. There are programs in
// some of them, but no shell is usually there.
var libraries = []string{"/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"}

// devices are the device files that the process and its programs use.
var devices = []string{"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/ptmx", "/dev/pts"}

// system is what libraries and iptables read.
var system = []string{
	"/proc", "/sys",
	"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/localtime",
	"/etc/services", "/etc/protocols", "/etc/ethertypes", "/etc/iproute2", "/etc/xtables",
	"/etc/ld.so.cache", "/usr/share/iproute2", "/usr/share/zoneinfo",
}

// view is the list of places under construction.
type view struct {
	places []place
	mounts []string // where something is mounted
}

// placesOf returns the places that the options name, and those that every program
// needs, each folder before what is in it.
func placesOf(o Options) ([]place, error) {
	v := view{mounts: mountPoints()}
	v.add(place{path: "/dev", unopened: true}) // of the system log
	for _, path := range devices {
		v.add(place{path: path, device: true, writable: true})
	}
	for _, path := range libraries {
		v.add(place{path: path, runnable: true})
	}
	for _, path := range system {
		v.add(place{path: path})
	}
	for _, path := range o.Programs {
		if err := checkProgram(path); err != nil {
			return nil, err
		}
		v.add(place{path: path, runnable: true})
	}
	for _, path := range o.Files {
		v.addFolderOf(path, true)
	}
	for _, path := range o.Readable {
		v.addFolderOf(path, false)
	}
	v.addMountPoints()
	sort.SliceStable(v.places, func(i, j int) bool { return v.places[i].path < v.places[j].path })
	return v.places, nil
}

// add adds a place, and the links on the way to it. What does not exist is left out.
func (v *view) add(p place) {
	real, err := v.addLinks(p.path)
	if err != nil {
		return
	}
	p.path = real
	if _, err := os.Stat(real); err == nil && !v.has(p) {
		v.places = append(v.places, p)
	}
}

// addFolderOf adds the folder of a file, which others have files in as well.
func (v *view) addFolderOf(path string, writable bool) {
	real, err := v.addLinks(path)
	if err != nil {
		return
	}
	if writable && slices.Contains(v.mounts, real) { // else the folder would show what the mount covers
		v.add(place{path: real, writable: true})
	}
	folder, name := filepath.Split(real)
	p := place{path: filepath.Clean(folder), writable: writable, own: []string{name}}
	if i := slices.IndexFunc(v.places, func(o place) bool { return o.path == p.path && o.link == "" }); i >= 0 {
		known := &v.places[i]
		known.writable = known.writable || writable
		if known.own != nil {
			known.own = append(known.own, name)
		}
		return
	}
	if _, err := os.Stat(p.path); err == nil {
		v.places = append(v.places, p)
	}
}

// has reports whether the place is in the list.
func (v *view) has(p place) bool {
	return slices.ContainsFunc(v.places, func(o place) bool { return o.path == p.path })
}

// maxLinks is the number of symbolic links in a row that the kernel follows.
const maxLinks = 40

// addLinks adds the symbolic links on the way to path, and returns where they lead to,
// which may not exist.
func (v *view) addLinks(path string) (real string, err error) {
	rest := strings.Split(filepath.Clean(path), "/")
	real = "/"
	for links := 0; len(rest) > 0; {
		next := filepath.Join(real, rest[0])
		rest = rest[1:]
		to, err := os.Readlink(next)
		if err != nil { // not a link, or no file
			real = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: %w", path, unix.ELOOP)
		}
		if link := (place{path: next, link: to}); !v.has(link) {
			v.places = append(v.places, link)
		}
		if filepath.IsAbs(to) {
			real = "/"
		}
		rest = append(strings.Split(filepath.Clean(to), "/"), rest...)
	}
	return real, nil
}

// addMountPoints adds what is mounted between a folder in the list and a place in it:
// the folder is shown without.
func (v *view) addMountPoints() {
	for _, path := range v.mounts {
		isWithin := func(p place) bool { return p.link == "" && p.path != path && isBelow(path, p.path) }
		leadsOn := func(p place) bool { return p.path != path && isBelow(p.path, path) }
		p := place{path: path, unopened: true, own: []string{}}
		if !v.has(p) && slices.ContainsFunc(v.places, isWithin) && slices.ContainsFunc(v.places, leadsOn) {
			v.places = append(v.places, p)
		}
	}
}

// isBelow reports whether path is the folder or in it.
func isBelow(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

// errScript is the error of a program that needs others, such as a shell.
var errScript = errors.New("it is a script")

// checkProgram returns an error if the program needs others to run.
func checkProgram(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if n, err := f.Read(magic); err != nil || !bytes.Equal(magic[:n], []byte("\x7fELF")) {
		return fmt.Errorf("%s: %w", path, errScript)
	}
	return nil
}

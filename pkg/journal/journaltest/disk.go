// Package journaltest has a disk that fails, crashes and loses power, for tests.
package journaltest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"igdd/pkg/journal"
)

var (
	// ErrCrashed is the error of everything after a crash.
	ErrCrashed = errors.New("the process has crashed")
	// ErrFull is an error for [Disk.Fail] with which half of a write still fits.
	ErrFull = errors.New("no space left on device (simulated)")
)

// Disk is the system's disk with a record of its operations. It can fail, and the
// process can crash.
type Disk struct {
	journal.OS
	// CrashAfter is the number of operations after which nothing happens any more; 0:
	// no crash.
	CrashAfter int

	mu      sync.Mutex
	ops     []Op
	fails   func(Op) error // asked before each operation
	blocked chan struct{}  // closed when operations go on; nil: they do not wait
}

// failedSync is a sync that failed: what it should have written stays lost, although
// a later sync succeeds, as on Linux.
const failedSync = "failed sync"

// Op is one operation that changes the disk.
type Op struct {
	What string // create, append, write, sync, failed sync, truncate, rename, remove, syncdir
	Name string // base name
	To   string // rename: the new one

	file int    // number of the open file, from 1
	data []byte // write
	size int64  // truncate
}

func (o Op) String() string {
	if o.To != "" {
		return fmt.Sprintf("%s %s to %s", o.What, o.Name, o.To)
	}
	return fmt.Sprintf("%s %s", o.What, o.Name)
}

// do records an operation, or returns the error with which it fails.
func (d *Disk) do(o Op) error {
	d.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.CrashAfter > 0 && len(d.ops) >= d.CrashAfter {
		return ErrCrashed
	}
	if d.fails != nil {
		if err := d.fails(o); err != nil {
			return err
		}
	}
	d.ops = append(d.ops, o)
	return nil
}

// wait waits while operations are blocked.
func (d *Disk) wait() {
	d.mu.Lock()
	blocked := d.blocked
	d.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
}

// Block has all operations that begin from now on wait until Unblock is called, as on a
// disk that does not answer.
func (d *Disk) Block() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blocked == nil {
		d.blocked = make(chan struct{})
	}
}

// Unblock has all operations go on.
func (d *Disk) Unblock() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blocked != nil {
		close(d.blocked)
		d.blocked = nil
	}
}

// record records an operation.
func (d *Disk) record(o Op) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops = append(d.ops, o)
}

// Did returns the operations so far.
func (d *Disk) Did() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ops)
}

// Count returns the number of operations of a kind.
func (d *Disk) Count(what string) int {
	n := 0
	for _, o := range d.Did() {
		if o.What == what {
			n++
		}
	}
	return n
}

// Fail makes the operations fail for which f returns an error; nil: none.
func (d *Disk) Fail(f func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = f
}

func (d *Disk) open(what, path string, open func() (journal.File, error)) (journal.File, error) {
	o := Op{What: what, Name: filepath.Base(path)}
	d.mu.Lock()
	o.file = len(d.ops) + 1
	d.mu.Unlock()
	if err := d.do(o); err != nil {
		return nil, err
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	return &openFile{File: f, disk: d, Op: o}, nil
}

// Create creates a file and replaces an existing one.
func (d *Disk) Create(path string, mode fs.FileMode) (journal.File, error) {
	return d.open("create", path, func() (journal.File, error) { return d.OS.Create(path, mode) })
}

// Append opens a file to write at its end.
func (d *Disk) Append(path string) (journal.File, error) {
	return d.open("append", path, func() (journal.File, error) { return d.OS.Append(path) })
}

// Rename renames a file and replaces another one.
func (d *Disk) Rename(from, to string) error {
	if err := d.do(Op{What: "rename", Name: filepath.Base(from), To: filepath.Base(to)}); err != nil {
		return err
	}
	return d.OS.Rename(from, to)
}

// Remove removes a file.
func (d *Disk) Remove(path string) error {
	if _, err := os.Lstat(path); err != nil {
		return err
	}
	if err := d.do(Op{What: "remove", Name: filepath.Base(path)}); err != nil {
		return err
	}
	return d.OS.Remove(path)
}

// SyncDir makes the renames in a directory durable.
func (d *Disk) SyncDir(path string) error {
	if err := d.do(Op{What: "syncdir", Name: filepath.Base(path)}); err != nil {
		return err
	}
	return d.OS.SyncDir(path)
}

// openFile is an open file on a Disk.
type openFile struct {
	journal.File
	disk *Disk
	Op
}

func (f *openFile) Write(p []byte) (int, error) {
	o := Op{What: "write", file: f.file, Name: f.Name, data: slices.Clone(p)}
	err := f.disk.do(o)
	if err == nil {
		return f.File.Write(p)
	}
	if !errors.Is(err, ErrFull) {
		return 0, err
	}
	o.data = o.data[:len(p)/2]
	f.disk.record(o)
	n, _ := f.File.Write(o.data)
	return n, err
}

func (f *openFile) Truncate(size int64) error {
	if err := f.disk.do(Op{What: "truncate", file: f.file, Name: f.Name, size: size}); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Sync does nothing but note itself: the real one takes time and is not needed here.
func (f *openFile) Sync() error {
	err := f.disk.do(Op{What: "sync", file: f.file, Name: f.Name})
	if err != nil && !errors.Is(err, ErrCrashed) {
		f.disk.record(Op{What: failedSync, file: f.file, Name: f.Name})
	}
	return err
}

// inode is a file on a disk that can lose power: what was written to it, what of that
// is on the disk, and what was lost by a failed sync.
type inode struct {
	written, durable []byte
	lost             []bool
}

// sync puts on the disk what was not lost before.
func (f *inode) sync() {
	f.durable = slices.Clone(f.written)
	for i := range min(len(f.lost), len(f.durable)) {
		if f.lost[i] {
			f.durable[i] = 0
		}
	}
}

// lose loses what is not on the disk.
func (f *inode) lose() {
	for i := len(f.lost); i < len(f.written); i++ {
		f.lost = append(f.lost, i >= len(f.durable))
	}
}

// AfterPowerCut returns the contents by name of the files in a directory that was
// empty before the operations, if the power is cut after them: only what was synced
// is there. A rename without a sync of the directory is there if keepsNames is set.
func AfterPowerCut(ops []Op, keepsNames bool) map[string]string {
	inodes := make(map[int]*inode) // by the number of the open file
	names, durable := make(map[string]*inode), make(map[string]*inode)
	for _, o := range ops {
		apply(o, inodes, names)
		if o.What == "syncdir" || keepsNames {
			durable = maps.Clone(names)
		}
	}
	contents := make(map[string]string)
	for name, f := range durable {
		contents[name] = string(f.durable)
	}
	return contents
}

// apply carries out an operation on files and their names.
func apply(o Op, inodes map[int]*inode, names map[string]*inode) {
	f := inodes[o.file]
	switch o.What {
	case "create":
		inodes[o.file] = new(inode)
		names[o.Name] = inodes[o.file]
	case "append":
		inodes[o.file] = names[o.Name]
	case "write":
		f.written = append(f.written, o.data...)
	case "truncate":
		f.written = f.written[:o.size]
	case "sync":
		f.sync()
	case failedSync:
		f.lose()
	case "rename":
		names[o.To] = names[o.Name]
		delete(names, o.Name)
	case "remove":
		delete(names, o.Name)
	}
}

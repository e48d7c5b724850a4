package leasefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

var (
	errCrashed = errors.New("the process has crashed")
	errFull    = errors.New("no space left on device (simulated)")
)

// testDisk is the system's disk with a record of its operations. It can fail,
// and it can crash.
type testDisk struct {
	osDisk
	mu         sync.Mutex
	ops        []op
	crashAfter int            // after so many operations nothing happens any more; 0: it lives
	fails      func(op) error // asked before each operation
}

// op is one operation that changes the disk.
type op struct {
	what string // create, append, write, sync, truncate, rename, remove, syncdir
	file int    // number of the open file, from 1
	name string // base name
	to   string // rename: the new one
	data []byte // write
	size int64  // truncate
}

func (o op) String() string {
	if o.to != "" {
		return fmt.Sprintf("%s %s to %s", o.what, o.name, o.to)
	}
	return fmt.Sprintf("%s %s", o.what, o.name)
}

// do records an operation, or returns the error with which it fails.
func (d *testDisk) do(o op) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashAfter > 0 && len(d.ops) >= d.crashAfter {
		return errCrashed
	}
	if d.fails != nil {
		if err := d.fails(o); err != nil {
			return err
		}
	}
	d.ops = append(d.ops, o)
	return nil
}

// did returns the operations so far.
func (d *testDisk) did() []op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]op(nil), d.ops...)
}

// count returns the number of operations of a kind.
func (d *testDisk) count(what string) int {
	n := 0
	for _, o := range d.did() {
		if o.what == what {
			n++
		}
	}
	return n
}

// fail makes the operations fail for which f returns an error; nil: none.
func (d *testDisk) fail(f func(op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = f
}

func (d *testDisk) open(what, path string, open func() (file, error)) (file, error) {
	o := op{what: what, name: filepath.Base(path)}
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
	return &testFile{file: f, disk: d, op: o}, nil
}

func (d *testDisk) Create(path string, mode fs.FileMode) (file, error) {
	return d.open("create", path, func() (file, error) { return d.osDisk.Create(path, mode) })
}

func (d *testDisk) Append(path string) (file, error) {
	return d.open("append", path, func() (file, error) { return d.osDisk.Append(path) })
}

func (d *testDisk) Rename(from, to string) error {
	if err := d.do(op{what: "rename", name: filepath.Base(from), to: filepath.Base(to)}); err != nil {
		return err
	}
	return d.osDisk.Rename(from, to)
}

func (d *testDisk) Remove(path string) error {
	if _, err := os.Lstat(path); err != nil {
		return err
	}
	if err := d.do(op{what: "remove", name: filepath.Base(path)}); err != nil {
		return err
	}
	return d.osDisk.Remove(path)
}

func (d *testDisk) SyncDir(path string) error {
	if err := d.do(op{what: "syncdir", name: filepath.Base(path)}); err != nil {
		return err
	}
	return d.osDisk.SyncDir(path)
}

// testFile is an open file on a trialDisk.
type testFile struct {
	file
	disk *testDisk
	op
}

func (f *testFile) Write(p []byte) (int, error) {
	if err := f.disk.do(op{what: "write", file: f.op.file, name: f.name, data: append([]byte(nil), p...)}); err != nil {
		if errors.Is(err, errFull) { // half of it still fits
			n, _ := f.file.Write(p[:len(p)/2])
			return n, err
		}
		return 0, err
	}
	return f.file.Write(p)
}

func (f *testFile) Truncate(size int64) error {
	if err := f.disk.do(op{what: "truncate", file: f.op.file, name: f.name, size: size}); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *testFile) Sync() error {
	if err := f.disk.do(op{what: "sync", file: f.op.file, name: f.name}); err != nil {
		return err
	}
	return nil // the real one takes time and is not needed here
}

// Package journal keeps a file of lines with checksums, to which lines are
// appended until it is rewritten with those that still matter.
package journal

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
)

// Limits in bytes: of a line with its frame, and of the file.
const (
	maxLine = 256 << 10
	maxSize = 128 << 20
)

// MaxText is the length of the longest text of a line, in bytes.
const MaxText = maxLine - frameHead - 1

// slack is the size of outdated lines, in bytes, that is not worth a new file.
const slack = 64 << 10

// bufferSize is the size of the buffer of a file that is being rewritten, in bytes.
const bufferSize = 64 << 10

// frameHead is the length of what begins a line: a checksum and a space.
const frameHead = 9

// TempSuffix ends the name of a file that is not complete yet.
const TempSuffix = ".new"

// LineSize returns the size in the file of a line with this text, in bytes.
func LineSize(text []byte) int64 { return int64(frameHead + len(text) + 1) }

// ErrLost is returned by Append when another program has removed, replaced or cut the
// file, and no rewrite is under way.
var ErrLost = errors.New("another program removed or changed the file")

// errNoFile is returned while there is no file to which lines can be appended.
var errNoFile = errors.New("the file has not been written yet")

// Journal is a file of lines. What Append has written survives the end of the
// process; what was written before a Sync or a Rewrite survives a power cut, too. A
// journal whose file does not have all that was appended, or may not have it on the
// disk, says so with [Journal.NeedsRewrite]. All methods may be called concurrently.
type Journal struct {
	disk Disk

	mu       sync.Mutex // guards all below
	file     File       // nil: none that can be appended to
	path     string
	chain    chain
	size     int64    // of the whole lines, in bytes
	outdated error    // why the file must be rewritten; nil: it need not be
	keeping  bool     // since Begin
	since    [][]byte // the texts appended since Begin
}

// New returns a journal without a file; Rewrite writes one, and Resume goes on with
// one.
func New(d Disk) *Journal { return &Journal{disk: d, outdated: errNoFile} }

// Resume goes on with the file at path, of which c is the content.
func (j *Journal) Resume(path string, c Content) error {
	if !c.isWhole() {
		return errNoFile
	}
	f, err := j.disk.Append(path)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.file, j.path, j.chain, j.size, j.outdated = f, path, c.chain, c.size, nil
	return nil
}

// Append appends lines in one write. With an error none of them is in the file, and
// it must be rewritten.
func (j *Journal) Append(texts ...[]byte) error {
	if len(texts) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.keeping {
		j.since = append(j.since, texts...)
	}
	err := j.checkFile()
	if err == nil {
		err = j.append(texts)
	}
	j.outdated = cmp.Or(j.outdated, err)
	return err
}

// checkFile returns why lines cannot be appended to the file.
func (j *Journal) checkFile() error {
	switch {
	case j.file == nil:
		return cmp.Or(j.outdated, errNoFile) // the first one is being written
	case j.isInPlace():
		return nil
	case j.keeping:
		return errors.New("the file is being rewritten, and another program has removed or changed the former one")
	}
	return ErrLost
}

// append writes lines at the end of the file. A write that fails half-way is undone.
func (j *Journal) append(texts [][]byte) error {
	lines, next := j.chain.frame(texts...)
	if j.size+int64(len(lines)) > maxSize {
		return fmt.Errorf("%s has %d bytes, and must be rewritten first", j.path, j.size)
	}
	n, err := j.file.Write(lines)
	if err == nil {
		j.size, j.chain = j.size+int64(n), next
	} else if n > 0 && j.file.Truncate(j.size) != nil {
		j.closeFile() // it ends in half a line
	}
	return err
}

// Sync makes what was appended durable. After a failure only another file can be
// trusted: Linux reports an error of writing back once, and forgets it.
func (j *Journal) Sync() error {
	j.mu.Lock()
	f, err := j.file, j.outdated
	j.mu.Unlock()
	if f == nil {
		return err
	}
	err = f.Sync()
	if err != nil {
		j.Outdate(err)
	}
	return err
}

// Outdate has the journal be rewritten, for a reason.
func (j *Journal) Outdate(reason error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outdated = reason
}

// NeedsRewrite reports whether the file must be rewritten, at this path: it lacks
// something, or it is larger than twice the lines that still matter, whose size is
// given in bytes.
func (j *Journal) NeedsRewrite(path string, size int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file == nil || j.outdated != nil || j.path != path || j.size > 2*size+slack || !j.isInPlace()
}

// Begin begins a rewrite: what is appended from now on will be in the new file, too.
// Rewrite must follow, with the lines that matter at this moment.
func (j *Journal) Begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keeping, j.since, j.outdated = true, nil, nil
}

// Rewrite replaces the file at path by one with these lines, followed by what was
// appended since Begin. When it returns nil these lines are durable. With an error the
// former file may still be in use, and must be rewritten.
func (j *Journal) Rewrite(path string, texts iter.Seq[[]byte]) error {
	next := Journal{disk: j.disk, path: path}
	err := next.create(texts)
	if err == nil {
		err = j.replaceBy(&next)
	}
	if err == nil {
		err = j.disk.SyncDir(filepath.Dir(path))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keeping, j.since = false, nil
	j.outdated = cmp.Or(err, j.outdated)
	return err
}

// create creates the file under its temporary name, with these lines, and syncs it.
func (j *Journal) create(texts iter.Seq[[]byte]) error {
	f, err := j.disk.Create(j.path+TempSuffix, 0o600)
	if err != nil {
		return err
	}
	j.file = f
	w := bufio.NewWriterSize(f, bufferSize)
	for text := range texts {
		j.write(w, text) // Flush reports the first error
	}
	err = w.Flush()
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		j.discard()
	}
	return err
}

// write writes one line.
func (j *Journal) write(w io.Writer, text []byte) {
	line, next := j.chain.frame(text)
	n, _ := w.Write(line)
	j.size, j.chain = j.size+int64(n), next
}

// replaceBy replaces the file by that of another journal, after it got what was
// appended since Begin.
func (j *Journal) replaceBy(next *Journal) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if len(j.since) > 0 {
		err = next.append(j.since)
	}
	if err == nil {
		err = j.disk.Rename(next.path+TempSuffix, next.path)
	}
	if err != nil {
		next.discard()
		return err
	}
	j.closeFile()
	j.file, j.path, j.chain, j.size = next.file, next.path, next.chain, next.size
	return nil
}

// discard closes and removes a file that still has its temporary name.
func (j *Journal) discard() {
	j.file.Close()
	j.disk.Remove(j.path + TempSuffix)
}

// Close closes the file.
func (j *Journal) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closeFile()
}

func (j *Journal) closeFile() {
	if j.file != nil {
		j.file.Close()
		j.file = nil
	}
}

// isInPlace reports whether the open file is the one at its path, as this process left it.
func (j *Journal) isInPlace() bool {
	open, err := j.file.Stat()
	if err != nil || open.Size() != j.size {
		return false
	}
	named, err := os.Lstat(j.path)
	return err == nil && os.SameFile(open, named)
}

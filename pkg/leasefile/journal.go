package leasefile

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"igdd/pkg/portmap"
)

// Limits of the state file, in bytes: a line has room for a mapping with 3,000
// filters and more, the file for two mappings of every port.
const (
	maxEntry   = 256 << 10
	maxJournal = 128 << 20
)

// slack is the size of outdated lines, in bytes, that is not worth a new file.
const slack = 64 << 10

// bufferSize is the size of the buffers between the store and a file, in bytes.
const bufferSize = 64 << 10

// frameHead is the length of what begins a line: a checksum and a space.
const frameHead = 9

// journal is the open state file: each line is a checksum and an entry. Lines
// are only appended; from time to time a new file replaces it.
type journal struct {
	file        file
	path        string
	seed        uint32       // checksum of the first line, on which the others' depend
	size        int64        // of the whole lines, in bytes
	compactSize int64        // of a new file with the same mappings, in bytes
	torn        bool         // it ends in half a line, so that nothing can be appended
	clock       clockReading // by which the times in the entries were computed
}

// newJournal writes a durable state file with the given first entries and
// mappings, under its temporary name.
func newJournal(d disk, path string, first []entry, held []*portmap.Mapping, now clockReading) (*journal, error) {
	f, err := d.Create(path+tempSuffix, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{file: f, path: path, clock: now}
	if err := j.fill(first, held); err != nil {
		j.discard(d)
		return nil, err
	}
	return j, nil
}

// discard closes and removes a file that still has its temporary name.
func (j *journal) discard(d disk) {
	j.file.Close()
	d.Remove(j.path + tempSuffix)
}

// fill writes a line for each of the first entries and each mapping.
func (j *journal) fill(first []entry, held []*portmap.Mapping) error {
	w := bufio.NewWriterSize(j.file, bufferSize)
	for _, e := range first {
		if err := j.write(w, e); err != nil {
			return err
		}
	}
	for _, m := range held {
		if err := j.write(w, entry{Put: recordOf(m, j.clock)}); err != nil {
			return err
		}
	}
	j.compactSize = j.size
	if err := w.Flush(); err != nil {
		return err
	}
	return j.file.Sync()
}

// write writes the line of an entry. The first line is the seed of the others.
func (j *journal) write(w io.Writer, e entry) error {
	text, err := e.encode()
	if err != nil {
		return err
	}
	line := j.frame(nil, text)
	if j.size == 0 {
		j.seed = checksum(0, text)
	}
	j.size += int64(len(line))
	_, err = w.Write(line)
	return err
}

// frame appends to b the lines of entries, which are given as JSON texts.
func (j *journal) frame(b []byte, texts ...[]byte) []byte {
	for _, text := range texts {
		b = fmt.Appendf(b, "%08x ", checksum(j.seed, text))
		b = append(append(b, text...), '\n')
	}
	return b
}

// checksum returns the checksum of a line, which depends on the first line of
// its file: fragments of an older file, which can appear after a power cut, do
// not match.
func checksum(seed uint32, text []byte) uint32 { return crc32.Update(seed, crc32.IEEETable, text) }

// append appends lines in one write, so that they outlive the process. A write
// that fails half-way is undone.
func (j *journal) append(b []byte) error {
	if j.torn || j.size+int64(len(b)) > maxJournal {
		return fmt.Errorf("%s is full or damaged until it is rewritten", j.path)
	}
	n, err := j.file.Write(b)
	if err == nil {
		j.size += int64(n)
	} else if n > 0 {
		j.torn = j.file.Truncate(j.size) != nil
	}
	return err
}

// needsCompaction reports whether most of the file is outdated.
func (j *journal) needsCompaction() bool { return j.size > 2*j.compactSize+slack }

// inPlace reports whether the open file still has its name.
func (j *journal) inPlace() bool {
	ours, err := j.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(j.path)
	return err == nil && os.SameFile(ours, named)
}

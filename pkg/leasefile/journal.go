package leasefile

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"os"

	"igdd/pkg/portmap"
)

// Limits of the private file, in octets: a line holds a mapping with 3,000
// filters and more, the file a mapping for every port there is, twice.
const (
	maxEntry   = 256 << 10
	maxJournal = 128 << 20
)

// slack is how many octets of outdated lines are not worth a new file.
const slack = 64 << 10

// bufferSize is that of the buffers between the store and a file, in octets.
const bufferSize = 64 << 10

// frameHead is the length of the checksum that begins a line, and a space.
const frameHead = 9

// journal is the private file: lines that each hold an entry behind a
// checksum, only ever added to and now and then written anew.
type journal struct {
	file        file
	path        string
	seed        uint32       // checksum of the first line, which the others build on
	size        int64        // octets that are whole lines
	compactSize int64        // octets that a new file would have
	torn        bool         // it ends in half a line, so that nothing may follow
	clock       clockReading // which time the entries are on
}

// newJournal writes a private file with the given mappings, durably, but
// under its temporary name.
func newJournal(d disk, path string, first entry, held []*portmap.Mapping, now clockReading) (*journal, error) {
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

// discard gives up a file that still has its temporary name.
func (j *journal) discard(d disk) {
	j.file.Close()
	d.Remove(j.path + tempSuffix)
}

// fill writes the first line and one for each mapping.
func (j *journal) fill(first entry, held []*portmap.Mapping) error {
	w := bufio.NewWriterSize(j.file, bufferSize)
	head, err := first.encode()
	if err != nil {
		return err
	}
	line := j.frame(nil, head)
	j.seed = checksum(0, head)
	for i := 0; ; i++ {
		j.size += int64(len(line))
		if _, err := w.Write(line); err != nil {
			return err
		}
		if i == len(held) {
			break
		}
		text, err := entry{Put: recordOf(held[i], j.clock)}.encode()
		if err != nil {
			return err
		}
		line = j.frame(line[:0], text)
	}
	j.compactSize = j.size
	if err := w.Flush(); err != nil {
		return err
	}
	return j.file.Sync()
}

// frame adds to b the lines of entries, which come as JSON texts.
func (j *journal) frame(b []byte, texts ...[]byte) []byte {
	for _, text := range texts {
		b = fmt.Appendf(b, "%08x ", checksum(j.seed, text))
		b = append(append(b, text...), '\n')
	}
	return b
}

// checksum ties a line to the first one of its file: the remains of an older
// file, which a power cut can bring up, do not pass for lines of this one.
func checksum(seed uint32, text []byte) uint32 { return crc32.Update(seed, crc32.IEEETable, text) }

// append adds lines in one write, so that they outlive the process. A write
// that fails half-way is taken back.
func (j *journal) append(b []byte) error {
	if j.torn || j.size+int64(len(b)) > maxJournal {
		return fmt.Errorf("%s takes no more until it is written anew", j.path)
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

// inPlace reports whether the file is still the one of its name.
func (j *journal) inPlace() bool {
	ours, err := j.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(j.path)
	return err == nil && os.SameFile(ours, named)
}

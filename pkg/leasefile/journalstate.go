package leasefile

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"igdd/pkg/portmap"
)

// journalState is the content of a state file.
type journalState struct {
	found           bool
	mark            mark // the last one
	epoch           epochRecord
	records         []*record // nil where one was dropped
	damaged         error     // why not every line could be read; records are missing
	truncated       bool      // the last line is incomplete, as after a crash
	seed            uint32
	size            int64
	compactSize     int64 // of a new file with the same records, in bytes
	leaseFileBehind bool  // the lease file may lack some of it

	byKey    map[portmap.Key]int // where in records
	lineSize map[portmap.Key]int // length of its line

	epochSize int // length of the line with the epoch
}

// readJournal reads a state file. The records are in order of creation.
func readJournal(r io.Reader) *journalState {
	js := &journalState{found: true, byKey: make(map[portmap.Key]int), lineSize: make(map[portmap.Key]int)}
	in := newLines(io.LimitReader(r, maxJournal), maxEntry)
	for in.next() {
		if in.truncated {
			js.truncated = true
			break
		}
		if err := js.read(in); err != nil && js.damaged == nil {
			js.damaged = fmt.Errorf("line %d: %w", in.number, err)
		}
	}
	js.size = in.bytesRead
	switch {
	case in.err != nil:
		js.damaged = in.err
	case js.size == 0:
		js.damaged = errors.New("empty file")
	case js.size == maxJournal:
		js.damaged = fmt.Errorf("larger than %d bytes", maxJournal)
	case js.mark.Format == 0:
		js.damaged = errors.New("no valid mark")
	}
	return js
}

// read reads one line.
func (js *journalState) read(in *lines) error {
	if in.tooLong {
		return fmt.Errorf("longer than %d bytes", maxEntry)
	}
	e, sum, err := unframe(in.line, js.seed)
	if err != nil {
		return err
	}
	switch {
	case e.Mark != nil:
		if e.Mark.Format != format {
			return fmt.Errorf("unknown format %d", e.Mark.Format)
		}
		if js.mark = *e.Mark; in.number == 1 {
			js.seed, js.compactSize = sum, int64(len(in.line))
		}
		js.leaseFileBehind = e.Mark.Behind
	case e.Epoch != nil:
		js.compactSize += int64(len(in.line) + 1 - js.epochSize)
		js.epoch, js.epochSize = *e.Epoch, len(in.line)+1
	case e.Put != nil:
		js.leaseFileBehind = true
		return js.put(e.Put, len(in.line)+1)
	case e.Drop != nil:
		js.leaseFileBehind = true
		return js.drop(e.Drop)
	}
	return nil
}

// unframe checks a line and returns its entry and checksum.
func unframe(line []byte, seed uint32) (entry, uint32, error) {
	if len(line) < frameHead || line[frameHead-1] != ' ' {
		return entry{}, 0, errors.New("no checksum")
	}
	want, err := strconv.ParseUint(string(line[:frameHead-1]), 16, 32)
	if err != nil {
		return entry{}, 0, errors.New("no checksum")
	}
	sum := checksum(seed, line[frameHead:])
	if sum != uint32(want) {
		return entry{}, 0, fmt.Errorf("checksum is %08x, not %08x", sum, want)
	}
	e, err := decodeEntry(line[frameHead:])
	return e, sum, err
}

// put adds a mapping at the end, or updates it in its place.
func (js *journalState) put(r *record, size int) error {
	k, err := r.portmapKey()
	if err != nil {
		return err
	}
	if i, held := js.byKey[k]; held {
		js.records[i] = r
	} else {
		js.byKey[k] = len(js.records)
		js.records = append(js.records, r)
	}
	js.compactSize += int64(size - js.lineSize[k])
	js.lineSize[k] = size
	return nil
}

// drop removes a mapping.
func (js *journalState) drop(d *keyRecord) error {
	k, err := d.portmapKey()
	if err != nil {
		return err
	}
	if i, held := js.byKey[k]; held {
		js.records[i] = nil
		js.compactSize -= int64(js.lineSize[k])
		delete(js.byKey, k)
		delete(js.lineSize, k)
	}
	return nil
}

// live returns the records that were not dropped, in order of creation.
func (js *journalState) live() []*record {
	return slices.DeleteFunc(slices.Clone(js.records), func(r *record) bool { return r == nil })
}

// intact reports whether entries can be appended to the file as it is.
func (js *journalState) intact() bool { return js.found && js.damaged == nil && !js.truncated }

// describes reports whether f is the lease file that the last mark describes:
// as it was left, or as it was about to be left.
func (js *journalState) describes(f fingerprint) bool {
	return js.mark.Format != 0 && slices.Contains(js.mark.Lease[:], f)
}

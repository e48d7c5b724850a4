package leasefile

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"igdd/pkg/portmap"
)

// journalState is what a private file says.
type journalState struct {
	found   bool
	mark    mark      // the last one
	records []*record // nil where one was dropped
	damaged error     // why not every line could be read; records are missing
	cut     bool      // the last line lacks its end, as after a crash
	seed    uint32
	size    int64
	fresh   int64
	ahead   bool // the lease file may lack some of it

	at     map[portmap.Key]int // where in records
	octets map[portmap.Key]int // length of the line
}

// readJournal reads a private file. The records are in order of creation.
func readJournal(r io.Reader) *journalState {
	l := &journalState{found: true, at: make(map[portmap.Key]int), octets: make(map[portmap.Key]int)}
	in := newLines(io.LimitReader(r, maxPrivate), maxEntry)
	for in.next() {
		if in.cut {
			l.cut = true
			break
		}
		if err := l.read(in); err != nil && l.damaged == nil {
			l.damaged = fmt.Errorf("line %d: %w", in.number, err)
		}
	}
	l.size = in.octets
	switch {
	case in.err != nil:
		l.damaged = in.err
	case l.size == 0:
		l.damaged = errors.New("it is empty")
	case l.size == maxPrivate:
		l.damaged = fmt.Errorf("longer than %d octets", maxPrivate)
	case l.mark.Format == 0:
		l.damaged = errors.New("no line says what the file is")
	}
	return l
}

// read takes one line in.
func (l *journalState) read(in *lines) error {
	if in.tooLong {
		return fmt.Errorf("longer than %d octets", maxEntry)
	}
	e, sum, err := unframe(in.line, l.seed)
	if err != nil {
		return err
	}
	switch {
	case e.Mark != nil:
		if e.Mark.Format != format {
			return fmt.Errorf("format %d is not known", e.Mark.Format)
		}
		if l.mark = *e.Mark; in.number == 1 {
			l.seed, l.fresh = sum, int64(len(in.line))
		}
		l.ahead = e.Mark.Behind
	case e.Put != nil:
		l.ahead = true
		return l.put(e.Put, len(in.line)+1)
	case e.Drop != nil:
		l.ahead = true
		return l.drop(e.Drop)
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

// put notes a mapping: a new one last, a changed one in its old place.
func (l *journalState) put(r *record, octets int) error {
	k, err := r.portmapKey()
	if err != nil {
		return err
	}
	if i, held := l.at[k]; held {
		l.records[i] = r
	} else {
		l.at[k] = len(l.records)
		l.records = append(l.records, r)
	}
	l.fresh += int64(octets - l.octets[k])
	l.octets[k] = octets
	return nil
}

// drop forgets a mapping.
func (l *journalState) drop(d *keyRecord) error {
	k, err := d.portmapKey()
	if err != nil {
		return err
	}
	if i, held := l.at[k]; held {
		l.records[i] = nil
		l.fresh -= int64(l.octets[k])
		delete(l.at, k)
		delete(l.octets, k)
	}
	return nil
}

// live returns the records of what is open, in order of creation.
func (l *journalState) live() []*record {
	return slices.DeleteFunc(slices.Clone(l.records), func(r *record) bool { return r == nil })
}

// intact reports whether the file can go on as it is.
func (l *journalState) intact() bool { return l.found && l.damaged == nil && !l.cut }

// describes reports whether f is what this file's writer last left, or was about
// to leave, in the lease file.
func (l *journalState) describes(f fingerprint) bool {
	return l.mark.Format != 0 && slices.Contains(l.mark.Lease[:], f)
}

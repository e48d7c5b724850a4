package leasefile

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"igdd/pkg/journal"
)

// statePath returns the path of the state file: beside the lease file that the path
// leads to. With an error it is empty.
func (s *Store) statePath() (string, error) {
	target, err := resolve(s.path)
	if err != nil {
		return "", err
	}
	return target + stateSuffix, nil
}

// keep makes entries outlive the process. The first Save, and one after the file was
// removed, may have to write it anew.
func (s *Store) keep(texts [][]byte, isFirst bool) error {
	var err error
	if !isFirst {
		err = s.journal.Append(texts...)
	}
	if isFirst || errors.Is(err, journal.ErrLost) {
		err = s.renewState(texts, isFirst)
	}
	if err == nil {
		return nil
	}
	s.lastErr = s.explained(err)
	s.schedule.by(s.checkClock())
	s.written(s.lastErr)
	return fmt.Errorf("leasefile: save %s: %w", s.path, s.lastErr)
}

// renewState writes the state file anew, unless the entries can be appended to it.
func (s *Store) renewState(texts [][]byte, isFirst bool) error {
	path, err := s.statePath()
	if err != nil {
		return err
	}
	if !isFirst {
		s.noteForeignFiles(path)
	} else if !s.journal.NeedsRewrite(path, s.size) {
		return s.journal.Append(texts...)
	}
	return s.rewriteState(path, s.beginRewrite())
}

// noteForeignFiles notes that another program has removed or replaced the state file,
// and perhaps the lease file.
func (s *Store) noteForeignFiles(path string) {
	s.log.Warn("another program removed or replaced the state file; writing it anew. A second daemon needs a lease file of its own", "path", path)
	f, info, err := journal.OpenRegular(strings.TrimSuffix(path, stateSuffix))
	if err != nil {
		return
	}
	defer f.Close()
	if found, err := fingerprintOf(f, info.Size()); err == nil {
		s.leaseFiles = append(s.leaseFiles, found)
	}
}

// beginRewrite takes a snapshot to rewrite the state file with.
func (s *Store) beginRewrite() *snapshot {
	s.journal.Begin()
	s.saved = s.service
	snap := s.snapshot()
	snap.rewrite = true
	return snap
}

// writeState makes the state file complete and durable, with a mark of the next
// lease file unless the present one is to stay.
func (s *Store) writeState(path string, snap *snapshot, leaseFileStays bool) error {
	if snap.rewrite {
		return s.rewriteState(path, snap)
	}
	if !leaseFileStays {
		if err := s.journal.Append(snap.mark()); err != nil {
			return err
		}
	}
	return s.journal.Sync()
}

// rewriteState writes a new state file and makes it durable.
func (s *Store) rewriteState(path string, snap *snapshot) error {
	return s.journal.Rewrite(path, snap.entries())
}

// mark returns the text of a mark.
func (snap *snapshot) mark() []byte {
	files := snap.leaseFiles
	if len(files) == 1 {
		files = []fingerprint{files[0], files[0]} // older versions read two
	}
	return snap.markOf(files)
}

// markOf returns the text of a mark of these lease files.
func (snap *snapshot) markOf(files []fingerprint) []byte {
	m := mark{Format: format, At: snap.base.unixAt(snap.start), Lease: files}
	text, _ := entry{Mark: &m}.encode() // cannot fail: it is short and has plain values only
	return text
}

// entries returns the texts of the entries of a new state file. The mark of the lease
// files comes last: a copy of the beginning alone belongs to none, whose lines count then.
func (snap *snapshot) entries() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if !yield(snap.markOf(nil)) || snap.service != (serviceRecord{}) && !yield(snap.service.text()) {
			return
		}
		for _, b := range snap.blocks {
			if !yield(blockText(b, snap.base)) {
				return
			}
		}
		for _, m := range snap.held {
			text, err := entry{Put: recordOf(m, snap.base)}.encode()
			if err == nil && !yield(text) {
				return
			}
		}
		yield(snap.mark())
	}
}

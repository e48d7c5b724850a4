package leasefile

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"igdd/pkg/portmap"
)

// snapshot is the state of the store at one time, to be written to the files.
type snapshot struct {
	now     clockReading
	held    []*portmap.Mapping
	epoch   []entry     // the entry of the epoch; none if there is none
	rewrite bool        // write a new state file
	lease   fingerprint // of the lease file on disk
}

// Checkpoint writes both files if they are not up to date: when it returns nil,
// everything that was saved before survives a power cut. It also updates the
// times in the files after the wall clock was set.
func (s *Store) Checkpoint() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	snap := s.takeSnapshot()
	if snap == nil {
		return nil
	}
	err := s.writeFiles(snap)
	s.finishWrite(snap, err)
	if err != nil {
		return fmt.Errorf("leasefile: save %s: %w", s.path, err)
	}
	return nil
}

// takeSnapshot takes a snapshot, or returns nil if the files are up to date.
func (s *Store) takeSnapshot() *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.journal != nil && !s.journal.clock.agreesWith(now) {
		s.stale = true
	}
	if !s.settled || s.due.IsZero() && !s.stale {
		return nil
	}
	snap := &snapshot{now: now, held: s.bySerial(), epoch: s.epochEntry(), lease: s.lease}
	snap.rewrite = s.stale || s.journal == nil || s.journal.needsCompaction()
	s.due, s.stale, s.copying, s.addedSince = time.Time{}, false, true, nil
	return snap
}

// bySerial returns the mappings in order of creation.
func (s *Store) bySerial() []*portmap.Mapping {
	held := make([]*portmap.Mapping, 0, len(s.held))
	for _, m := range s.held {
		held = append(held, m)
	}
	slices.SortFunc(held, func(a, b *portmap.Mapping) int { return cmp.Compare(a.Serial, b.Serial) })
	return held
}

// finishWrite records the result of writing a snapshot. The next one starts no
// earlier than this one took, so that a slow disk is idle at least half the
// time.
func (s *Store) finishWrite(snap *snapshot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copying, s.addedSince = false, nil
	now := time.Now()
	s.earliest = now.Add(max(s.delay, now.Sub(snap.now.mono)))
	if err != nil {
		s.stale = s.stale || snap.rewrite
		s.lastErr = err
		s.backOff(now)
		return
	}
	if s.retry > 0 {
		s.notice("leases are saved again")
	}
	s.lastErr, s.retry, s.reported = nil, 0, false
	if due := s.due; !due.IsZero() {
		s.due = time.Time{}
		s.writeBy(due)
	}
}

// backOff plans the next attempt after one that failed. The first failure is
// logged, unless Save has returned it.
func (s *Store) backOff(now time.Time) {
	if s.retry == 0 && !s.reported {
		s.log.Error("cannot save the leases; mappings work, but a restart would lose the latest. Will retry",
			"path", s.path, "err", s.lastErr)
	}
	s.retry = min(max(2*s.retry, firstRetry), lastRetry)
	s.setDue(now.Add(s.retry))
}

// writeFiles writes a snapshot to both files. First the state file durably gets
// the fingerprints of the present lease file and of the next one, so that after
// a crash either is recognized; then the lease file is replaced; at last the
// state file gets the fingerprint of the new one alone.
func (s *Store) writeFiles(snap *snapshot) error {
	target, err := resolve(s.path)
	if err != nil {
		return err
	}
	next, err := newPendingFile(s.disk, target, snap)
	if err != nil {
		return errors.Join(err, s.syncJournal())
	}
	defer next.file.Close()
	if err := s.logIntent(target+stateSuffix, next, snap); err != nil {
		s.disk.Remove(next.path)
		return err
	}
	if err := s.replaceLeaseFile(next, target); err != nil {
		return err
	}
	return s.appendMark(snap.now, next.fingerprint, next.fingerprint)
}

// appendMark appends a mark to the state file: the lease file is one of these
// two.
func (s *Store) appendMark(now clockReading, before, after fingerprint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := newMark(now, before, after)
	e.Mark.Behind = e.Mark.Behind || len(s.addedSince) > 0
	text, err := e.encode()
	if err != nil {
		return err
	}
	return s.journal.append(s.journal.frame(nil, text))
}

// pendingFile is the next lease file under its temporary name.
type pendingFile struct {
	fingerprint
	file file
	path string
}

// newPendingFile writes the next lease file, without syncing it.
func newPendingFile(d disk, target string, snap *snapshot) (*pendingFile, error) {
	if info, err := os.Lstat(target); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: name another lease file", target)
	}
	f, err := d.Create(target+tempSuffix, 0o644)
	if err != nil {
		return nil, err
	}
	content := newFingerprinter()
	w := bufio.NewWriterSize(io.MultiWriter(f, content), bufferSize)
	var line []byte
	for _, m := range snap.held {
		if m.External == 0 || !m.Inbound() {
			continue // the format has no pinholes and no outbound mappings
		}
		line = leaseOf(m, snap.now).append(line[:0])
		w.Write(line) // Flush reports the first error
	}
	if err := w.Flush(); err != nil {
		f.Close()
		d.Remove(target + tempSuffix)
		return nil, err
	}
	return &pendingFile{fingerprint: content.fingerprint(), file: f, path: target + tempSuffix}, nil
}

// logIntent makes the state file complete and durable, with a mark of the next
// lease file.
func (s *Store) logIntent(path string, next *pendingFile, snap *snapshot) error {
	s.mu.Lock()
	j := s.journal
	s.mu.Unlock()
	if snap.rewrite || j.path != path || !j.inPlace() {
		return s.rewriteJournal(path, next, snap)
	}
	if err := s.appendMark(snap.now, snap.lease, next.fingerprint); err != nil {
		return err
	}
	return j.file.Sync()
}

// rewriteJournal writes a new state file and makes it durable.
func (s *Store) rewriteJournal(path string, next *pendingFile, snap *snapshot) error {
	first := newMark(snap.now, snap.lease, next.fingerprint)
	j, err := newJournal(s.disk, path, append([]entry{first}, snap.epoch...), snap.held, snap.now)
	if err != nil {
		return err
	}
	s.mu.Lock()
	err = s.replaceJournal(j)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.disk.SyncDir(filepath.Dir(path))
}

// replaceJournal replaces the state file by j, to which it adds the entries
// that were saved while j was written.
func (s *Store) replaceJournal(j *journal) error {
	err := j.append(j.frame(nil, s.addedSince...))
	if err == nil {
		err = s.disk.Rename(j.path+tempSuffix, j.path)
	}
	if err != nil {
		j.discard(s.disk)
		return err
	}
	if s.journal != nil {
		s.journal.file.Close()
	}
	s.journal = j
	return nil
}

// createJournal writes the first state file; Save waits for it.
func (s *Store) createJournal(now clockReading) error {
	target, err := resolve(s.path)
	if err != nil {
		return err
	}
	first := append([]entry{newMark(now, s.lease, s.lease)}, s.epochEntry()...)
	j, err := newJournal(s.disk, target+stateSuffix, first, s.bySerial(), now)
	if err != nil {
		return err
	}
	if err := s.replaceJournal(j); err != nil {
		return err
	}
	s.stale = false
	return s.disk.SyncDir(filepath.Dir(j.path))
}

// replaceLeaseFile replaces the lease file by the next one and makes it
// durable.
func (s *Store) replaceLeaseFile(next *pendingFile, target string) error {
	err := next.file.Sync()
	if err == nil {
		err = s.disk.Rename(next.path, target)
	}
	if err != nil {
		s.disk.Remove(next.path)
		return err
	}
	s.mu.Lock()
	s.lease = next.fingerprint
	s.mu.Unlock()
	return s.disk.SyncDir(filepath.Dir(target))
}

// syncJournal makes the entries in the state file durable.
func (s *Store) syncJournal() error {
	s.mu.Lock()
	j := s.journal
	s.mu.Unlock()
	if j == nil {
		return nil
	}
	return j.file.Sync()
}

// finish writes the files for the last time and closes the state file.
func (s *Store) finish() {
	s.Checkpoint() // logs its errors
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		s.journal.file.Close()
		s.journal = nil
	}
}

package leasefile

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"igdd/pkg/portmap"
)

// snapshot is the state of the store at one time, to be written to the files.
type snapshot struct {
	start      time.Time
	base       clockReading
	held       []*portmap.Mapping // in order of creation
	blocks     []portmap.BlockRecord
	service    serviceRecord
	leaseFiles []fingerprint // the lease file on disk is one of these
	rewrite    bool          // write a new state file
}

// Checkpoint writes both files if they are not up to date: when it returns nil,
// everything that was saved before survives a power cut. It also updates the
// times in the files after the wall clock was set.
func (s *Store) Checkpoint() error {
	if s.path == "" {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	path, err := s.statePath()
	snap := s.takeSnapshot(path)
	if snap == nil {
		return nil
	}
	if err == nil {
		err = s.writeFiles(path, snap)
	}
	err = s.explained(err)
	s.finishWrite(snap, err)
	s.written(err)
	if err != nil {
		return fmt.Errorf("leasefile: save %s: %w", s.path, err)
	}
	return nil
}

// takeSnapshot takes a snapshot to be written, or returns nil if the files are up to
// date. The path is that of the state file, empty if none can be written.
func (s *Store) takeSnapshot(path string) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkClock()
	if !s.takenOver || s.schedule.due.IsZero() {
		return nil
	}
	s.schedule.begin()
	if path != "" && s.journal.NeedsRewrite(path, s.size) {
		return s.beginRewrite()
	}
	return s.snapshot()
}

// snapshot returns the state of the store.
func (s *Store) snapshot() *snapshot {
	snap := &snapshot{start: time.Now(), base: s.base, service: s.service, leaseFiles: slices.Clone(s.leaseFiles)}
	snap.held = make([]*portmap.Mapping, 0, len(s.held))
	for _, h := range s.held {
		snap.held = append(snap.held, h.mapping)
	}
	for _, id := range slices.Sorted(maps.Keys(s.blocks)) {
		snap.blocks = append(snap.blocks, s.blocks[id].BlockRecord)
	}
	slices.SortFunc(snap.held, func(a, b *portmap.Mapping) int { return cmp.Compare(a.Serial, b.Serial) })
	return snap
}

// finishWrite records the result of writing a snapshot. The first failure is logged,
// unless Save has returned one.
func (s *Store) finishWrite(snap *snapshot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && s.lastErr == nil:
		s.log.Error("cannot save the leases; mappings work, but a restart would lose the latest. Will retry",
			"path", s.path, "err", err)
	case err == nil && s.lastErr != nil:
		s.notice("leases are saved again")
	}
	s.lastErr = err
	s.schedule.end(snap.start, s.delay, err != nil)
}

// writeFiles writes a snapshot to both files. First the state file durably gets
// the fingerprints of the present lease file and of the next one, so that after
// a crash either is recognized; then the lease file is replaced; at last the
// state file gets the fingerprint of the new one alone.
func (s *Store) writeFiles(path string, snap *snapshot) error {
	target, content := strings.TrimSuffix(path, stateSuffix), newFingerprinter()
	snap.writeLeases(content) // never fails
	next := content.fingerprint()
	isCurrent := snap.hasLeaseFile(target, next)
	if !isCurrent {
		snap.leaseFiles = append(snap.leaseFiles, next)
	}
	if err := s.writeState(path, snap, isCurrent); err != nil || isCurrent {
		return err
	}
	return s.replaceLeaseFile(target, snap, next)
}

// hasLeaseFile reports whether the lease file on disk has this content, as far as its
// size tells if another program has changed it.
func (snap *snapshot) hasLeaseFile(path string, content fingerprint) bool {
	size := int64(0)
	if info, err := os.Lstat(path); err == nil {
		size = info.Size()
	}
	return size == content.Size && !slices.ContainsFunc(snap.leaseFiles, func(f fingerprint) bool { return f != content })
}

// writeLeases writes the lines of the lease file.
func (snap *snapshot) writeLeases(w io.Writer) error {
	var line []byte
	for _, m := range snap.held {
		if m.External == 0 || !m.Inbound() {
			continue // the format has no pinholes and no outbound mappings
		}
		line = leaseOf(m, snap.base).append(line[:0])
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// bufferSize is the size of the buffer between the store and the lease file, in bytes.
const bufferSize = 64 << 10

// replaceLeaseFile replaces the lease file by the next one and makes it
// durable. Until that has succeeded the file on disk may be any of those before.
func (s *Store) replaceLeaseFile(target string, snap *snapshot, next fingerprint) error {
	if err := s.createLeaseFile(target, snap); err != nil {
		s.disk.Remove(target + tempSuffix)
		return err
	}
	s.setLeaseFiles(snap.leaseFiles)
	if err := s.disk.SyncDir(filepath.Dir(target)); err != nil {
		return err
	}
	snap.leaseFiles = []fingerprint{next}
	s.setLeaseFiles(snap.leaseFiles)
	return s.journal.Append(snap.mark())
}

// createLeaseFile writes a new lease file and gives it its name.
func (s *Store) createLeaseFile(target string, snap *snapshot) error {
	if info, err := os.Lstat(target); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file: name another lease file", target)
	}
	f, err := s.disk.Create(target+tempSuffix, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, bufferSize)
	err = snap.writeLeases(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.disk.Rename(target+tempSuffix, target)
	}
	return err
}

// maxLeaseFiles bounds how many lease files a mark names, while none can be made
// durable.
const maxLeaseFiles = 8

// setLeaseFiles sets which files the lease file on disk may be.
func (s *Store) setLeaseFiles(files []fingerprint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaseFiles = files[max(0, len(files)-maxLeaseFiles):]
}

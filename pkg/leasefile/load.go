package leasefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"igdd/pkg/portmap"
)

// namedExpired is the number of expired leases that are logged one by one.
const namedExpired = 10

// Load returns the saved mappings in order of creation; the files stay as they
// are until the first Save.
//
// The state file decides as long as the lease file is as this package left it.
// If not, another program wrote it: miniupnpd after a downgrade, or the
// administrator's editor. Then its lines decide which port mappings exist, and
// the state file adds what does not fit six fields.
//
// With an error Load returns what could be read nevertheless.
func (s *Store) Load() ([]*portmap.Mapping, error) {
	if s.path == "" {
		return nil, nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := resolve(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no directory, so no files; writing reports it
	}
	if err != nil {
		return nil, fmt.Errorf("leasefile: load %s: %w", s.path, err)
	}
	for _, name := range []string{target, target + stateSuffix} {
		s.disk.Remove(name + tempSuffix) // left behind by a crash, if it exists
	}
	js, damage := openJournal(target + stateSuffix)
	file, unread := openLeases(target, js)
	mappings := s.choose(target, js, file, unread == nil)
	if err := errors.Join(damage, unread); err != nil {
		return mappings, fmt.Errorf("leasefile: load %s: %w", s.path, err)
	}
	return mappings, nil
}

// openJournal reads the state file, if there is one.
func openJournal(path string) (*journalState, error) {
	f, _, err := openRegular(path, syscall.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return &journalState{}, nil
	}
	if err != nil {
		return &journalState{found: true, damaged: err}, err
	}
	defer f.Close()
	return readJournal(f), nil
}

// openLeases reads the lease file, if there is one.
func openLeases(path string, js *journalState) (leaseFile, error) {
	f, info, err := openRegular(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return leaseFile{}, nil
	}
	if err != nil {
		return leaseFile{}, err
	}
	defer f.Close()
	file, err := readLeases(f, info.Size(), js)
	file.modified = info.ModTime().UnixMilli()
	return file, err
}

// choose decides which file counts, and returns its mappings.
func (s *Store) choose(target string, js *journalState, file leaseFile, readable bool) []*portmap.Mapping {
	if js.damaged != nil {
		s.log.Warn("state file is damaged; unreadable entries are lost", "path", target+stateSuffix, "err", js.damaged)
	}
	// The time never goes back: a board may start in 1970 and get the time
	// later.
	now := s.clock()
	now.unix = max(now.unix, js.mark.At)
	records, ours := js.live(), js.describes(file.fingerprint)
	if !ours && readable {
		now.unix = max(now.unix, file.modified)
		records = s.adopt(target, js, file, now)
	}
	s.notBefore, s.lease = now, file.fingerprint
	s.complete = ours && readable && js.damaged == nil
	s.epoch = js.epoch
	mappings := s.mappings(records, now)
	if ours && js.intact() && now.agreesWith(s.now()) && s.resumeJournal(target+stateSuffix, js) == nil {
		s.setLoaded(records, mappings)
		s.leaseFileBehind, s.savedEpoch = js.leaseFileBehind, js.epoch
	} else {
		s.stale = js.found || file.Size > 0
	}
	return mappings
}

// adopt returns the records for a lease file that another program wrote.
func (s *Store) adopt(target string, js *journalState, file leaseFile, now clockReading) []*record {
	records, unknown := js.adopt(file.leases, now)
	log := s.log.With("path", target, "leases", len(file.leases))
	switch skipped := file.skipped; {
	case skipped.lines > 0:
		log.Warn("skipped invalid lines in the lease file", "lines", skipped.lines, "first", skipped.first, "reason", skipped.reason)
	case js.found:
		log.Info("another program changed the lease file; using its lines")
	}
	if unknown > 0 {
		log.Warn("skipped leases whose restrictions are not in the state file", "count", unknown)
	}
	return records
}

// mappings converts records to mappings, without the claims that have expired.
// It clears complete if one is invalid.
func (s *Store) mappings(records []*record, now clockReading) []*portmap.Mapping {
	var mappings []*portmap.Mapping
	expired := 0
	for _, r := range records {
		m, err := r.mapping(now)
		if err != nil {
			s.log.Warn("skipped an invalid stored mapping", "mapping", r.keyRecord, "err", err)
			s.complete = false
			continue
		}
		m.Claims = slices.DeleteFunc(m.Claims, func(c portmap.Claim) bool {
			return !c.Expires.IsZero() && !c.Expires.After(now.mono)
		})
		if len(m.Claims) == 0 {
			if expired++; expired <= namedExpired {
				s.notice(fmt.Sprintf("already expired lease in lease file (%d=>%v %v)", m.External, m.Internal, m.Protocol))
			}
			continue
		}
		m.Serial = uint64(len(mappings) + 1)
		mappings = append(mappings, m)
	}
	if more := expired - namedExpired; more > 0 {
		s.notice(fmt.Sprintf("%d more expired leases in lease file", more))
	}
	return mappings
}

// notice logs at miniupnpd's level LOG_NOTICE.
func (s *Store) notice(text string) {
	s.log.Log(context.Background(), portmap.LevelNotice, text, "path", s.path)
}

// resumeJournal opens the state file that js was read from, to append to it.
func (s *Store) resumeJournal(path string, js *journalState) error {
	f, err := s.disk.Append(path)
	if err != nil {
		return err
	}
	s.journal = &journal{file: f, path: path, seed: js.seed, size: js.size, compactSize: js.compactSize, clock: s.notBefore}
	return nil
}

// setLoaded records the content of the state file, so that the first Save
// writes only the difference.
func (s *Store) setLoaded(records []*record, mappings []*portmap.Mapping) {
	s.loaded = make(map[portmap.Key]*portmap.Mapping, len(records))
	for _, r := range records {
		if k, err := r.portmapKey(); err == nil {
			s.loaded[k] = nil
		}
	}
	for _, m := range mappings {
		s.loaded[m.Key] = m
	}
}

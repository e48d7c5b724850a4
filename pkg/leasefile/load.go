package leasefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"igdd/pkg/journal"
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
	st, unopened := readState(target + stateSuffix)
	file, unread := openLeases(target, st)
	mappings := s.choose(target, st, file, unread == nil)
	if err := errors.Join(unopened, unread); err != nil {
		return mappings, fmt.Errorf("leasefile: load %s: %w", s.path, err)
	}
	return mappings, nil
}

// openLeases reads the lease file, if there is one.
func openLeases(path string, st *state) (leaseFile, error) {
	f, info, err := journal.OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return leaseFile{}, nil
	}
	if err != nil {
		return leaseFile{}, err
	}
	defer f.Close()
	file, err := readLeases(f, info.Size(), st)
	file.modified = info.ModTime().UnixMilli()
	return file, err
}

// choose decides which file counts, and returns its mappings.
func (s *Store) choose(target string, st *state, file leaseFile, readable bool) []*portmap.Mapping {
	if st.Damage != nil {
		s.log.Warn("state file is damaged; unreadable entries are lost", "path", target+stateSuffix, "err", st.Damage)
	}
	now := s.clock()
	s.base = now.resumed(st.mark.At)
	records, ours := st.live(), st.describes(file.fingerprint)
	switch {
	case !ours && readable:
		s.base = now.resumed(max(st.mark.At, file.modified))
		records = s.adopt(target, st, file)
	case st.Damage != nil:
		records = st.listed(file.leases)
	}
	s.leaseFiles = []fingerprint{file.fingerprint}
	s.complete = ours && readable && st.Damage == nil
	s.service = st.service
	s.takeBlocks(st)
	mappings := s.mappings(records)
	if ours && s.journal.Resume(target+stateSuffix, st.Content) == nil {
		s.setLoaded(st, mappings)
	}
	return mappings
}

// adopt returns the records for a lease file that another program wrote.
func (s *Store) adopt(target string, st *state, file leaseFile) []*record {
	records, unknown := st.adopt(file, s.base)
	log := s.log.With("path", target, "leases", len(file.leases))
	switch skipped := file.skipped; {
	case skipped.lines > 0:
		log.Warn("skipped invalid lines in the lease file", "lines", skipped.lines, "first", skipped.first, "reason", skipped.reason)
	case st.Found:
		log.Info("another program changed the lease file; using its lines")
	}
	switch {
	case unknown > 0 && st.Damage != nil:
		log.Warn("skipped leases that clients may have restricted, which the damaged state file does not tell", "count", unknown)
	case unknown > 0:
		log.Warn("skipped leases whose restrictions are not in the state file", "count", unknown)
	}
	return records
}

// mappings converts records to mappings, without the claims that have expired.
// It clears complete if one is invalid.
func (s *Store) mappings(records []*record) []*portmap.Mapping {
	var mappings []*portmap.Mapping
	expired := 0
	for _, r := range records {
		m, err := r.mapping(s.base)
		if err != nil {
			s.log.Warn("skipped an invalid stored mapping", "mapping", r.keyRecord, "err", err)
			s.complete = false
			continue
		}
		m.Claims = slices.DeleteFunc(m.Claims, func(c portmap.Claim) bool {
			return !c.Expires.IsZero() && !c.Expires.After(s.base.mono)
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

// setLoaded records the content of the state file, so that the first Save writes only
// the difference.
func (s *Store) setLoaded(st *state, mappings []*portmap.Mapping) {
	s.saved = st.service
	s.loaded = make(map[portmap.Key]heldMapping, len(st.sizes))
	for k, size := range st.sizes {
		s.loaded[k] = heldMapping{size: size}
		s.size += size
	}
	for _, m := range mappings {
		s.loaded[m.Key] = heldMapping{m, s.loaded[m.Key].size}
	}
}

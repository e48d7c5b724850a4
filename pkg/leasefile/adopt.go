package leasefile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"igdd/pkg/journal"
	"igdd/pkg/portmap"
)

// leaseFile is the content of the lease file. Its lines are parsed only if
// another program wrote them.
type leaseFile struct {
	fingerprint
	modified int64 // Unix milliseconds
	leases   []lease
	torn     portmap.Key // of the last line if it has no end, which may lack the mark of a restricted mapping
	skipped  skippedLines
}

// skippedLines summarizes the lines that are not leases.
type skippedLines struct {
	lines  int
	first  int   // number of the first one
	reason error // of the first one
}

func (s *skippedLines) add(number int, reason error) {
	if s.lines++; s.lines == 1 {
		s.first, s.reason = number, reason
	}
}

// readLeases reads the lease file, and parses it unless it is as the writer of
// a whole state file left it.
func readLeases(f *os.File, size int64, st *state) (leaseFile, error) {
	found, err := fingerprintOf(f, size)
	file := leaseFile{fingerprint: found}
	if err == nil && (!st.describes(found) || st.Damage != nil) {
		err = file.parse(f)
	}
	return file, err
}

// parse parses the lines. Of two lines for one port the first one counts, or
// the second one if both have the same target: it is a renewal.
func (f *leaseFile) parse(r io.Reader) error {
	seen := make(map[portmap.Key]int)
	in := journal.NewLines(io.LimitReader(r, maxLeaseFile), maxLine+1)
	for in.Next() {
		line := bytes.TrimSpace(in.Line)
		if !in.TooLong && (len(line) == 0 || line[0] == '#') {
			continue
		}
		l, err := parseLease(line)
		if in.Truncated {
			f.torn = l.key()
		}
		i, known := seen[l.key()]
		switch {
		case in.TooLong:
			f.skipped.add(in.Number, errTooLong)
		case err != nil:
			f.skipped.add(in.Number, err)
		case !known:
			seen[l.key()] = len(f.leases)
			f.leases = append(f.leases, l)
		case f.leases[i].internal == l.internal:
			f.leases[i] = l
		default:
			f.skipped.add(in.Number, errTaken)
		}
	}
	return in.Err
}

// adopt returns the records for a lease file that another program wrote: its
// lines decide which port mappings exist, the state file adds what does not fit
// six fields. Pinholes and outbound mappings are in the state file only. Unknown
// counts the lines that are skipped because their remote hosts are restricted,
// or may be since the state file is damaged, and the state file does not have how.
func (st *state) adopt(file leaseFile, now clockReading) (adopted []*record, unknown int) {
	for _, line := range file.leases {
		r := st.recordFor(line)
		switch {
		case r != nil:
			r = r.ending(line.expires * 1000)
		case st.Damage != nil || line.restricted || st.Found && line.key() == file.torn:
			unknown++
			continue
		default:
			r = recordFromLine(line, now)
		}
		adopted = append(adopted, r)
	}
	for _, r := range st.live() {
		if r.Pinhole.IsValid() || !r.inbound() {
			adopted = append(adopted, r)
		}
	}
	return adopted, unknown
}

// listed returns the records of a damaged state file without those that the lines of its
// lease file contradict: a later entry about them is lost.
func (st *state) listed(leases []lease) []*record {
	isListed := make(map[*record]bool, len(leases))
	for _, line := range leases {
		isListed[st.recordFor(line)] = true
	}
	return slices.DeleteFunc(st.live(), func(r *record) bool {
		return r.inbound() && !r.Pinhole.IsValid() && !isListed[r]
	})
}

// recordFor returns the record of the mapping in a line, or nil. One that lets every
// remote host in while the line does not is older than the line: a client has restricted
// the mapping since.
func (st *state) recordFor(line lease) *record {
	i, held := st.byKey[line.key()]
	if !held {
		return nil
	}
	r := st.records[i]
	if r.Internal != line.internal || !r.inbound() || line.restricted && !r.restricted() {
		return nil
	}
	return r
}

// ending returns r with another end. A claim that ends before the others keeps
// its end, and one that lets every remote host in beside restricted ones gets no later
// one: the line does not say which of them was renewed.
func (r *record) ending(expires int64) *record {
	last := int64(1) // before any end
	for _, cr := range r.Claims {
		last = later(last, cr.Expires)
	}
	if (last+999)/1000*1000 == expires {
		return r // the line has it rounded up to seconds
	}
	n := *r
	n.Claims = make([]claimRecord, 0, len(r.Claims))
	for _, cr := range r.Claims {
		isLater := later(cr.Expires, expires) == expires
		if !isLater || cr.Expires == last && (!r.restricted() || cr.restricted()) {
			cr.Expires = expires
		}
		n.Claims = append(n.Claims, cr)
	}
	return &n
}

// later returns the later of two ends; 0 means never.
func later(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// recordFromLine returns the record of a line that is not in the state file.
func recordFromLine(line lease, now clockReading) *record {
	cr := claimRecord{Origin: portmap.UPnP.String(), Expires: line.expires * 1000, Description: line.text}
	switch {
	case strings.HasPrefix(line.text, "NAT-PMP "):
		cr.Origin = portmap.NATPMP.String()
	case strings.HasPrefix(line.text, "PCP MAP "):
		// miniupnpd's description contains the nonce (MUP-132), which is
		// secret.
		cr.Origin = portmap.PCP.String()
		cr.Description = fmt.Sprintf("PCP MAP %d %v", line.external, line.protocol)
	}
	return &record{keyRecord: keyRecordOf(line.key()), Internal: line.internal, Created: now.unix, Claims: []claimRecord{cr}}
}

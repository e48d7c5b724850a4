package leasefile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"igdd/pkg/portmap"
)

// leaseFile is what the lease file says. The lines are read only if somebody
// else wrote them.
type leaseFile struct {
	fingerprint
	modified int64 // Unix milliseconds
	leases   []lease
	junk     skippedLines
}

// skippedLines sums up the lines that are not leases.
type skippedLines struct {
	lines  int
	first  int // the first one's number
	reason error
}

func (j *skippedLines) add(number int, reason error) {
	if j.lines++; j.lines == 1 {
		j.first, j.reason = number, reason
	}
}

// readLeases reads the lease file, unless it is what the ledger's writer left.
func readLeases(f *os.File, size int64, l *journalState) (leaseFile, error) {
	found, err := fingerprintOf(f, size)
	file := leaseFile{fingerprint: found}
	if err == nil && !l.describes(found) {
		err = file.parse(f)
	}
	return file, err
}

// parse reads the lines. Of two for one port the first stands; if both lead to
// the same place the second is its renewal.
func (f *leaseFile) parse(r io.Reader) error {
	seen := make(map[portmap.Key]int)
	in := newLines(io.LimitReader(r, maxLeaseFile), maxLine+1)
	for in.next() {
		line := bytes.TrimSpace(in.line)
		if !in.tooLong && (len(line) == 0 || line[0] == '#') {
			continue
		}
		l, err := parseLease(line)
		i, known := seen[l.key()]
		switch {
		case in.tooLong:
			f.junk.add(in.number, errTooLong)
		case err != nil:
			f.junk.add(in.number, err)
		case !known:
			seen[l.key()] = len(f.leases)
			f.leases = append(f.leases, l)
		case f.leases[i].internal == l.internal:
			f.leases[i] = l
		default:
			f.junk.add(in.number, errTaken)
		}
	}
	return in.err
}

// adopt returns the records of a lease file that somebody else wrote: its
// lines decide what exists, the ledger adds what six fields cannot hold.
// Pinholes and outbound mappings stand in the ledger alone. Unknown counts the lines left out
// because the ledger is damaged, so that what restricts them may be lost.
func (l *journalState) adopt(leases []lease, now clockReading) (adopted []*record, unknown int) {
	for _, line := range leases {
		r := l.recordFor(line)
		switch {
		case r != nil:
			r = r.ending(line.expires * 1000)
		case l.damaged != nil:
			unknown++
			continue
		default:
			r = recordFromLine(line, now)
		}
		adopted = append(adopted, r)
	}
	for _, r := range l.live() {
		if r.Pinhole.IsValid() || !r.inbound() {
			adopted = append(adopted, r)
		}
	}
	return adopted, unknown
}

// recordFor returns the record of the mapping that the line names.
func (l *journalState) recordFor(line lease) *record {
	i, held := l.at[line.key()]
	if !held || l.records[i].Internal != line.internal || !l.records[i].inbound() {
		return nil
	}
	return l.records[i]
}

// ending returns r with another end. A claim that ends before the others keeps
// its end: it may be the one that opens the mapping to everybody.
func (r *record) ending(expires int64) *record {
	last := int64(1) // before any end
	for _, h := range r.Claims {
		last = later(last, h.Expires)
	}
	if (last+999)/1000*1000 == expires {
		return r // the line shows it rounded up
	}
	n := *r
	n.Claims = make([]claimRecord, 0, len(r.Claims))
	for _, h := range r.Claims {
		if h.Expires == last || later(h.Expires, expires) == h.Expires {
			h.Expires = expires
		}
		n.Claims = append(n.Claims, h)
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

// recordFromLine returns the record of a line of which nothing else is known.
func recordFromLine(line lease, now clockReading) *record {
	h := claimRecord{Origin: portmap.UPnP.String(), Expires: line.expires * 1000, Description: line.text}
	switch {
	case strings.HasPrefix(line.text, "NAT-PMP "):
		h.Origin = portmap.NATPMP.String()
	case strings.HasPrefix(line.text, "PCP MAP "):
		// miniupnpd writes the nonce there (MUP-132), which is for nobody to see.
		h.Origin = portmap.PCP.String()
		h.Description = fmt.Sprintf("PCP MAP %d %v", line.external, line.protocol)
	}
	return &record{keyRecord: keyRecordOf(line.key()), Internal: line.internal, Created: now.unix, Claims: []claimRecord{h}}
}

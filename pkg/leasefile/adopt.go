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
	skipped  skippedLines
}

// skippedLines sums up the lines that are not leases.
type skippedLines struct {
	lines  int
	first  int // the first one's number
	reason error
}

func (skipped *skippedLines) add(number int, reason error) {
	if skipped.lines++; skipped.lines == 1 {
		skipped.first, skipped.reason = number, reason
	}
}

// readLeases reads the lease file, unless it is what the ledger's writer left.
func readLeases(f *os.File, size int64, js *journalState) (leaseFile, error) {
	found, err := fingerprintOf(f, size)
	file := leaseFile{fingerprint: found}
	if err == nil && !js.describes(found) {
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
			f.skipped.add(in.number, errTooLong)
		case err != nil:
			f.skipped.add(in.number, err)
		case !known:
			seen[l.key()] = len(f.leases)
			f.leases = append(f.leases, l)
		case f.leases[i].internal == l.internal:
			f.leases[i] = l
		default:
			f.skipped.add(in.number, errTaken)
		}
	}
	return in.err
}

// adopt returns the records of a lease file that somebody else wrote: its
// lines decide what exists, the ledger adds what six fields cannot hold.
// Pinholes and outbound mappings stand in the ledger alone. Unknown counts the lines left out
// because the ledger is damaged, so that what restricts them may be lost.
func (js *journalState) adopt(leases []lease, now clockReading) (adopted []*record, unknown int) {
	for _, line := range leases {
		r := js.recordFor(line)
		switch {
		case r != nil:
			r = r.ending(line.expires * 1000)
		case js.damaged != nil:
			unknown++
			continue
		default:
			r = recordFromLine(line, now)
		}
		adopted = append(adopted, r)
	}
	for _, r := range js.live() {
		if r.Pinhole.IsValid() || !r.inbound() {
			adopted = append(adopted, r)
		}
	}
	return adopted, unknown
}

// recordFor returns the record of the mapping that the line names.
func (js *journalState) recordFor(line lease) *record {
	i, held := js.byKey[line.key()]
	if !held || js.records[i].Internal != line.internal || !js.records[i].inbound() {
		return nil
	}
	return js.records[i]
}

// ending returns r with another end. A claim that ends before the others keeps
// its end: it may be the one that opens the mapping to everybody.
func (r *record) ending(expires int64) *record {
	last := int64(1) // before any end
	for _, cr := range r.Claims {
		last = later(last, cr.Expires)
	}
	if (last+999)/1000*1000 == expires {
		return r // the line shows it rounded up
	}
	n := *r
	n.Claims = make([]claimRecord, 0, len(r.Claims))
	for _, cr := range r.Claims {
		if cr.Expires == last || later(cr.Expires, expires) == cr.Expires {
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

// recordFromLine returns the record of a line of which nothing else is known.
func recordFromLine(line lease, now clockReading) *record {
	cr := claimRecord{Origin: portmap.UPnP.String(), Expires: line.expires * 1000, Description: line.text}
	switch {
	case strings.HasPrefix(line.text, "NAT-PMP "):
		cr.Origin = portmap.NATPMP.String()
	case strings.HasPrefix(line.text, "PCP MAP "):
		// miniupnpd writes the nonce there (MUP-132), which is for nobody to see.
		cr.Origin = portmap.PCP.String()
		cr.Description = fmt.Sprintf("PCP MAP %d %v", line.external, line.protocol)
	}
	return &record{keyRecord: keyRecordOf(line.key()), Internal: line.internal, Created: now.unix, Claims: []claimRecord{cr}}
}

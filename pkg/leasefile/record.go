package leasefile

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"igdd/pkg/portmap"
)

// maxText bounds a description in octets. Servers cut theirs at 256; miniupnpd
// keeps up to 1,024 (MUP-134).
const maxText = 1024

// entry is one line of the private file; one of its fields is set.
type entry struct {
	Mark *mark      `json:"mark,omitempty"`
	Put  *record    `json:"put,omitempty"`
	Drop *keyRecord `json:"drop,omitempty"`
}

// mark is the first line of the private file, and stands there again before
// and after each change of the lease file.
type mark struct {
	Format int   `json:"format"`
	At     int64 `json:"at"` // Unix milliseconds
	// Lease is what the lease file holds: the one before a change or the other
	// after it.
	Lease [2]fingerprint `json:"lease"`
	// Behind is set if the lease file may lack some of what stands before.
	Behind bool `json:"behind,omitzero"`
}

// format is the version of the private file's grammar.
const format = 1

// newMark returns the entry that says what the lease file holds.
func newMark(now clockReading, before, after fingerprint) entry {
	return entry{Mark: &mark{Format: format, At: now.unix, Lease: [2]fingerprint{before, after}, Behind: before != after}}
}

// keyRecord is a portmap.Key: what the outside dials.
type keyRecord struct {
	Protocol string         `json:"proto"`
	External uint16         `json:"ext,omitzero"`
	Pinhole  netip.AddrPort `json:"pinhole,omitzero"`
}

// record is a mapping with all that six fields cannot hold. Times are Unix
// milliseconds.
type record struct {
	keyRecord
	Internal netip.AddrPort `json:"int,omitzero"` // that of a pinhole is the pinhole
	Created  int64          `json:"made"`
	Hardware string         `json:"mac,omitzero"` // of the host; empty: not known
	Claims   []claimRecord  `json:"claims"`
}

// claimRecord is a portmap.Claim.
type claimRecord struct {
	Origin      string   `json:"by"`
	Expires     int64    `json:"until,omitzero"` // 0: never
	Nonce       string   `json:"nonce,omitzero"` // hexadecimal; absent: not bound
	Filters     []filter `json:"from,omitempty"`
	Description string   `json:"text,omitzero"`
	Disabled    bool     `json:"off,omitzero"`
	ID          uint16   `json:"id,omitzero"`
	// Remote is the remote peer of an outbound claim.
	Remote netip.AddrPort `json:"to,omitzero"`
}

// inbound reports whether the record is about letting others in.
func (r *record) inbound() bool {
	return slices.ContainsFunc(r.Claims, func(cr claimRecord) bool { return !cr.Remote.IsValid() })
}

// filter is a portmap.Filter.
type filter struct {
	Prefix netip.Prefix `json:"net"`
	Port   uint16       `json:"port,omitzero"`
}

// keyRecordOf returns k as it is written.
func keyRecordOf(k portmap.Key) keyRecord {
	return keyRecord{Protocol: k.Protocol.String(), External: k.External, Pinhole: k.Pinhole}
}

// recordOf returns m as it is written.
func recordOf(m *portmap.Mapping, now clockReading) *record {
	r := &record{keyRecord: keyRecordOf(m.Key), Created: now.unixAt(m.Created), Hardware: m.Host.Hardware, Claims: make([]claimRecord, len(m.Claims))}
	if !m.Pinhole.IsValid() {
		r.Internal = m.Internal
	}
	for i, c := range m.Claims {
		r.Claims[i] = claimRecordOf(c, now)
	}
	return r
}

func claimRecordOf(c portmap.Claim, now clockReading) claimRecord {
	cr := claimRecord{Origin: c.Origin.String(), Description: truncate(c.Description, maxText), Disabled: c.Disabled, ID: c.ID, Remote: c.Remote}
	if !c.Expires.IsZero() {
		cr.Expires = max(now.unixAt(c.Expires), 1)
	}
	if c.Bound {
		cr.Nonce = hex.EncodeToString(c.Nonce[:])
	}
	for _, f := range c.Filters {
		cr.Filters = append(cr.Filters, filter(f))
	}
	return cr
}

// portmapKey returns the door as the table knows it.
func (d keyRecord) portmapKey() (portmap.Key, error) {
	p, err := parseProtocol(d.Protocol)
	if err != nil {
		return portmap.Key{}, err
	}
	if (d.External == 0) != d.Pinhole.IsValid() {
		return portmap.Key{}, errPort
	}
	if a := d.Pinhole; a.IsValid() && (!a.Addr().Is6() || !isTarget(a)) {
		return portmap.Key{}, fmt.Errorf("pinhole %v is not an IPv6 address and port", a)
	}
	return portmap.Key{Protocol: p, External: d.External, Pinhole: d.Pinhole}, nil
}

// isTarget reports whether packets can be sent to a.
func isTarget(a netip.AddrPort) bool {
	return a.Port() != 0 && a.Addr().Zone() == "" && !a.Addr().Is4In6()
}

// mapping returns the record as the table knows it, its times reckoned from
// now. Claims that have ended are part of it.
func (r *record) mapping(now clockReading) (*portmap.Mapping, error) {
	k, err := r.portmapKey()
	if err != nil {
		return nil, err
	}
	m := &portmap.Mapping{Key: k, Internal: r.Internal, Created: now.timeAt(r.Created)}
	if _, err := net.ParseMAC(r.Hardware); err == nil {
		m.Host.Hardware = r.Hardware
	}
	switch {
	case k.Pinhole.IsValid():
		m.Internal = k.Pinhole
	case !r.Internal.Addr().Is4() || !isTarget(r.Internal):
		return nil, errAddress
	}
	if len(r.Claims) == 0 {
		return nil, errors.New("nobody claims the mapping")
	}
	for _, cr := range r.Claims {
		c, err := cr.claim(now)
		if err != nil {
			return nil, err
		}
		m.Claims = append(m.Claims, c)
	}
	return m, nil
}

func (cr claimRecord) claim(now clockReading) (portmap.Claim, error) {
	c := portmap.Claim{Description: cr.Description, Disabled: cr.Disabled, ID: cr.ID, Remote: cr.Remote}
	var err error
	if c.Origin, err = parseOrigin(cr.Origin); err != nil {
		return c, err
	}
	if cr.Expires != 0 {
		c.Expires = now.timeAt(cr.Expires)
	}
	if cr.Nonce != "" {
		n, err := hex.DecodeString(cr.Nonce)
		if err != nil || len(n) != len(c.Nonce) {
			return c, errors.New("nonce is not 12 octets")
		}
		c.Nonce, c.Bound = portmap.Nonce(n), true
	}
	for _, f := range cr.Filters {
		if !f.Prefix.IsValid() {
			return c, errors.New("filter has no network")
		}
		c.Filters = append(c.Filters, portmap.Filter(f))
	}
	return c, nil
}

func parseOrigin(s string) (portmap.Origin, error) {
	for _, o := range []portmap.Origin{portmap.NATPMP, portmap.PCP, portmap.UPnP} {
		if s == o.String() {
			return o, nil
		}
	}
	return 0, fmt.Errorf("origin %q is not known", s)
}

// encode returns the entry as JSON text without a newline.
func (e entry) encode() ([]byte, error) {
	text, err := json.Marshal(e)
	if err == nil && frameHead+len(text) >= maxEntry {
		err = fmt.Errorf("its record has %d octets, more than %d", len(text), maxEntry)
	}
	return text, err
}

// decodeEntry reads JSON text and checks that the entry says one thing.
func decodeEntry(text []byte) (entry, error) {
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return entry{}, err
	}
	said := 0
	for _, set := range []bool{e.Mark != nil, e.Put != nil, e.Drop != nil} {
		if set {
			said++
		}
	}
	if said != 1 {
		return entry{}, fmt.Errorf("entry says %d things, not one", said)
	}
	return e, nil
}

package leasefile

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"igdd/pkg/journal"
	"igdd/pkg/portmap"
)

// maxText bounds a description in bytes. Those of clients are at most 256 long
// (portmap.StoredDescription); miniupnpd keeps up to 1,024 (MUP-134).
const maxText = 1024

// entry is one line of the state file; one of its fields is set.
type entry struct {
	Mark    *mark          `json:"mark,omitempty"`
	Service *serviceRecord `json:"epoch,omitempty"`
	Put     *record        `json:"put,omitempty"`
	Drop    *keyRecord     `json:"drop,omitempty"`
	Block   *blockRecord   `json:"block,omitempty"`
	Unblock int            `json:"unblock,omitzero"`
}

// mark identifies the lease file that belongs to the state file. It is the
// first line of the state file and is appended before each change of the lease file.
type mark struct {
	Format int   `json:"format"`
	At     int64 `json:"at"` // Unix milliseconds
	// Lease has the fingerprints of the lease files before and after a change: it is
	// one of them.
	Lease []fingerprint `json:"lease"`
}

// format is the version of the state file's format.
const format = 1

// keyRecord is a portmap.Key as JSON.
type keyRecord struct {
	Protocol string         `json:"proto"`
	External uint16         `json:"ext,omitzero"`
	Pinhole  netip.AddrPort `json:"pinhole,omitzero"`
}

// record is a portmap.Mapping as JSON. Times are Unix milliseconds.
type record struct {
	keyRecord
	Internal netip.AddrPort `json:"int,omitzero"` // absent for a pinhole: it is the same
	Created  int64          `json:"made"`
	Hardware string         `json:"mac,omitzero"` // of the host; absent: not known
	Dormant  bool           `json:"dormant,omitzero"`
	Exact    bool           `json:"exact,omitzero"` // a client insists on the external port
	Claims   []claimRecord  `json:"claims"`
}

// claimRecord is a portmap.Claim as JSON.
type claimRecord struct {
	Origin      string   `json:"by"`
	Expires     int64    `json:"until,omitzero"` // 0: never
	Nonce       string   `json:"nonce,omitzero"` // hexadecimal; absent: none, or all zero
	Rebind      int64    `json:"rebind,omitzero"`
	Filters     []filter `json:"from,omitempty"`
	Description string   `json:"text,omitzero"`
	Disabled    bool     `json:"off,omitzero"`
	ID          uint16   `json:"id,omitzero"`
	// Remote is the remote peer of an outbound claim.
	Remote netip.AddrPort `json:"to,omitzero"`
}

// inbound reports whether the record has an inbound claim.
func (r *record) inbound() bool {
	return slices.ContainsFunc(r.Claims, func(cr claimRecord) bool { return !cr.Remote.IsValid() })
}

// restricted reports whether the record's line is marked as restricted.
func (r *record) restricted() bool {
	return slices.ContainsFunc(r.Claims, claimRecord.restricted)
}

// restricted reports whether isRestricted holds for the claim.
func (cr claimRecord) restricted() bool {
	return !cr.Remote.IsValid() && (cr.Disabled || len(cr.Filters) > 0)
}

// filter is a portmap.Filter as JSON.
type filter struct {
	Prefix netip.Prefix `json:"net"`
	Port   uint16       `json:"port,omitzero"`
}

// keyRecordOf returns the record of k.
func keyRecordOf(k portmap.Key) keyRecord {
	return keyRecord{Protocol: k.Protocol.String(), External: k.External, Pinhole: k.Pinhole}
}

// recordOf returns the record of m.
func recordOf(m *portmap.Mapping, now clockReading) *record {
	r := &record{
		keyRecord: keyRecordOf(m.Key), Created: now.unixAt(m.Created), Hardware: m.Host.Hardware, Dormant: m.Dormant, Exact: m.Forwarding.Exact,
		Claims: make([]claimRecord, len(m.Claims)),
	}
	if !m.Pinhole.IsValid() {
		r.Internal = m.Internal
	}
	for i, c := range m.Claims {
		r.Claims[i] = claimRecordOf(c, now)
	}
	return r
}

// claimRecordOf returns the record of c.
func claimRecordOf(c portmap.Claim, now clockReading) claimRecord {
	cr := claimRecord{Origin: c.Origin.String(), Description: truncate(c.Description, maxText), Disabled: c.Disabled, ID: c.ID, Remote: c.Remote}
	if !c.Expires.IsZero() {
		cr.Expires = max(now.unixAt(c.Expires), 1)
	}
	if c.Nonce != (portmap.Nonce{}) {
		cr.Nonce = hex.EncodeToString(c.Nonce[:])
	}
	if c.Rebind.After(now.mono) {
		cr.Rebind = now.unixAt(c.Rebind)
	}
	for _, f := range c.Filters {
		cr.Filters = append(cr.Filters, filter(f))
	}
	return cr
}

// portmapKey returns the key, or an error if it is invalid.
func (r keyRecord) portmapKey() (portmap.Key, error) {
	p, err := parseProtocol(r.Protocol)
	if err != nil {
		return portmap.Key{}, err
	}
	if (r.External == 0) != r.Pinhole.IsValid() {
		return portmap.Key{}, errPort
	}
	if a := r.Pinhole; a.IsValid() && (!a.Addr().Is6() || !isTarget(a)) {
		return portmap.Key{}, fmt.Errorf("pinhole %v is not an IPv6 address and port", a)
	}
	return portmap.Key{Protocol: p, External: r.External, Pinhole: r.Pinhole}, nil
}

// isTarget reports whether packets can be sent to a.
func isTarget(a netip.AddrPort) bool {
	return a.Port() != 0 && a.Addr().Zone() == "" && !a.Addr().Is4In6()
}

// mapping returns the mapping, with times computed from now, or an error if the
// record is invalid. It includes claims that have expired.
func (r *record) mapping(now clockReading) (*portmap.Mapping, error) {
	k, err := r.portmapKey()
	if err != nil {
		return nil, err
	}
	m := &portmap.Mapping{Key: k, Internal: r.Internal, Created: now.timeAt(r.Created), Dormant: r.Dormant}
	m.Forwarding.Exact = r.Exact
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
		return nil, errors.New("mapping has no claims")
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

// claim returns the claim, or an error if the record is invalid.
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
		c.Nonce = portmap.Nonce(n)
	}
	if cr.Rebind != 0 {
		c.Rebind = now.timeAt(cr.Rebind)
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
	return 0, fmt.Errorf("unknown origin %q", s)
}

// encode returns the entry as JSON text without a newline.
func (e entry) encode() ([]byte, error) {
	text, err := json.Marshal(e)
	if err == nil && len(text) > journal.MaxText {
		err = fmt.Errorf("its record has %d bytes, more than %d", len(text), journal.MaxText)
	}
	return text, err
}

// decodeEntry decodes JSON text and checks that one field is set.
func decodeEntry(text []byte) (entry, error) {
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return entry{}, err
	}
	fields := 0
	for _, set := range []bool{e.Mark != nil, e.Service != nil, e.Put != nil, e.Drop != nil, e.Block != nil, e.Unblock != 0} {
		if set {
			fields++
		}
	}
	if fields != 1 {
		return entry{}, fmt.Errorf("entry has %d fields, not one", fields)
	}
	return e, nil
}

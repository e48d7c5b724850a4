package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"igdd/pkg/event"
	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
)

// maxBlock bounds how long a block lasts that has an end, so that no sum of times
// overflows.
const maxBlock = 100 * 365 * 24 * time.Hour

// BlockEntry is a block as blocks shows it.
type BlockEntry struct {
	Schema    int        `json:"schema"`
	ID        int        `json:"id"`
	Host      string     `json:"host,omitempty"`     // as the operator named it; absent: every host
	MACs      []string   `json:"macs,omitempty"`     // the hardware addresses that the host is known by
	Protocol  string     `json:"protocol,omitempty"` // "TCP" or "UDP"; absent: both
	FirstPort uint16     `json:"first_port,omitempty"`
	LastPort  uint16     `json:"last_port,omitempty"`
	Since     time.Time  `json:"since"`
	Until     *time.Time `json:"until"`             // null: for ever
	Remaining *int64     `json:"remaining_seconds"` // null: no end
	Hits      uint64     `json:"hits"`              // requests that it has refused
	LastHit   *time.Time `json:"last_hit"`          // null: never
}

// blockEntry returns a block as blocks shows it.
func blockEntry(b portmap.BlockRecord, now time.Time) *BlockEntry {
	e := &BlockEntry{
		Schema: schemaVersion, ID: b.ID, Host: b.Host.String(), MACs: b.Host.Bound, FirstPort: b.External.First, LastPort: b.External.Last,
		Since: wallTime(b.Since, now), Hits: b.Hits,
	}
	if b.Protocol != 0 {
		e.Protocol = b.Protocol.String()
	}
	if !b.Until.IsZero() {
		until, left := wallTime(b.Until, now), int64((b.Until.Sub(now)+time.Second-1)/time.Second)
		e.Until, e.Remaining = &until, &left
	}
	if !b.LastHit.IsZero() {
		last := wallTime(b.LastHit, now)
		e.LastHit = &last
	}
	return e
}

// wallTime returns a time of the monotonic clock on the wall clock as it is set now,
// to the second.
func wallTime(t, now time.Time) time.Time { return now.Round(0).Add(t.Sub(now)).Round(time.Second) }

// selector returns what a request selects: a host, external ports, or both.
func (r *request) selector() (portmap.Selector, error) {
	protocol, known := protocols[r.Protocol]
	s := portmap.Selector{
		Host:     portmap.HostSelector{Addr: r.Client.Unmap().WithZone(""), Name: hosts.ShortName(r.Host)},
		Protocol: protocol, External: portmap.PortRange{First: r.First, Last: r.Last},
	}
	named := 0
	for _, isNamed := range []bool{r.Client.IsValid(), r.MAC != "", r.Host != ""} {
		if isNamed {
			named++
		}
	}
	if r.MAC != "" {
		a, err := net.ParseMAC(r.MAC)
		if err != nil {
			return s, fmt.Errorf("invalid hardware address %q", r.MAC)
		}
		s.Host.Hardware = a.String()
	}
	switch {
	case !known:
		return s, fmt.Errorf("invalid protocol %q", r.Protocol)
	case r.First > r.Last:
		return s, errors.New("first port is above last port")
	case named > 1:
		return s, errors.New("more than one host is named")
	case named == 0 && r.First == 0:
		return s, errors.New("missing client or ports")
	}
	return s, nil
}

// delete deletes mappings.
func (s *Server) delete(ctx context.Context, r request, send func(reply) error) error {
	which, err := r.selector()
	if err != nil {
		return err
	}
	closed, err := s.opts.Table.Delete(ctx, which)
	if err != nil {
		return err
	}
	left := s.left()
	s.opts.Emit(event.Event{Kind: event.Deleted, Subject: which.String(), Closed: closed, Reason: left})
	return send(reply{Closed: closed, Left: left})
}

// block deletes mappings and refuses new ones.
func (s *Server) block(ctx context.Context, r request, send func(reply) error) error {
	which, err := r.selector()
	b := portmap.Block{Selector: which}
	switch d := time.Duration(r.Seconds) * time.Second; {
	case err != nil:
		return err
	case r.Forever:
	case r.Seconds <= 0 || r.Seconds > int64(maxBlock/time.Second):
		return errors.New("invalid time")
	default:
		b.Until = time.Now().Add(d)
	}
	set, err := s.opts.Table.Block(ctx, b)
	if err != nil {
		return fmt.Errorf("cannot block: %w", err)
	}
	e := blockEntry(portmap.BlockRecord{Block: set.Block}, time.Now())
	left := s.left()
	act := event.Event{Kind: event.Blocked, Block: e.ID, Subject: set.Block.String(), Closed: set.Closed, Reason: left}
	if e.Until != nil {
		act.Until = *e.Until
	}
	s.opts.Emit(act)
	return send(reply{Closed: set.Closed, Block: e, Warning: warningOf(set), Unsaved: s.unsaved(set.Unsaved), Left: left})
}

// warningOf returns what the operator should know of a new block; "": nothing.
func warningOf(set portmap.BlockResult) string {
	if !set.Elsewhere {
		return ""
	}
	return fmt.Sprintf("%v is on no LAN that the daemon serves now", set.Block.Host.Addr)
}

// left returns that rules of closed mappings are still in the firewall, and why; empty:
// none are.
func (s *Server) left() string {
	if err := s.opts.Left(); err != nil {
		return "rules of closed mappings are still in the firewall: " + err.Error()
	}
	return ""
}

// unsaved returns why what the operator has changed is lost with the daemon; empty: it
// is not.
func (s *Server) unsaved(err error) string {
	if err = cmp.Or(err, s.opts.NotSaved()); err != nil {
		return err.Error()
	}
	return ""
}

// unblock lifts blocks: the one with a number, or if there is none those that were set
// with the same words.
func (s *Server) unblock(ctx context.Context, r request, send func(reply) error) error {
	which := func(b *portmap.Block) bool { return b.ID == r.ID }
	if r.ID == 0 || !s.hasBlock(r.ID) && r.First > 0 {
		words, err := r.selector()
		if err != nil {
			return err
		}
		which = func(b *portmap.Block) bool { return b.IsSame(&words) }
	}
	lifted, unsaved, err := s.opts.Table.Unblock(ctx, which)
	if err != nil {
		return err
	}
	for _, b := range lifted {
		s.opts.Emit(event.Event{Kind: event.Unblocked, Block: b.ID, Subject: b.String()})
	}
	return send(reply{Lifted: len(lifted), Unsaved: s.unsaved(unsaved)})
}

// hasBlock reports whether there is a block with a number.
func (s *Server) hasBlock(id int) bool {
	for _, b := range s.opts.Table.Blocks() {
		if b.ID == id {
			return true
		}
	}
	return false
}

// blocks sends one line for each block.
func (s *Server) blocks(send func(reply) error) error {
	now := time.Now()
	for _, b := range s.opts.Table.Blocks() {
		if err := send(reply{Block: blockEntry(b, now)}); err != nil {
			return err
		}
	}
	return nil
}

package netfilter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// family is the rules of IPv4 or IPv6, and what was last seen of them.
type family struct {
	kind    portmap.Family
	name    string // of the program: "iptables" or "ip6tables"
	chains  []*chain
	hairpin *hairpin // nil: hosts of a LAN do not reach mappings by the external address
	log     *slog.Logger

	mu       lock                  // held during work on the kernel; guards what follows, and the chains' state
	programs *xtables.Programs     // nil: they have not been found yet
	refused  map[portmap.Key]error // mappings whose rules the kernel refuses
	refusals backoff               // of tries to have it accept them
	restored bool                  // the look under way has made tables as they should be
	commits  int                   // transactions that have begun
	fresh    xtables.Snapshot      // what the next step of the start need not list again; nil: there is none
	retry    backoff               // of looks that failed
	failing  error                 // why the last transaction of a look failed; nil: it did not
	repairs  tokens
	stopped  bool          // the router's firewall was stopped at the last look
	seen     bool          // the tables have been listed
	known    bool          // a look has ended
	again    time.Duration // after what time the last look has to be repeated; 0: it has not
	limited  bool          // it was logged that repairs are limited
	dead     deadReasons

	holding sync.Mutex         // guards held
	held    []*portmap.Mapping // in order of creation

	changed chan struct{} // another program has used the firewall; capacity 1
	unsure  chan struct{} // or may have; capacity 1
	woken   chan struct{} // a look is due; capacity 1

	other *other // nil: its program is not installed

	status    sync.Mutex // guards what follows
	health    health
	changedAt time.Time // when another program last used the firewall
}

// health is the state of a family for the operator.
type health struct {
	works    bool     // the chains have been as they should be
	stopped  bool     // the router's firewall was stopped at the last look
	trouble  error    // why the rules may not be as they should be; nil: they are
	left     error    // why rules of closed mappings could not be deleted; nil: none are left
	dead     []string // why connections do not get to the daemon's chains
	other    []string // why the rules of the other variant stop connections
	repairs  int      // in total
	repaired time.Time
	outgoing Outgoing // what becomes of packets from mapped ports
}

func newFamily(kind portmap.Family, name string, log *slog.Logger) *family {
	return &family{
		kind: kind, name: name, log: log, mu: make(lock, 1),
		refused: make(map[portmap.Key]error),
		changed: make(chan struct{}, 1), unsure: make(chan struct{}, 1), woken: make(chan struct{}, 1),
	}
}

// find finds the programs, unless they have been found.
func (f *family) find() (err error) {
	if f.programs == nil {
		f.programs, err = xtables.Find(f.name, f.log)
	}
	return err
}

// works reports whether the family's chains have ever been as they should be.
func (f *family) works() bool {
	f.status.Lock()
	defer f.status.Unlock()
	return f.health.works
}

// update updates the state that the operator sees.
func (f *family) update(change func(*health)) {
	f.status.Lock()
	defer f.status.Unlock()
	change(&f.health)
}

// wake has the reconciler look at the family at once.
func (f *family) wake() { notify(f.woken) }

// notify puts an element into a channel, unless it has one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// snapshot lists the tables, unless there is a fresh snapshot, and updates what is
// known of the chains.
func (f *family) snapshot(ctx context.Context) (xtables.Snapshot, error) {
	if err := f.find(); err != nil {
		return nil, err
	}
	s, err := f.fresh, error(nil)
	if f.fresh = nil; s == nil {
		s, err = f.programs.Snapshot(ctx)
	}
	if err != nil {
		return nil, err
	}
	f.observe(s)
	return s, nil
}

// snapshotAside is snapshot without f.mu during the listing: a program that hangs
// or is slow delays nobody else. If the tables were changed meanwhile it lists them
// again.
func (f *family) snapshotAside(ctx context.Context) (xtables.Snapshot, error) {
	if f.find() != nil || f.fresh != nil {
		return f.snapshot(ctx)
	}
	commits := f.commits
	f.mu.Unlock()
	s, err := f.programs.Snapshot(ctx)
	f.mu.Lock()
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil: // the rules may have been removed for good
		return nil, ctx.Err()
	case f.commits != commits:
		return f.snapshot(ctx)
	}
	f.observe(s)
	return s, nil
}

// observe updates what is known of the chains from a snapshot.
func (f *family) observe(s xtables.Snapshot) {
	f.seen, f.stopped = true, false
	changed := f.lastChange()
	for _, c := range f.chains {
		c.observe(s[c.table], changed)
		f.stopped = f.stopped || c.hookChainGone
		if e := c.exits; e != nil {
			f.update(func(h *health) { h.outgoing = Outgoing{e.found || e.preferred.present, e.doubt} })
		}
	}
	f.update(func(h *health) { h.stopped = f.stopped })
}

// isInTransition reports whether the router's firewall was being stopped or built at the
// last look.
func (f *family) isInTransition() bool { return slices.ContainsFunc(f.chains, (*chain).isInTransition) }

// transaction is the edits of a family's tables, in the order in which they are
// committed.
type transaction struct {
	family   *family
	sections []xtables.Section
}

// newTransaction returns a transaction with an empty section for each table that
// has chains of the daemon's.
func (f *family) newTransaction() *transaction {
	t := &transaction{family: f}
	for _, c := range f.chains {
		isSame := func(s xtables.Section) bool { return s.Table == c.table }
		if !slices.ContainsFunc(t.sections, isSame) {
			t.sections = append(t.sections, xtables.Section{Table: c.table})
		}
	}
	return t
}

// add adds edits to the section of the chain's table.
func (t *transaction) add(c *chain, edits ...xtables.Edit) {
	for i := range t.sections {
		if t.sections[i].Table == c.table {
			t.sections[i].Edits = append(t.sections[i].Edits, edits...)
		}
	}
}

// commit carries out a transaction and returns the tables whose sections were
// carried out. The work does not count as a change by another program.
func (t *transaction) commit(ctx context.Context, w *xtables.Watch) (done []string, err error) {
	t.sections = slices.DeleteFunc(t.sections, func(s xtables.Section) bool { return len(s.Edits) == 0 })
	if len(t.sections) == 0 {
		return nil, nil
	}
	t.family.fresh = nil
	t.family.commits++
	work := w.Begin()
	n, err := work.Commit(ctx, t.family.programs, t.sections)
	work.End()
	for _, s := range t.sections[:n] {
		done = append(done, s.Table)
	}
	if err != nil {
		return done, fmt.Errorf("commit: %w", markLocked(err))
	}
	return done, nil
}

// markLocked adds portmap.ErrLocked to an error of xtables that says so.
func markLocked(err error) error {
	if errors.Is(err, xtables.ErrLocked) {
		return fmt.Errorf("%w: %w", portmap.ErrLocked, err)
	}
	return err
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// When ports that the firewall forwards no more count as free. A firewall that
// restarts takes all forwards away and puts them back one by one, with pauses:
// AstLinux's is at it for up to 15 seconds.
const (
	settleTime    = 10 * time.Second // nobody has touched it for so long
	maxSettleTime = time.Minute      // or, where somebody always does, nothing has come back
	// retryAfter is when forwards are read again that could not be.
	retryAfter = 10 * time.Second
)

// forwardList is what is believed of the administrator's forwards.
type forwardList struct {
	list    []portmap.Forward // those of the last look, and those that may come back
	reduced []portmap.Forward // those of the last look, while others may come back
	since   time.Time         // when fewer was first seen; zero: nothing is missing
}

// update adds what a look at the firewall shows, which was last touched then. It
// returns when another look has to follow; 0: none has to.
func (l *forwardList) update(seen []portmap.Forward, now, touched time.Time) (again time.Duration) {
	missing := slices.DeleteFunc(slices.Clone(l.list), func(f portmap.Forward) bool { return isCovered(seen, f) })
	if len(missing) == 0 {
		*l = forwardList{list: seen}
		return 0
	}
	if l.since.IsZero() || !slices.Equal(seen, l.reduced) {
		l.reduced, l.since = seen, now
	}
	calm, same := now.Sub(touched), now.Sub(l.since)
	if min(calm, same) >= settleTime || same >= maxSettleTime {
		*l = forwardList{list: seen}
		return 0
	}
	l.list = slices.Concat(seen, missing)
	return settleTime - min(calm, same)
}

// isCovered reports whether all ports of f are in the list.
func isCovered(list []portmap.Forward, f portmap.Forward) bool {
	if slices.Contains(list, f) {
		return true
	}
	var ports portmap.PortSet
	for _, o := range list {
		if o.Protocol == f.Protocol {
			ports.AddRange(o.External)
		}
	}
	for port := int(f.External.First); port <= int(f.External.Last); port++ {
		if !ports.Has(uint16(port)) {
			return false
		}
	}
	return true
}

// forwards reads which ports the administrator's firewall forwards.
type forwards struct {
	read    func(netfilter.Uplink) (netfilter.Forwards, error)
	uplink  func() netfilter.Uplink
	changed func() // told of another list
	log     *slog.Logger

	reading sync.Mutex // held from a look until it is believed

	mu           sync.Mutex // guards what follows, and is never held while the firewall is read
	current      forwardList
	lastUplink   netfilter.Uplink // of the last look
	known        bool             // there has been a look
	delivered    bool             // the table knows of one
	failing      bool             // the last one failed
	logged       map[string]bool  // rules that the log has named
	conditionals []netfilter.Conditional
}

// maxLogged bounds the memory of the rules that the log has named.
const maxLogged = 500

// update reads the forwards after the firewall was last touched, and returns
// when to read them again; 0: when it is touched. What cannot be read stays
// believed.
func (f *forwards) update(touched time.Time) (again time.Duration) {
	f.reading.Lock()
	defer f.reading.Unlock()
	from := f.uplink()
	found, err := f.read(from)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastUplink = from
	switch {
	case errors.Is(err, netfilter.ErrStopped):
		return 0
	case err != nil:
		if !f.failing {
			f.log.Warn("the firewall's own port forwards cannot be read, those last known stay reserved", "err", err)
		}
		f.failing = true
		return retryAfter
	}
	before := f.current.list
	again = f.current.update(found.Certain, time.Now(), touched)
	f.conditionals = found.Perhaps
	f.logConditional()
	if !f.known || !slices.Equal(before, f.current.list) {
		f.changed()
	}
	f.known, f.failing = true, false
	return again
}

// logConditional names in the log what may forward ports that clients can have, each
// rule once.
func (f *forwards) logConditional() {
	if f.logged == nil || len(f.logged) > maxLogged {
		f.logged = make(map[string]bool)
	}
	for _, c := range f.conditionals {
		if !f.logged[c.Rule] {
			f.log.Info("a rule of the firewall forwards some connections only, its ports are not reserved: what it takes does not reach mappings", "rule", c.Rule)
			f.logged[c.Rule] = true
		}
	}
}

// updateOnMove reads the forwards anew if the uplink has other addresses than before,
// and reports whether it did. An uplink that has lost its address may get it
// back in a moment, and clients wait for that.
func (f *forwards) updateOnMove() bool {
	f.mu.Lock()
	from := f.lastUplink
	f.mu.Unlock()
	if u := f.uplink(); len(u.Addrs) == 0 || u.Device == from.Device && slices.Equal(u.Addrs, from.Addrs) {
		return false
	}
	f.update(time.Now())
	return true
}

// list returns the forwards that are believed in, and whether they have ever
// been read.
func (f *forwards) list() (list []portmap.Forward, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current.list, f.known
}

// conditional returns the rules that forward some connections to a port.
func (f *forwards) conditional(p portmap.Protocol, external uint16) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rules []string
	for _, c := range f.conditionals {
		if c.Protocol == p && c.External.Contains(external) {
			rules = append(rules, c.Rule)
		}
	}
	return rules
}

// noteDelivered notes that the table has been told of forwards that list returned.
func (f *forwards) noteDelivered(known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delivered = f.delivered || known
}

// errForwardsUnknown is why nothing is opened before the forwards have been read.
var errForwardsUnknown = errors.New("the firewall's own port forwards are not known yet, until then no port is given away")

// checkKnown returns errUnknown until the table knows the forwards.
func (f *forwards) checkKnown() error {
	f.mu.Lock()
	known, heard := f.known, f.delivered
	f.mu.Unlock()
	if heard {
		return nil
	}
	if !known {
		f.update(time.Now())
	}
	return errForwardsUnknown
}

// forwardChecker is a firewall that opens no port which may be the administrator's.
type forwardChecker struct {
	*netfilter.Firewall
	forwards *forwards
}

// Apply makes the rules of mappings and takes rules away.
func (c forwardChecker) Apply(ctx context.Context, changes []portmap.Change) error {
	opens := func(c portmap.Change) bool { return c.Before == nil && c.After.External != 0 }
	if slices.ContainsFunc(changes, opens) {
		if err := c.forwards.checkKnown(); err != nil {
			return fmt.Errorf("daemon: %w", err)
		}
	}
	return c.Firewall.Apply(ctx, changes)
}

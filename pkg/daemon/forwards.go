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

// When ports that the firewall no longer forwards count as free. A firewall that
// restarts removes all forwards and adds them again one by one, with pauses, for up
// to 15 seconds on AstLinux.
const (
	settleTime    = 10 * time.Second // the firewall and the forwards have not changed
	maxSettleTime = time.Minute      // the forwards have not, though the firewall keeps changing
)

// forwardList holds the static port forwards, including those that a restarting
// firewall may add again.
type forwardList struct {
	list    []portmap.Forward // those last read, and those that may come back
	reduced []portmap.Forward // those last read, while others may come back
	since   time.Time         // when reduced was first seen; zero: nothing is missing
}

// update takes the forwards that were read now, from a firewall that last changed
// at the time changed. It returns after what time to read them again; 0: when the
// firewall changes again.
func (l *forwardList) update(found []portmap.Forward, now, changed time.Time) (again time.Duration) {
	missing := slices.DeleteFunc(slices.Clone(l.list), func(f portmap.Forward) bool { return isCovered(found, f) })
	if len(missing) == 0 {
		*l = forwardList{list: found}
		return 0
	}
	if l.since.IsZero() || !slices.Equal(found, l.reduced) {
		l.reduced, l.since = found, now
	}
	quiet, same := now.Sub(changed), now.Sub(l.since)
	if min(quiet, same) >= settleTime || same >= maxSettleTime {
		*l = forwardList{list: found}
		return 0
	}
	l.list = slices.Concat(found, missing)
	return settleTime - min(quiet, same)
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

// forwards holds the static port forwards that looks at the firewall have found.
type forwards struct {
	uplink  func() netfilter.Uplink
	look    func(context.Context) // has the firewall looked at
	changed func()                // called when the list has changed
	log     *slog.Logger

	mu         sync.Mutex // guards what follows; never held while the firewall is read
	current    forwardList
	lastUplink netfilter.Uplink     // of the last look
	known      bool                 // a look has ended
	delivered  bool                 // and the table has its result
	logged     map[string]bool      // rules that have been logged
	rules      []netfilter.PortRule // that take connections
}

// maxLogged bounds the memory of the rules that have been logged.
const maxLogged = 500

// update takes the forwards that a look has found in a firewall that last changed
// at the time changed. It returns after what time to look again; 0: when the
// firewall changes again.
func (f *forwards) update(found netfilter.Forwards, changed time.Time) (again time.Duration) {
	from := f.uplink()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastUplink = from
	before := f.current.list
	again = f.current.update(found.Certain, time.Now(), changed)
	f.rules = found.Rules
	f.logConditional()
	if !f.known || !slices.Equal(before, f.current.list) {
		f.changed()
	}
	f.known = true
	return again
}

// logConditional logs the rules that forward some connections to ports which
// clients can have, each rule once.
func (f *forwards) logConditional() {
	if f.logged == nil || len(f.logged) > maxLogged {
		f.logged = make(map[string]bool)
	}
	for _, c := range f.rules {
		if !c.Certain && !f.logged[c.Rule] {
			f.log.Info("a firewall rule forwards only some connections, so its ports are not reserved; mappings do not get the connections that it matches", "rule", c.Rule)
			f.logged[c.Rule] = true
		}
	}
}

// updateOnMove has the firewall looked at again if the addresses of the uplink have
// changed. An uplink without an address is ignored: it may get the same one again.
func (f *forwards) updateOnMove(ctx context.Context) {
	f.mu.Lock()
	from := f.lastUplink
	f.mu.Unlock()
	if u := f.uplink(); len(u.Addrs) > 0 && (u.Device != from.Device || !slices.Equal(u.Addrs, from.Addrs)) {
		f.look(ctx)
	}
}

// list returns the forwards, and whether they have ever been read.
func (f *forwards) list() (list []portmap.Forward, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current.list, f.known
}

// rulesFor returns the firewall's rules that take connections to a port, all of them
// or some.
func (f *forwards) rulesFor(p portmap.Protocol, external uint16) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rules []string
	for _, r := range f.rules {
		if r.Protocol == p && r.External.Contains(external) {
			rules = append(rules, r.Rule)
		}
	}
	return rules
}

// noteDelivered notes that the table has the forwards that list returned.
func (f *forwards) noteDelivered(known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delivered = f.delivered || known
}

// errForwardsUnknown is returned until the table has the forwards.
var errForwardsUnknown = errors.New("the static port forwards have not been read yet: no port can be granted")

// checkKnown returns errForwardsUnknown until the table has the forwards.
func (f *forwards) checkKnown(ctx context.Context) error {
	f.mu.Lock()
	known, delivered := f.known, f.delivered
	f.mu.Unlock()
	if delivered {
		return nil
	}
	if !known {
		f.look(ctx)
	}
	return errForwardsUnknown
}

// forwardChecker is a firewall that opens no port while the static port forwards are
// not known.
type forwardChecker struct {
	*netfilter.Firewall
	forwards *forwards
}

// Apply installs and removes the rules of mappings.
func (c forwardChecker) Apply(ctx context.Context, changes []portmap.Change) error {
	opens := func(c portmap.Change) bool { return c.Before == nil && c.After.External != 0 }
	if slices.ContainsFunc(changes, opens) {
		if err := c.forwards.checkKnown(ctx); err != nil {
			return fmt.Errorf("daemon: %w", err)
		}
	}
	return c.Firewall.Apply(ctx, changes)
}

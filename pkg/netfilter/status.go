package netfilter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"igdd/pkg/portmap"
)

// Health is the state of a family's rules.
type Health struct {
	Family   portmap.Family
	Trouble  error    // why the rules may not be as they should be; nil: they are
	Dead     []string // why connections from uplinks do not get to the daemon's chains, or not further
	Repairs  int      // how often rules were restored
	Repaired time.Time
}

// IsHealthy reports whether the rules are as they should be and connections get to them.
func (h Health) IsHealthy() bool { return h.Trouble == nil && len(h.Dead) == 0 }

// errNoLook is the trouble of a family that could not be looked at in time.
var errNoLook = errors.New("not known: the iptables programs do not answer, or are busy")

// Health looks at the tables of all families, and returns what is known of them
// then, or when ctx ends.
func (f *Firewall) Health(ctx context.Context) (list []Health) {
	var all sync.WaitGroup
	looks := make(map[*family]chan struct{})
	for _, family := range f.families() {
		looked := make(chan struct{})
		looks[family] = looked
		all.Go(func() { defer close(looked); f.lookNow(f.ctx, family) })
		all.Go(func() { f.lookAtOther(f.ctx, family) })
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	for _, family := range f.families() {
		h := family.currentHealth()
		select {
		case <-looks[family]:
		default: // what is known may be out of date
			h.Trouble = cmp.Or(h.Trouble, errNoLook)
		}
		list = append(list, h)
	}
	return list
}

// currentHealth returns what is known of a family.
func (f *family) currentHealth() Health {
	f.status.Lock()
	defer f.status.Unlock()
	h := f.health
	return Health{f.kind, h.trouble, slices.Concat(h.dead, h.other), h.repairs, h.repaired}
}

// Left returns why rules of mappings that are closed are still in the kernel, so that
// connections get through; nil: no such rules are known. The reconciler deletes them as
// soon as it can.
func (f *Firewall) Left() error {
	for _, family := range f.families() {
		family.status.Lock()
		left := family.health.left
		family.status.Unlock()
		if left != nil {
			return fmt.Errorf("%v: %w", family.kind, left)
		}
	}
	return nil
}

// Look looks at the IPv4 tables at once.
func (f *Firewall) Look(ctx context.Context) { f.lookNow(ctx, f.ipv4) }

// lookNow looks at a family, whenever a look is due. Run looks again after that if
// that is necessary.
func (f *Firewall) lookNow(ctx context.Context, family *family) {
	if again, _ := f.look(ctx, family); again < slowLook {
		notify(family.unsure)
	}
}

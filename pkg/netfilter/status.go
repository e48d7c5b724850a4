package netfilter

import (
	"context"
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

// Health looks at the tables of all families, and returns what is known of them
// then, or when ctx ends.
func (f *Firewall) Health(ctx context.Context) (list []Health) {
	var looks sync.WaitGroup
	for _, family := range f.families() {
		looks.Go(func() { f.lookNow(f.ctx, family) })
		looks.Go(func() { f.lookAtOther(f.ctx, family) })
	}
	ended := make(chan struct{})
	go func() { looks.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	for _, family := range f.families() {
		family.status.Lock()
		h := family.health
		family.status.Unlock()
		list = append(list, Health{family.kind, h.trouble, slices.Concat(h.dead, h.other), h.repairs, h.repaired})
	}
	return list
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

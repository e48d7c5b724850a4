package portmaptest

import (
	"context"
	"sync"

	"igdd/pkg/portmap"
)

// Upstream is an in-memory portmap.Upstream.
type Upstream struct {
	// Answer, if set, returns what the router in front does for a mapping that it has
	// not been asked for before; false: it does not answer. It is reported to Report.
	Answer func(*portmap.Mapping) (portmap.Report, bool)
	Report func(context.Context, []portmap.Report) error // portmap.Table.Report

	mu     sync.Mutex
	wanted map[portmap.Key]*portmap.Mapping
}

// Update takes over changes. It answers on a goroutine of its own.
func (u *Upstream) Update(changes []portmap.Change) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.wanted == nil {
		u.wanted = make(map[portmap.Key]*portmap.Mapping)
	}
	for _, c := range changes {
		isNew := !c.Before.WantsForwarding()
		if !isNew {
			delete(u.wanted, c.Before.Key)
		}
		if c.After.WantsForwarding() {
			u.wanted[c.After.Key] = c.After
			if isNew {
				u.answer(c.After)
			}
		}
	}
}

// answer reports what becomes of a mapping.
func (u *Upstream) answer(m *portmap.Mapping) {
	if u.Answer == nil {
		return
	}
	if r, ok := u.Answer(m); ok {
		go u.Report(context.Background(), []portmap.Report{r})
	}
}

// Wanted returns how many mappings are to be forwarded, and the one of a key; nil if it
// is not among them.
func (u *Upstream) Wanted(k portmap.Key) (count int, m *portmap.Mapping) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.wanted), u.wanted[k]
}

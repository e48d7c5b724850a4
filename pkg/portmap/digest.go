package portmap

import (
	"context"
	"log/slog"
	"maps"
	"slices"
)

// digest summarizes what a check of all mappings has changed.
type digest struct {
	closed    []Loss          // the mappings that were closed
	dormant   map[Refusal]int // the number that became dormant, by reason
	woken     int             // the number that came into force again
	lost      []Loss          // those closed that had been in force
	suspended []Loss          // those dormant that had been in force
}

// noteClosed notes that m is closed for a reason.
func (d *digest) noteClosed(m *Mapping, r Refusal) {
	d.closed = append(d.closed, Loss{m, r})
	if !m.Dormant {
		d.lost = append(d.lost, Loss{m, r})
	}
}

// noteDenied notes that m, which goes on, loses claims because of the rules.
func (d *digest) noteDenied(m *Mapping, claims []Claim) {
	if len(claims) > 0 && !m.Dormant {
		lost := *m
		lost.Claims = claims
		d.lost = append(d.lost, Loss{&lost, NotAuthorized})
	}
}

// noteState notes that m becomes dormant for a reason, or is in force again if
// that is Granted.
func (d *digest) noteState(m *Mapping, r Refusal) {
	if r == Granted {
		d.woken++
		return
	}
	if d.dormant == nil {
		d.dormant = make(map[Refusal]int)
	}
	d.dormant[r]++
	if !m.Dormant {
		d.suspended = append(d.suspended, Loss{m, r})
	}
}

// logTo logs how many mappings are dormant, one line for each reason.
func (d *digest) logTo(log *slog.Logger) {
	for _, r := range slices.Sorted(maps.Keys(d.dormant)) {
		log.Log(context.Background(), LevelNotice, "mappings are dormant", "reason", r, "count", d.dormant[r])
	}
	if d.woken > 0 {
		log.Log(context.Background(), LevelNotice, "dormant mappings are in force again", "count", d.woken)
	}
}

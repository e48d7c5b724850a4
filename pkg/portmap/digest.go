package portmap

import (
	"context"
	"log/slog"
	"maps"
	"slices"
)

// maxNamed bounds the mappings that one log line names.
const maxNamed = 10

// digest summarizes what a check of all mappings has changed.
type digest struct {
	closed    map[Refusal][]Key // the mappings that were closed, by reason
	dormant   map[Refusal]int   // the number that became dormant, by reason
	woken     int               // the number that came into force again
	lost      []Loss            // those closed that had been in force
	suspended []Loss            // those dormant that had been in force
}

// noteClosed notes that m is closed for a reason.
func (d *digest) noteClosed(m *Mapping, r Refusal) {
	if d.closed == nil {
		d.closed = make(map[Refusal][]Key)
	}
	d.closed[r] = append(d.closed[r], m.Key)
	if !m.Dormant {
		d.lost = append(d.lost, Loss{m, r})
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

// logTo logs one line for each reason; closed says what happened to the
// mappings that are not allowed.
func (d *digest) logTo(log *slog.Logger, closed string) {
	for _, r := range slices.Sorted(maps.Keys(d.closed)) {
		keys := d.closed[r]
		log.Warn(closed, "reason", r, "count", len(keys), "mappings", keys[:min(len(keys), maxNamed)])
	}
	for _, r := range slices.Sorted(maps.Keys(d.dormant)) {
		log.Log(context.Background(), LevelNotice, "mappings are dormant", "reason", r, "count", d.dormant[r])
	}
	if d.woken > 0 {
		log.Log(context.Background(), LevelNotice, "dormant mappings are in force again", "count", d.woken)
	}
}

package control

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"
)

// maxNewest is how many mappings the overview shows: with status they fit a
// terminal of 24 lines.
const maxNewest = 10

// overview is what the tool prints without a command.
type overview struct {
	Schema   int     `json:"schema"`
	Status   Status  `json:"status"`
	Mappings []Entry `json:"mappings"` // the newest, the last one first
}

// overview prints the state of the daemon and the newest mappings.
func (t *tool) overview() (exitStatus, error) {
	s, err := t.queryStatus()
	if err != nil {
		return 0, err
	}
	newest, total, err := t.queryNewest()
	if err != nil {
		return 0, err
	}
	if t.json {
		return s.exitStatus(), t.encode(overview{schemaVersion, s, newest})
	}
	if err := printStatus(t.stdout, s, time.Now()); err != nil {
		return 0, err
	}
	return s.exitStatus(), t.printNewest(newest, total-len(newest))
}

// queryNewest returns the newest mappings, the last one first, and how many there are
// in all.
func (t *tool) queryNewest() (newest []Entry, total int, err error) {
	newest = []Entry{} // JSON: [], not null
	err = t.call(request{Do: doList}, func(a reply) error {
		if a.Entry == nil {
			return nil
		}
		if total++; len(newest) == maxNewest {
			newest = slices.Delete(newest, 0, 1)
		}
		newest = append(newest, *a.Entry)
		return nil
	})
	slices.Reverse(newest)
	return newest, total, err
}

// printNewest prints the table of the newest mappings, and how many more there are.
func (t *tool) printNewest(newest []Entry, more int) error {
	if len(newest) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(t.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "\n", tableHead)
	for i := range newest {
		fmt.Fprintln(w, row(&newest[i]))
	}
	err := w.Flush()
	if err != nil || more == 0 {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "… and %d more: miniupnpctl list\n", more)
	return err
}

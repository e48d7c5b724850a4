package control

import (
	"fmt"
	"slices"
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
	newest, err := t.queryEntries()
	if err != nil {
		return 0, err
	}
	more := max(0, len(newest)-maxNewest)
	newest = append([]Entry{}, newest[more:]...) // JSON: [], not null
	slices.Reverse(newest)
	if t.json {
		return s.exitStatus(), t.encode(overview{schemaVersion, s, newest})
	}
	if err := printStatus(t.stdout, s, time.Now()); err != nil {
		return 0, err
	}
	return s.exitStatus(), t.printNewest(newest, more)
}

// printNewest prints the table of the newest mappings, and how many more there are.
func (t *tool) printNewest(newest []Entry, more int) error {
	if len(newest) == 0 {
		return nil
	}
	fmt.Fprintln(t.stdout)
	err := printEntries(t.stdout, newest)
	if err != nil || more == 0 {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "… and %d more: miniupnpctl list\n", more)
	return err
}

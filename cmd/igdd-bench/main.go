// Command igdd-bench measures two gateway daemons side by side. It runs in the lab of
// scripts/bench.sh.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// daemon is a daemon to measure.
type daemon struct {
	name, program string
	ours          bool
}

// fairness is the name of the rows beside floods, which are measured only when asked for;
// after a colon, what is in the text of those to measure.
const fairness = "fairness"

// bench is a run of the program.
type bench struct {
	lab, folder string // names, as bench.sh chose them
	only        string
	quick       bool
	daemons     []daemon
	table       results
}

func main() {
	b := bench{table: make(results)}
	ours := flag.String("ours", "", "our `program`")
	theirs := flag.String("theirs", "", "the other `program`; without it ours is measured alone")
	flag.StringVar(&b.lab, "lab", "", "`name` of the lab's namespaces")
	flag.StringVar(&b.folder, "folder", "", "`folder` for the daemons' files")
	flag.StringVar(&b.only, "only", "", "the one `row` to measure, or what is in the name of the attacks to try")
	flag.BoolVar(&b.quick, "quick", false, "fewer repetitions")
	repairs := flag.Int("repairs", 0, "measure repairs of the firewall instead, each at most so many `times`")
	memory := flag.String("attack", "", "attack ours instead, in the memory control group of this `folder`")
	flag.Parse()
	if *theirs != "" {
		b.daemons = append(b.daemons, daemon{"miniupnpd", *theirs, false})
	}
	b.daemons = append(b.daemons, daemon{"igdd", *ours, true})
	run := b.run
	switch {
	case *memory != "":
		run = func() error { return measureAttacks(b.lab, b.folder, *ours, *memory, b.only) }
	case *repairs > 0:
		run = func() error { return measureRepairs(b.lab, b.folder, *ours, *repairs) }
	case strings.HasPrefix(b.only, fairness):
		run = b.measureFairness
	case b.only == outbound:
		run = b.measureOutbound
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "igdd-bench:", err)
		os.Exit(1)
	}
}

// run measures everything and prints the table.
func (b *bench) run() error {
	if err := b.checkOnly(); err != nil {
		return err
	}
	l, err := newLab(b.lab, b.folder)
	if err != nil {
		return err
	}
	begin := time.Now()
	waitIdle := b.idle()
	skipped := 0
	for _, s := range b.schedule() {
		if s.repeated && time.Since(begin) > b.budget() {
			skipped++
			continue
		}
		for _, d := range s.daemons {
			b.round(l, d, s.present)
		}
	}
	waitIdle()
	fmt.Printf("%d s in all, %d repetitions skipped for lack of time, %d TCP connections.\n\n",
		int(time.Since(begin).Seconds()), skipped, connections.Load())
	b.table.write(os.Stdout, b.daemons)
	fmt.Printf(legend, b.idleTime(), settleTime)
	b.table.writeErrors(os.Stdout)
	return nil
}

// rows returns the rows that a round measures.
func (b *bench) rows(present int) (chosen []row) {
	for _, r := range rows {
		if r.measure != nil && b.wants(r) && slices.Contains(r.present, present) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

// wants reports whether a row is to be measured.
func (b *bench) wants(r row) bool { return b.only == "" || b.only == r.name }

// checkOnly returns an error if there is no row with the name to measure.
func (b *bench) checkOnly() error {
	if slices.ContainsFunc(rows, b.wants) {
		return nil
	}
	names := []string{fairness, outbound}
	for _, r := range rows {
		names = append(names, r.name)
	}
	return fmt.Errorf("unknown row %q; the rows are %s", b.only, strings.Join(names, ", "))
}

// round measures all rows with one daemon.
func (b *bench) round(l *lab, d daemon, present int) {
	r, err := newRound(l, d.program, present)
	if err != nil {
		b.table.add(key{"start", present, d.name}, 0, err)
		return
	}
	defer func() { r.process.stop() }()
	for _, row := range b.rows(present) {
		value, err := row.measure(r)
		fmt.Fprintf(os.Stderr, "%s with %d: %s: %s %s\n", d.name, present, row.what, figure(value), row.unit.name)
		b.table.add(key{row.name, present, d.name}, value, err)
	}
}

// Command igdd-bench measures two gateway daemons side by side. It runs in the lab of
// scripts/bench.sh.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// daemon is a daemon to measure.
type daemon struct {
	name, program string
	settings      string // lines of its configuration beside those of conf
}

// bench is a run of the program.
type bench struct {
	lab, folder string // names, as bench.sh chose them
	guest       guest
	only        string
	quick       bool
	daemons     []daemon // ours is the last
	table       results
}

func main() {
	b := bench{table: make(results)}
	ours := flag.String("ours", "", "our `program`")
	theirs := flag.String("theirs", "", "the other `program`; without it ours is measured alone")
	flag.StringVar(&b.lab, "lab", "", "`name` of the lab's namespaces")
	flag.StringVar(&b.folder, "folder", "", "`folder` for the daemons' files")
	flag.StringVar(&b.guest.console, "guest", "", "`socket` of an ARM machine's console; its LAN is the namespace with the lab's name and -arm-lan")
	flag.StringVar(&b.only, "only", "", "the one `row` or group of rows to measure, or what is in the name of the attacks to try")
	flag.BoolVar(&b.quick, "quick", false, "only one round of each row")
	repairs := flag.Int("repairs", 0, "measure repairs of the firewall instead, each at most so many `times`")
	memory := flag.String("attack", "", "attack ours instead, in the memory control group of this `folder`")
	flag.Parse()
	if *theirs != "" {
		b.daemons = append(b.daemons, daemon{name: "miniupnpd", program: *theirs})
	}
	b.daemons = append(b.daemons, daemon{name: "igdd", program: *ours})
	run := b.run
	switch {
	case *memory != "":
		run = func() error { return measureAttacks(b.lab, b.folder, *ours, *memory, b.only) }
	case *repairs > 0:
		run = func() error { return measureRepairs(b.lab, b.folder, *ours, *repairs) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "igdd-bench:", err)
		os.Exit(1)
	}
}

// run measures everything and prints the table.
func (b *bench) run() error {
	groups, err := b.chosen()
	if err != nil {
		return err
	}
	l, err := newLab(b.lab, b.folder)
	if err != nil {
		return err
	}
	begin, skipped := time.Now(), 0
	waitIdle := b.idle(groups)
	for _, g := range groups {
		skipped += b.measure(l, g)
	}
	waitIdle()
	b.table.write(os.Stdout, groups)
	fmt.Printf(legend, touchPause, b.idleTime(), settleTime, floodRate, firstWait)
	fmt.Printf("The run took %v; %d repetitions were left out for lack of time.\n", time.Since(begin).Round(time.Second), skipped)
	b.table.writeErrors(os.Stdout)
	return nil
}

// chosen returns the groups with the rows to measure.
func (b *bench) chosen() (chosen []group, err error) {
	var names []string
	for _, g := range b.groups() {
		names = append(names, g.name+":")
		var rows []row
		for _, r := range g.rows {
			names = append(names, r.name)
			if b.only == "" && !g.isExtra || b.only == g.name || b.only == r.name {
				rows = append(rows, r)
			}
		}
		if g.rows = rows; len(rows) > 0 {
			chosen = append(chosen, g)
		}
	}
	if len(chosen) == 0 {
		err = fmt.Errorf("unknown row %q; the rows, after the names of their groups, are %s", b.only, strings.Join(names, " "))
	}
	return chosen, err
}

// measure measures a group and returns how many repetitions it left out.
func (b *bench) measure(l *lab, g group) (skipped int) {
	begin := time.Now()
	for _, s := range g.schedule(b.quick) {
		if s.round > 0 && time.Since(begin) > g.patience {
			skipped++
			continue
		}
		for _, d := range s.daemons {
			b.round(l, g, d, s)
		}
	}
	if g.end != nil {
		g.end()
	}
	return skipped
}

// round measures the rows of a group with one daemon.
func (b *bench) round(l *lab, g group, d daemon, s step) {
	l.rules, l.settings = cmp.Or(g.rules, rules), d.settings
	r := &round{lab: l, daemon: d, present: s.present, port: firstPort}
	rows := g.rowsWith(s.present)
	if !g.isBare {
		if err := r.start(); err != nil {
			b.table.add(key{rows[0].name, s.present, d.name}, s.round, 0, err)
			return
		}
		defer func() { r.process.stop() }()
	}
	for _, row := range rows {
		value, err := row.measure(r)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		text := row.unit.text(value)
		if err != nil {
			text = err.Error()
		}
		fmt.Fprintf(os.Stderr, "%s with %d: %s: %s\n", d.name, s.present, row.what, text)
		b.table.add(key{row.name, s.present, d.name}, s.round, value, err)
	}
}

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

const (
	// repairsLimit is the time of a run for one variant of iptables. Where repairs take
	// long, fewer of them must suffice.
	repairsLimit = 280 * time.Second
	// repairWithin is how long a repair is awaited.
	repairWithin = 10 * time.Second
	// pollPause is the pause between two listings of the firewall, which take no lock.
	pollPause = 20 * time.Millisecond
	// maxRest is the longest pause between a repair and the next removal. Its length is
	// random, so that removals meet the daemon in all states.
	maxRest = 100 * time.Millisecond
	// maxAgain is how often a removal is tried again: a rule may change meanwhile.
	maxAgain = 3
	// held is the number of mappings whose rules are removed.
	held = 1000
)

// repairRun measures one program on one variant of iptables.
type repairRun struct {
	lab     *lab
	program string
	rounds  int
	end     time.Time
}

// measureRepairs measures how a daemon keeps its rules in place, and prints the results.
func measureRepairs(lab, folder, program string, rounds int) error {
	l, err := newLab(lab, folder)
	if err != nil {
		return err
	}
	r := &repairRun{lab: l, program: program, rounds: rounds, end: time.Now().Add(repairsLimit)}
	for _, part := range []func() error{r.countProcesses, r.restartFirewall, r.removals} {
		if err := part(); err != nil {
			return fmt.Errorf("%w: %s", err, l.log.recent())
		}
	}
	return nil
}

// removal is what another program removes: one of the rules that a condition holds for,
// or else what the commands do, each given as arguments of iptables.
type removal struct {
	what     string
	oneOf    func(rule) bool
	commands [][]string
}

var removals = []removal{
	{what: "one DNAT rule", oneOf: func(r rule) bool { return r.option("-j") == "DNAT" && !isBusy(r) }},
	{what: "all rules of the nat chain", commands: [][]string{{"-t", "nat", "-F", "MINIUPNPD"}}},
	{what: "a jump", oneOf: rule.isJump},
	{what: "all rules of the filter chain", commands: [][]string{{"-F", "MINIUPNPD"}}},
	{what: "everything: -F, -t nat -F", commands: [][]string{{"-F"}, {"-t", "nat", "-F"}}},
}

// do removes it from the router.
func (r removal) do(l *lab) error {
	commands := r.commands
	if r.oneOf != nil {
		present, err := l.listRules()
		if err != nil {
			return err
		}
		chosen := only(present, r.oneOf)
		if len(chosen) == 0 {
			return fmt.Errorf("no rule to remove: %s", r.what)
		}
		commands = [][]string{chosen[rand.IntN(len(chosen))].args("-D")}
	}
	for _, args := range commands {
		if err := l.iptables(args...); err != nil {
			return err
		}
	}
	return nil
}

// isBusy reports whether a DNAT rule is of a client that comes and goes.
func isBusy(r rule) bool {
	return len(r.option("--dport")) == 5 && r.option("--dport") >= fmt.Sprint(firstPort)
}

// repairsLegend explains the table of repairs.
const repairsLegend = `
Repairs with %d mappings: ms from the removal until a listing shows everything; there is one every %v. The clients map and
unmap ports by NAT-PMP and PCP; errors are refusals and requests without response.

`

// removals measures all removals under all loads, in rows that share the time left.
func (r *repairRun) removals() error {
	fmt.Printf(repairsLegend, held, pollPause)
	fmt.Println("| busy clients | removed | times | min | median | p95 | max | not within 10 s | changes/s | errors |")
	fmt.Println("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	loads := []int{0, 1, clients}
	left := len(loads) * len(removals)
	for _, busy := range loads {
		for _, what := range removals {
			end := time.Now().Add(time.Until(r.end) / time.Duration(left))
			left--
			row := repairRow{busy: busy, removal: what, wanted: r.rounds, end: end}
			if err := r.fill(&row); err != nil {
				return fmt.Errorf("%s with %d clients: %w", what.what, busy, err)
			}
			fmt.Println(&row)
		}
	}
	return nil
}

// repairRow is a line of the table.
type repairRow struct {
	busy    int
	removal removal
	wanted  int       // rounds
	end     time.Time // when no further round begins

	took            []time.Duration
	late            int // rounds without a repair in time
	changes, errors int64
	busyTime        time.Duration
}

func (row *repairRow) rounds() int { return len(row.took) + row.late }

// isFull reports whether the row has enough rounds, or some and no time for more.
func (row *repairRow) isFull() bool {
	return row.rounds() >= row.wanted || row.rounds() > 0 && time.Now().After(row.end)
}

// fill measures a row. A daemon that was late is started anew.
func (r *repairRun) fill(row *repairRow) error {
	for !row.isFull() {
		if err := r.fillWithOne(row); err != nil {
			return err
		}
	}
	return nil
}

// fillWithOne measures with one daemon until the row is full or the daemon is late.
func (r *repairRun) fillWithOne(row *repairRow) error {
	p, err := r.lab.start(r.program, leases{present: held})
	if err != nil {
		return err
	}
	defer p.stop()
	before, err := r.lab.listRules()
	if err != nil {
		return err
	}
	busy, err := startLoad(row.busy)
	if err != nil {
		return err
	}
	begin := time.Now()
	defer func() {
		busy.stop()
		row.busyTime += time.Since(begin)
		row.changes += busy.changes.Load()
		row.errors += busy.errors.Load()
	}()
	for late := row.late; row.late == late && !row.isFull(); {
		if err := r.round(row, before); err != nil {
			return err
		}
	}
	return nil
}

// round removes something once, waits for the repair, and restores what else the
// firewall had before.
func (r *repairRun) round(row *repairRow, before []rule) error {
	time.Sleep(rand.N(maxRest))
	err := row.removal.do(r.lab)
	for again := 0; err != nil && again < maxAgain; again++ {
		err = row.removal.do(r.lab)
	}
	if err != nil {
		return err
	}
	took, err := r.awaitRepair(only(before, rule.isService))
	switch {
	case err != nil:
		return err
	case took > repairWithin:
		row.late++
		return r.explainLate(row, before)
	}
	row.took = append(row.took, took)
	return r.restoreOthers(before)
}

// awaitRepair returns after what time the rules were in place. It gives up after
// repairWithin and returns a longer time.
func (r *repairRun) awaitRepair(wanted []rule) (time.Duration, error) {
	for begin := time.Now(); ; time.Sleep(pollPause) {
		present, err := r.lab.listRules()
		took := time.Since(begin)
		if err != nil || took > repairWithin || len(missing(wanted, present)) == 0 {
			return took, err
		}
	}
}

// explainLate prints to the standard error what is missing, and the daemon's last
// messages.
func (r *repairRun) explainLate(row *repairRow, before []rule) error {
	present, err := r.lab.listRules()
	gone := missing(only(before, rule.isService), present)
	if err == nil && len(gone) > 0 {
		fmt.Fprintf(os.Stderr, "%s, %d clients: %d rules still missing, first %v; log: %s\n",
			row.removal.what, row.busy, len(gone), gone[0], r.lab.log.recent())
	}
	return err
}

// restoreOthers appends the administrator's rules that are missing.
func (r *repairRun) restoreOthers(before []rule) error {
	present, err := r.lab.listRules()
	if err != nil {
		return err
	}
	for _, gone := range missing(before, present) {
		if gone.isService() {
			continue // removed again, which the next round sees
		}
		if err := r.lab.iptables(gone.args("-A")...); err != nil {
			return err
		}
	}
	return nil
}

// listRules returns all rules of the router.
func (l *lab) listRules() ([]rule, error) {
	out, err := l.onRouter("iptables-save").Output()
	if err != nil {
		return nil, fmt.Errorf("iptables-save: %w", err)
	}
	return parseRules(string(out)), nil
}

// iptables runs iptables on the router, as another program does.
func (l *lab) iptables(args ...string) error {
	if out, err := l.onRouter("iptables", append([]string{"-w"}, args...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("iptables %q: %w: %s", args, err, out)
	}
	return nil
}

// String returns the line of the table.
func (row *repairRow) String() string {
	at := func(percent int) string {
		if len(row.took) == 0 {
			return "–"
		}
		return fmt.Sprint(percentile(row.took, percent).Milliseconds())
	}
	perSecond := float64(row.changes) / row.busyTime.Seconds()
	return fmt.Sprintf("| %d | %s | %d | %s | %s | %s | %s | %d | %.0f | %d |", row.busy, row.removal.what, row.rounds(),
		at(0), at(50), at(95), at(100), row.late, perSecond, row.errors)
}

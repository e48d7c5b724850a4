package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// key identifies the values of one daemon in a cell of the table.
type key struct {
	row     string
	present int
	daemon  string
}

// cell has the values of one daemon by the number of the round, and the errors.
type cell struct {
	values map[int]float64
	errors []string
}

// results is what has been measured so far.
type results map[key]*cell

func (t results) add(k key, round int, value float64, err error) {
	c := t[k]
	if c == nil {
		c = &cell{values: make(map[int]float64)}
		t[k] = c
	}
	if err != nil {
		c.errors = append(c.errors, err.Error())
	} else {
		c.values[round] = value
	}
}

// text returns the median of the rounds.
func (c *cell) text(u unit) string {
	if len(c.values) == 0 {
		return "failed"
	}
	return u.text(median(slices.Collect(maps.Values(c.values))))
}

// ratios returns how many times better ours was than theirs, for each round that both
// have. There is no ratio to nothing.
func ratios(u unit, theirs, ours *cell) (all []float64) {
	for i, a := range theirs.values {
		b, both := ours.values[i]
		if u.higherIsBetter {
			a, b = b, a
		}
		if both && a != 0 && b != 0 {
			all = append(all, a/b)
		}
	}
	return all
}

// spread returns the median of ratios and, where there are several, their range.
func spread(ratios []float64) string {
	text := figure(median(ratios)) + "×"
	if len(ratios) > 1 {
		text += fmt.Sprintf(" (%s–%s)", figure(slices.Min(ratios)), figure(slices.Max(ratios)))
	}
	return text
}

// compare returns the text of the table for what two daemons have reached, each of
// which may lack.
func compare(u unit, theirs, ours *cell) string {
	switch {
	case theirs == nil && ours == nil:
		return "–"
	case theirs == nil:
		return ours.text(u)
	case ours == nil:
		return theirs.text(u) + " → –"
	}
	text := theirs.text(u) + " → " + ours.text(u)
	if all := ratios(u, theirs, ours); len(all) > 0 {
		text += ", " + spread(all)
	}
	return text
}

// figure returns two digits of a number, or all digits before the point.
func figure(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 1:
		return fmt.Sprintf("%.2f", x)
	case x < 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// columns are the numbers of mappings present that the table has a column for.
var columns = []int{0, 1000, 5000, 10000}

// write prints the rows that have been measured, of all groups.
func (t results) write(w io.Writer, groups []group) {
	head, under := "| operation |", "| --- |"
	for _, n := range columns {
		head += fmt.Sprintf(" %s present |", grouped(n))
		under += " --- |"
	}
	fmt.Fprintf(w, "%s\n%s\n", head, under)
	for _, g := range groups {
		for _, r := range g.rows {
			t.writeRow(w, r, g.daemons)
		}
	}
}

func (t results) writeRow(w io.Writer, r row, daemons []daemon) {
	line, isMeasured := "| "+r.what+" |", false
	for _, n := range columns {
		var cells [2]*cell // those of one daemon alone are ours
		for i, d := range daemons {
			cells[i+len(cells)-len(daemons)] = t[key{r.name, n, d.name}]
		}
		isMeasured = isMeasured || cells != [2]*cell{}
		line += " " + compare(r.unit, cells[0], cells[1]) + " |"
	}
	if isMeasured {
		fmt.Fprintln(w, line)
	}
}

// grouped returns a number with a comma before its last three digits.
func grouped(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// writeErrors prints why values are missing: each error once, with its rows.
func (t results) writeErrors(w io.Writer) {
	names := make(map[string][]string)
	for k, c := range t {
		for _, e := range c.errors {
			text := fmt.Sprintf("%s with %d: %s", k.daemon, k.present, e)
			if !slices.Contains(names[text], k.row) {
				names[text] = append(names[text], k.row)
			}
		}
	}
	for _, text := range slices.Sorted(maps.Keys(names)) {
		slices.Sort(names[text])
		fmt.Fprintf(w, "\nFailed: %s (%s)\n", text, strings.Join(names[text], ", "))
	}
}

// legend explains the figures.
const legend = `
Cells are miniupnpd → igdd, and how many times better igdd is: the median of rounds in which one followed the other, with
their range in brackets; without brackets there was one round. Where a row names settings, both are igdd. Values are medians
of the rounds, times for one client medians of a round's operations. Each round starts the daemon anew on a router that has
just booted, with the mappings in its lease file; miniupnpd would take half an hour to restore 10,000. Connections from the
Internet go to one mapping at least. Another program changes the firewall every %v. miniupnpd does not watch the firewall: such
changes cost it nothing, and it does not restore what they remove. It closes every HTTP connection, also if the client asks to
keep it. "All that follow": the first of a row of ports that other hosts have mapped. Wake-ups and memory without clients are
those of %v, after %v. A flood is %d requests per second of the kind that an honest client sends as well; at once means
within %v. The ARM machine is emulated, and slower than a router.
`

// median returns the middle of values, the mean of two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// percentile returns the nearest rank of times, 0 if there is none.
func percentile(took []time.Duration, percent int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	rank := (len(took)*percent + 99) / 100
	return slices.Sorted(slices.Values(took))[max(0, rank-1)]
}

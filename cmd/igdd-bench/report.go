package main

import (
	"cmp"
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
// have. There is no ratio to nothing, and none for some units.
func ratios(u unit, theirs, ours *cell) (all []float64) {
	if u.hasNoRatio {
		return nil
	}
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

// compare returns the text of a cell for what two daemons have reached, each of which may
// lack; "" if both do.
func compare(u unit, theirs, ours *cell) string {
	switch {
	case theirs == nil && ours == nil:
		return ""
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

// columns are the numbers of mappings present that a table can have a column for.
var columns = []int{0, 1000, 5000, 10000}

// write prints a table for each topic, with the rows that have been measured.
func (t results) write(w io.Writer, groups []group) {
	for _, about := range topics {
		var lines []line
		for _, g := range groups {
			for _, r := range g.rows {
				if l := t.line(r, g.daemons); r.topic == about && !l.isEmpty() {
					lines = append(lines, l)
				}
			}
		}
		writeTable(w, about, lines)
	}
}

// line is a line of a table. A cell is "" if nothing was measured.
type line struct {
	what  string
	cells []string // by column
}

func (l line) isEmpty() bool { return strings.Join(l.cells, "") == "" }

// line returns the line of a row.
func (t results) line(r row, daemons []daemon) line {
	l := line{what: r.what}
	for _, n := range columns {
		var pair [2]*cell // that of one daemon alone is ours
		for i, d := range daemons {
			pair[i+len(pair)-len(daemons)] = t[key{r.name, n, d.name}]
		}
		l.cells = append(l.cells, compare(r.unit, pair[0], pair[1]))
	}
	return l
}

// writeTable prints a table with the columns that any of its lines needs.
func writeTable(w io.Writer, about topic, lines []line) {
	if len(lines) == 0 {
		return
	}
	head, under := "| "+string(about)+" |", "| --- |"
	texts := make([]string, len(lines))
	for at, n := range columns {
		if !slices.ContainsFunc(lines, func(l line) bool { return l.cells[at] != "" }) {
			continue
		}
		head += " " + grouped(n) + " mappings |"
		under += " --- |"
		for i, l := range lines {
			texts[i] += " " + cmp.Or(l.cells[at], "–") + " |"
		}
	}
	fmt.Fprintf(w, "\n%s\n%s\n", head, under)
	for i, l := range lines {
		fmt.Fprintf(w, "| %s |%s\n", l.what, texts[i])
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
* Cells are miniupnpd → igdd, and how many times better igdd is: the median of rounds in which one followed the other, with
  their range in brackets; without brackets there was one round. A single value is igdd's. Where a row names a setting, both
  are igdd.
* Values are medians of the rounds; times of one client are medians of a round's operations. Memory is resident (RSS).
* Each round starts the daemon anew on a router that has just booted, with the mappings in its lease file. miniupnpd would take
  half an hour to restore 10,000. Connections from the Internet go to one mapping at least.
* The kernel's own time is that of reading and replacing the tables nat and filter of iptables-legacy: nobody can
  open a mapping faster.
* "All that follow" is the first of a row of ports that other hosts have mapped. miniupnpd closes every HTTP connection, also if
  the client asks to keep it.
* Another program changes the firewall by iptables -A and -D every %v, in a chain that has nothing to do with mappings. miniupnpd
  does not watch the firewall: that costs it nothing, and it does not restore what others remove.
* Wake-ups and memory without clients are those of the %v that begin %v after the start.
* A flood is %d requests per second, or 64 connections. An honest client sends requests of the same kind, beside connections
  GetExternalIPAddress; at once means within %v.
* The ARM machine is emulated, and slower than a router. Starts in it follow one that does not count.
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

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// key identifies a cell of the table.
type key struct {
	row     string
	present int
	daemon  string
}

// cell has the values of one daemon in all rounds, and the errors.
type cell struct {
	values []float64
	errors []string
}

// results is the table of what has been measured so far.
type results map[key]*cell

func (t results) add(k key, value float64, err error) {
	c := t[k]
	if c == nil {
		c = new(cell)
		t[k] = c
	}
	if err != nil {
		c.errors = append(c.errors, err.Error())
	} else {
		c.values = append(c.values, value)
	}
}

// String returns the median of the rounds, and their range.
func (c *cell) String() string {
	switch {
	case c == nil:
		return "–"
	case len(c.values) == 0:
		return "failed"
	case len(c.values) == 1:
		return figure(c.values[0])
	}
	return fmt.Sprintf("%s (%s–%s)", figure(median(c.values)), figure(slices.Min(c.values)), figure(slices.Max(c.values)))
}

// figure returns three digits of a number, or all digits before the point.
func figure(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// ratio returns how many times better ours is than theirs.
func ratio(u unit, theirs, ours *cell) string {
	if theirs == nil || ours == nil || len(theirs.values) == 0 || len(ours.values) == 0 {
		return "–"
	}
	a, b := median(theirs.values), median(ours.values)
	if u.higherIsBetter {
		a, b = b, a
	}
	if b == 0 {
		return "–"
	}
	return figure(a/b) + "×"
}

// write prints the rows of the table that have been measured.
func (t results) write(w io.Writer, daemons []daemon) {
	head, under := "| row | present | unit |", "| --- | ---: | --- |"
	for _, d := range daemons {
		head += " " + d.name + " |"
		under += " ---: |"
	}
	if len(daemons) > 1 {
		head += " ratio |"
		under += " ---: |"
	}
	fmt.Fprintf(w, "%s\n%s\n", head, under)
	for _, r := range rows {
		for _, n := range r.present {
			t.writeRow(w, r, n, daemons)
		}
	}
}

func (t results) writeRow(w io.Writer, r row, n int, daemons []daemon) {
	line := fmt.Sprintf("| %s | %d | %s |", r.what, n, r.unit.name)
	var cells []*cell
	for _, d := range daemons {
		c := t[key{r.name, n, d.name}]
		cells = append(cells, c)
		line += fmt.Sprintf(" %v |", c)
	}
	if !slices.ContainsFunc(cells, func(c *cell) bool { return c != nil }) {
		return
	}
	if len(daemons) > 1 {
		line += " " + ratio(r.unit, cells[0], cells[1]) + " |"
	}
	fmt.Fprintln(w, line)
}

// writeErrors prints why cells are empty: each error once, with its rows.
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
A value is the median of the rounds, with their range in brackets; a time for one client is the median of a round's
operations (p50). The ratio says how many times better igdd is. Each round starts the daemon anew on a router that
has just booted, with the mappings in its lease file. Wake-ups and memory without clients are those of %v, after %v.
miniupnpd closes every HTTP connection, also if the client asks to keep it. "All that follow": the first of a row of ports that
other hosts have mapped.
`

// median returns the middle of values, the upper one of two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

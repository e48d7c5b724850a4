package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
)

// key tells cells of the table apart.
type key struct {
	row     string
	present int
	daemon  string
}

// cell is what one daemon did in all rounds: a value for each, and the faults.
type cell struct {
	values []float64
	faults []string
}

// results is the table while it grows.
type results map[key]*cell

func (t results) add(k key, value float64, err error) {
	c := t[k]
	if c == nil {
		c = new(cell)
		t[k] = c
	}
	if err != nil {
		c.faults = append(c.faults, err.Error())
	} else {
		c.values = append(c.values, value)
	}
}

// String shows the median of the rounds, and the span of all of them.
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

// figure shows three digits of a number, or all of those before the point.
func figure(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// ratio shows how many times better ours is.
func ratio(u unit, theirs, ours *cell) string {
	if theirs == nil || ours == nil || len(theirs.values) == 0 || len(ours.values) == 0 {
		return "–"
	}
	a, b := median(theirs.values), median(ours.values)
	if u.moreBetter {
		a, b = b, a
	}
	if b == 0 {
		return "–"
	}
	return figure(a/b) + "×"
}

// write prints the rows of the table that have been measured.
func (t results) write(w io.Writer, daemons []daemon) {
	fmt.Fprint(w, "| row | present | unit |")
	for _, d := range daemons {
		fmt.Fprintf(w, " %s |", d.name)
	}
	fmt.Fprint(w, " ratio |\n| --- | ---: | --- | ")
	for range daemons {
		fmt.Fprint(w, "---: | ")
	}
	fmt.Fprint(w, "---: |\n")
	for _, r := range rows {
		for _, n := range r.present {
			t.writeRow(w, r, n, daemons)
		}
	}
}

func (t results) writeRow(w io.Writer, r row, n int, daemons []daemon) {
	cells := make([]*cell, len(daemons))
	known := false
	for i, d := range daemons {
		cells[i] = t[key{r.name, n, d.name}]
		known = known || cells[i] != nil
	}
	if !known {
		return
	}
	fmt.Fprintf(w, "| %s | %d | %s |", r.what, n, r.unit.name)
	for _, c := range cells {
		fmt.Fprintf(w, " %v |", c)
	}
	fmt.Fprintf(w, " %s |\n", ratio(r.unit, cells[0], cells[len(cells)-1]))
}

// writeFaults says once why cells are empty.
func (t results) writeFaults(w io.Writer) {
	var lines []string
	for k, c := range t {
		for _, fault := range c.faults {
			lines = append(lines, fmt.Sprintf("* %s, %s with %d: %s\n", k.daemon, k.row, k.present, fault))
		}
	}
	slices.Sort(lines)
	for _, line := range slices.Compact(lines) {
		fmt.Fprint(w, line)
	}
}

// median returns the middle of values, the upper one of two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

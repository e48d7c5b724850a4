package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// cellOf returns a cell with the value of each round; a negative one is missing.
func cellOf(values ...float64) *cell {
	c := &cell{values: make(map[int]float64)}
	for i, v := range values {
		if v >= 0 {
			c.values[i] = v
		}
	}
	return c
}

// TestCompare tests medians, ratios of the rounds that belong together, and their range.
func TestCompare(t *testing.T) {
	failed := &cell{errors: []string{"no"}}
	for name, test := range map[string]struct {
		unit         unit
		theirs, ours *cell
		want         string
	}{
		"pairs, not medians": {micros, cellOf(1000, 8000, 3000), cellOf(1000, 2000, 6000), "3.0 ms → 2.0 ms, 1.0× (0.50–4.0)"},
		"two rounds":         {micros, cellOf(400, 200), cellOf(100, 100), "300 µs → 100 µs, 3.0× (2.0–4.0)"},
		"higher is better":   {perSecond, cellOf(100, 100, 100), cellOf(2600, 2500, 2700), "100 /s → 2600 /s, 26× (25–27)"},
		"one common round":   {micros, cellOf(4e8), cellOf(8e5, 9e5), "400 s → 850 ms, 500×"},
		"a failed round":     {micros, cellOf(-1, 200), cellOf(100, 100), "200 µs → 100 µs, 2.0×"},
		"no common round":    {micros, cellOf(-1, 200), cellOf(100), "200 µs → 100 µs"},
		"nothing":            {micros, cellOf(0, 0), cellOf(3000, 5000), "0 → 4.0 ms"},
		"ours alone":         {kibibytes, nil, cellOf(10240), "10 MiB"},
		"theirs alone":       {count, cellOf(7), nil, "7 → –"},
		"ours failed":        {percent, cellOf(100), failed, "100 % → failed"},
		"no ratio":           {percent, cellOf(40), cellOf(80), "40 % → 80 %"},
		"neither":            {micros, nil, nil, ""},
	} {
		if got := compare(test.unit, test.theirs, test.ours); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestText tests figures with their units.
func TestText(t *testing.T) {
	for _, test := range []struct {
		unit  unit
		value float64
		want  string
	}{
		{micros, 9.44, "9.4 µs"}, {micros, 999, "999 µs"}, {micros, 1234, "1.2 ms"}, {micros, 12.4e6, "12 s"},
		{kibibytes, 1946, "1.9 MiB"}, {perSecond, 4636.4, "4636 /s"}, {count, 0, "0"}, {count, 2.5, "2.5"}, {percent, 98.2, "98 %"},
	} {
		if got := test.unit.text(test.value); got != test.want {
			t.Errorf("%v as %v: %q, want %q", test.value, test.unit, got, test.want)
		}
	}
}

// TestMiddle tests medians and percentiles, which leave their values in order.
func TestMiddle(t *testing.T) {
	values := []float64{3, 1, 2, 10}
	if got := median(values); got != 2.5 {
		t.Errorf("median of %v: %v", values, got)
	}
	if got := median(values[:3]); got != 2 {
		t.Errorf("median of %v: %v", values[:3], got)
	}
	took := []time.Duration{5, 1, 4, 2, 3}
	for percent, want := range map[int]time.Duration{0: 1, 20: 1, 21: 2, 50: 3, 99: 5, 100: 5} {
		if got := percentile(took, percent); got != want {
			t.Errorf("percentile %d: %v, want %v", percent, got, want)
		}
	}
	if got := percentile(nil, 50); got != 0 {
		t.Errorf("percentile of nothing: %v", got)
	}
	if !slices.Equal(values, []float64{3, 1, 2, 10}) || !slices.Equal(took, []time.Duration{5, 1, 4, 2, 3}) {
		t.Errorf("values moved: %v, %v", values, took)
	}
}

// TestTables tests that there is a table for each topic, with the rows and columns that
// were measured, and a footnote for each error.
func TestTables(t *testing.T) {
	groups := []group{
		{daemons: []daemon{{name: "igdd"}}, rows: []row{
			{name: "alone", topic: changeTopic, what: "ours alone", unit: micros},
			{name: "first", topic: startTopic, what: "the first", unit: kibibytes},
		}},
		{daemons: []daemon{{name: "miniupnpd"}, {name: "igdd"}}, rows: []row{
			{name: "one", topic: changeTopic, what: "the one", unit: micros},
			{name: "other", topic: changeTopic, what: "the other"},
			{name: "flood", topic: floodTopic, what: "a flood"},
		}},
	}
	measured := make(results)
	measured.add(key{"one", 0, "miniupnpd"}, 0, 6000, nil)
	measured.add(key{"one", 0, "igdd"}, 0, 2000, nil)
	measured.add(key{"one", 5000, "igdd"}, 0, 0, errors.New("lost"))
	measured.add(key{"alone", 5000, "igdd"}, 0, 10, nil)
	measured.add(key{"first", 1000, "igdd"}, 0, 1024, nil)
	var text strings.Builder
	measured.write(&text, groups)
	measured.writeErrors(&text)
	const want = `
| Start and memory | 1,000 mappings |
| --- | --- |
| the first | 1.0 MiB |

| New mappings | 0 mappings | 5,000 mappings |
| --- | --- | --- |
| ours alone | – | 10 µs |
| the one | 6.0 ms → 2.0 ms, 3.0× | failed |

Failed: igdd with 5000: lost (one)
`
	if text.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &text, want)
	}
}

// TestSchedule tests that daemons alternate in who is first, and that none has more rounds
// than the size says.
func TestSchedule(t *testing.T) {
	g := group{
		daemons: []daemon{{name: "a"}, {name: "b"}},
		sizes:   []size{{present: 1000, first: 2, second: 3, isSlow: true}},
		rows:    []row{{name: "one", present: []int{1000}, measure: (*round).memory}},
	}
	for quick, want := range map[bool]string{false: "a0 b0 b1 a1 b2", true: "b0"} {
		var got []string
		for _, s := range g.schedule(quick) {
			for _, d := range s.daemons {
				got = append(got, d.name+string(rune('0'+s.round)))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("quick %v: %v, want %s", quick, got, want)
		}
	}
}

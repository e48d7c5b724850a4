// Package metrics counts events, measures times and writes both in Prometheus' text
// format.
package metrics

import (
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Registry holds metric families. The zero Registry is empty.
type Registry struct {
	mu       sync.Mutex // held while the families are read
	families []family
}

// family is a metric with all of its series.
type family interface {
	// appendTo appends the family's lines.
	appendTo(text []byte) []byte
}

// Text returns all families in the text format, version 0.0.4, in the order in which
// they were added. It calls update before, to set the gauges; calls wait for each
// other.
func (r *Registry) Text(update func()) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	update()
	var text []byte
	for _, f := range r.families {
		text = f.appendTo(text)
	}
	return string(text)
}

// add adds a family.
func (r *Registry) add(f family) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.families = append(r.families, f)
}

// Label is a label with all values that it can have.
type Label struct {
	Name   string
	Values []string
}

// vector is what families have in common: one series for each combination of the
// labels' values.
type vector struct {
	name, help, kind string
	labels           []Label
	series           []string // the labels of each as text, `a="x",b="y"`
}

// newVector returns a vector with all series.
func newVector(name, help, kind string, labels []Label) vector {
	v := vector{name: name, help: help, kind: kind, labels: labels, series: []string{""}}
	for _, l := range labels {
		var longer []string
		for _, s := range v.series {
			for _, value := range l.Values {
				longer = append(longer, joinLabels(s, l.Name, value))
			}
		}
		v.series = longer
	}
	return v
}

// joinLabels appends a label to the text of others.
func joinLabels(others, name, value string) string {
	text := name + `="` + escapeValue(value) + `"`
	if others == "" {
		return text
	}
	return others + "," + text
}

// index returns the index of the series with these values, one for each label, or false
// if there is none.
func (v *vector) index(values []string) (int, bool) {
	if len(values) != len(v.labels) {
		return 0, false
	}
	at := 0
	for i, l := range v.labels {
		j := slices.Index(l.Values, values[i])
		if j < 0 {
			return 0, false
		}
		at = at*len(l.Values) + j
	}
	return at, true
}

// appendHead appends the lines about the family itself.
func (v *vector) appendHead(text []byte) []byte {
	text = append(text, "# HELP "+v.name+" "+escapeHelp(v.help)+"\n"...)
	return append(text, "# TYPE "+v.name+" "+v.kind+"\n"...)
}

// appendSample appends the line of one value.
func appendSample(text []byte, name, labels string, value float64) []byte {
	text = append(text, name...)
	if labels != "" {
		text = append(text, "{"+labels+"}"...)
	}
	text = append(text, ' ')
	text = strconv.AppendFloat(text, value, 'f', -1, 64)
	return append(text, '\n')
}

func escapeValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(s)
}

func escapeHelp(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(s)
}

package vectors

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Expectation is what a reply must look like.
type Expectation struct {
	AnyOf []Expectation `json:"any_of"` // one of them must hold

	Reply       *bool      // false: silence; nil: a reply
	ReplySource netip.Addr `json:"reply_source"`
	ICMP        string     // port-unreachable: instead of silence
	Len         Constraint
	Hex         string // ?? for octets that are not compared
	Fields      map[string]Constraint

	// Capture means packets that come unasked, at these times after the event.
	Capture    bool
	To         netip.Addr
	Port       any       // a number, or words
	SourcePort uint16    `json:"source_port"`
	At         []float64 `json:"at_seconds"`
	Tolerance  float64   `json:"tolerance_seconds"`
}

// Silent reports whether no reply may come.
func (e Expectation) Silent() bool { return e.Reply != nil && !*e.Reply }

// Times returns when the captured packets are due after the event.
func (e Expectation) Times() []time.Duration {
	var times []time.Duration
	for _, s := range e.At {
		times = append(times, time.Duration(s*float64(time.Second)))
	}
	return times
}

// Number returns what a numeric field must be, the least that it may be, or
// otherwise when the vector does not care.
func (e Expectation) Number(field string, otherwise float64) float64 {
	if len(e.AnyOf) > 0 {
		return e.AnyOf[0].Number(field, otherwise)
	}
	c := e.Fields[field]
	if n, ok := c.Equal.(float64); ok {
		return n
	}
	if c.Min != nil {
		return *c.Min
	}
	return otherwise
}

// Check compares a reply, nil for none, with the expectation and returns what
// differs.
func (e Expectation) Check(reply []byte) []string {
	var fewest []string
	for _, alternative := range e.AnyOf {
		differences := alternative.Check(reply)
		if len(differences) == 0 {
			return nil
		}
		if fewest == nil || len(differences) < len(fewest) {
			fewest = differences
		}
	}
	switch {
	case fewest != nil:
		return fewest
	case e.Silent() && reply != nil:
		return []string{fmt.Sprintf("a reply, want silence: %x", reply)}
	case e.Silent():
		return nil
	case reply == nil:
		return []string{"no reply"}
	}
	return e.compare(reply)
}

func (e Expectation) compare(reply []byte) []string {
	var differences []string
	differ := func(name string, want Constraint, got any) {
		if !want.allows(got) {
			differences = append(differences, fmt.Sprintf("%s is %v, want %v", name, got, want))
		}
	}
	differ("length", e.Len, float64(len(reply)))
	fields := decode(reply)
	for name, want := range e.Fields {
		got, ok := fields[name]
		if !ok && !want.free() {
			differences = append(differences, name+" is missing")
		} else if ok {
			differ(name, want, got)
		}
	}
	slices.Sort(differences)
	if len(e.Hex) == 2*len(reply) {
		differences = append(differences, e.compareOctets(reply)...)
	}
	return differences
}

func (e Expectation) compareOctets(reply []byte) []string {
	for i, got := range reply {
		digits := e.Hex[2*i : 2*i+2]
		if want, err := strconv.ParseUint(digits, 16, 8); digits != "??" && (err != nil || byte(want) != got) {
			return []string{fmt.Sprintf("octet %d is %02x, want %s", i, got, digits)}
		}
	}
	return nil
}

// Constraint is what one value must be: equal to a JSON value, or within
// bounds. The zero Constraint allows everything.
type Constraint struct {
	Equal    any
	Min, Max *float64
	In, Not  []any
}

// UnmarshalJSON reads null, a value, or an object of bounds.
func (c *Constraint) UnmarshalJSON(text []byte) error {
	type bounds Constraint
	if text[0] == '{' {
		return json.Unmarshal(text, (*bounds)(c))
	}
	return json.Unmarshal(text, &c.Equal)
}

// String shows the constraint as it stands in the file.
func (c Constraint) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (c Constraint) free() bool { return reflect.ValueOf(c).IsZero() }

// allows judges a value that has the form which JSON gives it.
func (c Constraint) allows(got any) bool {
	is := func(want any) bool { return reflect.DeepEqual(want, got) }
	number, isNumber := got.(float64)
	switch {
	case c.Equal != nil && !is(c.Equal),
		c.In != nil && !slices.ContainsFunc(c.In, is),
		slices.ContainsFunc(c.Not, is),
		c.Min != nil && (!isNumber || number < *c.Min),
		c.Max != nil && (!isNumber || number > *c.Max):
		return false
	}
	return true
}

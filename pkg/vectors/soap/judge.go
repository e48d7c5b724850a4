package soap

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// judge returns what is wrong with an answer.
func (p *player) judge(v Vector, a Answer) (differences []string) {
	e, o := v.Expect, a.outcome()
	complain := func(format string, args ...any) {
		differences = append(differences, fmt.Sprintf(format, args...))
	}
	switch {
	case e.HTTPAny != nil:
		if !slices.Contains(e.HTTPAny, a.Status) {
			complain("status %d, want one of %v", a.Status, e.HTTPAny)
		}
		if e.NoSuccess && o.out != nil {
			complain("the action succeeded")
		}
		if o.fault != e.Fault && e.Fault != "" {
			complain("%v, want fault %s", o, e.Fault)
		}
	case e.Error != nil:
		switch {
		case o.code != e.Error.Code && !slices.Contains(e.AcceptCodes, o.code):
			complain("%v, want error %d", o, e.Error.Code)
		case a.Status != 500:
			complain("an error with status %d", a.Status)
		case o.code == e.Error.Code && o.text != e.Error.Description:
			complain("text %q, want %q", o.text, e.Error.Description)
		}
	case slices.Contains(e.AcceptCodes, o.code) && o.code != 0:
	case o.out == nil || a.Status != e.HTTP:
		complain("status %d, %v", a.Status, o)
	default:
		differences = p.judgeResults(v, o)
	}
	return differences
}

// judgeResults returns what is wrong with the results of an action.
func (p *player) judgeResults(v Vector, o outcome) (differences []string) {
	namespace := or(v.Expect.Namespace, "urn:schemas-upnp-org:service:"+v.Service)
	if v.Request.Query {
		namespace = "urn:schemas-upnp-org:control-1-0"
	}
	if o.namespace != namespace || o.name != v.Action+"Response" {
		differences = append(differences, fmt.Sprintf("answer {%s}%s", o.namespace, o.name))
	}
	names := v.Expect.Names
	for _, out := range v.Expect.Out {
		names = append(names, unquote(out[0]))
	}
	if len(o.out) != len(names) {
		return append(differences, fmt.Sprintf("results %q, want %v", o.out, names))
	}
	for i, got := range o.out {
		if got[0] != names[i] {
			differences = append(differences, fmt.Sprintf("result %s, want %s", got[0], names[i]))
		}
		if v.Expect.Out != nil && !p.matches(v.Expect.Out[i][1], got[1]) {
			differences = append(differences, fmt.Sprintf("%s is %q, want %s", got[0], got[1], v.Expect.Out[i][1]))
		}
	}
	return differences
}

func unquote(raw json.RawMessage) (text string) {
	if json.Unmarshal(raw, &text) != nil {
		return string(raw)
	}
	return text
}

// matcher is what a value must be like.
type matcher struct {
	RE      string
	Type    string // ui2, ui4
	Min     *int
	Max     int
	Not     int
	Length  *int                         `json:"listing_len"`
	Entries []map[string]json.RawMessage `json:"listing"`
}

// matches compares a value with the one wanted, or with a matcher.
func (p *player) matches(want json.RawMessage, got string) bool {
	if !strings.HasPrefix(string(want), "{") {
		return p.fill(unquote(want), p.saved) == got
	}
	var m matcher
	if json.Unmarshal(want, &m) != nil {
		return false
	}
	number, err := strconv.ParseUint(got, 10, 32)
	switch {
	case m.RE != "":
		return regexp.MustCompile(m.RE).MatchString(got)
	case m.Type == "ui2":
		return err == nil && number < 1<<16
	case m.Type == "ui4":
		return err == nil
	case m.Min != nil:
		return err == nil && int(number) >= *m.Min && int(number) <= m.Max && (m.Not == 0 || int(number) != m.Not)
	}
	return p.matchesListing(m, got)
}

// listed are the names of an entry's parts in a listing, where they differ
// from those of arguments.
var listed = map[string]string{"NewDescription": "NewPortMappingDescription", "NewLeaseTime": "NewLeaseDuration"}

func (p *player) matchesListing(m matcher, got string) bool {
	var list node
	if xml.Unmarshal([]byte(got), &list) != nil {
		return false
	}
	var rows [][]Argument
	for _, e := range list.Children {
		var row []Argument
		for _, c := range e.Children {
			row = append(row, Argument{or(listed[c.XMLName.Local], c.XMLName.Local), c.Text})
		}
		rows = append(rows, row)
	}
	if m.Length != nil {
		return len(rows) == *m.Length
	}
	return len(rows) == len(m.Entries) && !slices.ContainsFunc(m.Entries, func(want map[string]json.RawMessage) bool {
		return !slices.ContainsFunc(rows, func(row []Argument) bool { return p.fits(want, row) })
	})
}

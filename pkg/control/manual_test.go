package control

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/event"
)

// manual is the page that documents what the tool prints.
const manual = "../../rootfs-overlay/usr/share/man/man8/miniupnpctl.8"

// documentedFields returns the fields of each kind of object in the manual, where a
// comment names the kind before the list of its fields.
func documentedFields(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	fields, kind := make(map[string][]string), ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, is := strings.CutPrefix(line, `.\" JSON `); is {
			kind = name
		} else if list, is := strings.CutPrefix(line, ".It Va "); is && kind != "" {
			fields[kind] = append(fields[kind], strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' })...)
		} else if line == ".El" {
			kind = ""
		}
	}
	return fields
}

// fieldsOf returns the names that the fields of a type have as JSON.
func fieldsOf(of reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(of) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// TestManualHasEveryField compares the objects in the manual with those that the tool
// prints.
func TestManualHasEveryField(t *testing.T) {
	documented := documentedFields(t)
	printed := map[string]reflect.Type{
		"overview": reflect.TypeFor[overview](), "mapping": reflect.TypeFor[Entry](), "status": reflect.TypeFor[Status](),
		"link": reflect.TypeFor[Link](), "route": reflect.TypeFor[Route](), "firewall": reflect.TypeFor[Firewall](), "ports": reflect.TypeFor[PortCount](),
		"upstream": reflect.TypeFor[Upstream](),
		"deleted":  reflect.TypeFor[deleted](),
		"blocked":  reflect.TypeFor[blocked](), "block": reflect.TypeFor[BlockEntry](), "unblocked": reflect.TypeFor[unblocked](),
		"verdict": reflect.TypeFor[verdict](), "event": reflect.TypeFor[printedEvent](), "step": reflect.TypeFor[step](), "path": reflect.TypeFor[path](),
	}
	for kind, of := range printed {
		want, got := fieldsOf(of), documented[kind]
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the manual has the fields\n%v, printed are\n%v", kind, got, want)
		}
	}
	if len(documented) != len(printed) {
		t.Errorf("the manual has %d kinds of objects, %d are printed", len(documented), len(printed))
	}
	if n := len(fieldsOf(reflect.TypeFor[event.Event]())); n < 20 {
		t.Errorf("an event has %d fields", n)
	}
}

package daemon

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/event"
	"igdd/pkg/portmap"
)

// monitoring returns a document about monitoring.
func monitoring(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../rootfs-overlay/usr/share/doc/igdd/monitoring/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// found returns the first group of each match, sorted and each once.
func found(pattern, text string) (list []string) {
	for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// families returns the names of all metrics that miniupnpctl prints.
func families() []string {
	return found(`^# TYPE (\w+) `, NewMetrics("1.2").registry.Text(func() {}))
}

// demandSame demands that two lists have the same names.
func demandSame(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s: %s does not exist", what, name)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s: %s is missing", what, name)
		}
	}
}

func TestMetricsAreDocumented(t *testing.T) {
	page := monitoring(t, "README.md")
	demandSame(t, "the table of metrics", found("^\\| `(igdd_\\w+)`", page), families())
	var reasons []string
	for r := range portmap.Refusals() {
		reasons = append(reasons, r.Slug())
	}
	var kinds []string
	for _, k := range event.Kinds() {
		kinds = append(kinds, string(k))
	}
	row := regexp.MustCompile("(?m)^\\| `igdd_events_total`.*shows: (.*)$").FindStringSubmatch(page)
	if row == nil {
		t.Fatal("the table of metrics does not list the events")
	}
	demandSame(t, "the row of events", found("`(\\w+)`", row[1]), kinds)
	_, after, _ := strings.Cut(page, "## Reasons")
	section, _, _ := strings.Cut(after, "\n## ")
	slices.Sort(reasons)
	demandSame(t, "the table of reasons", found("^\\| `(\\w+)`", section), reasons)
}

func TestAlertsAreDocumented(t *testing.T) {
	alerts := found(`^ *- alert: (\w+)$`, monitoring(t, "alerts.yml"))
	demandSame(t, "the table of alerts", found("^\\| `(Igdd\\w+)`", monitoring(t, "README.md")), alerts)
	text, err := os.ReadFile("../../scripts/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	demandSame(t, "the tests of alerts", found(`alertname: (\w+)$`, string(text)), alerts)
}

// TestAlertsUseWhatThereIs demands that the rules name only metrics, and only values of
// labels, that exist.
func TestAlertsUseWhatThereIs(t *testing.T) {
	rules, metrics := monitoring(t, "alerts.yml"), families()
	output := NewMetrics("1.2").registry.Text(func() {})
	for _, name := range found(`\b(igdd_\w+)`, rules) {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if !slices.Contains(metrics, name) && !strings.Contains(output, "# TYPE "+base+" histogram") {
			t.Errorf("the alerts use %s, which does not exist", name)
		}
	}
	for _, values := range found(`=~?"(\w+(?:\|\w+)*)"`, rules) {
		for value := range strings.SplitSeq(values, "|") {
			if !strings.Contains(output, `="`+value+`"`) {
				t.Errorf("the alerts use the value %q, which no label has", value)
			}
		}
	}
}

package control

import (
	"fmt"
	"io"
)

// metrics prints the daemon's metrics in Prometheus' text format, all of them or
// nothing.
func (t *tool) metrics(args []string) (exitStatus, error) {
	if err := noArgs(args); err != nil {
		return 0, err
	}
	if t.json {
		return 0, fmt.Errorf("%w: metrics prints Prometheus' text format only: omit --json", errUsage)
	}
	var text string
	if err := t.call(request{Do: doMetrics}, func(a reply) error { text += a.Metrics; return nil }); err != nil {
		return 0, err
	}
	_, err := io.WriteString(t.stdout, text)
	return exitDone, err
}

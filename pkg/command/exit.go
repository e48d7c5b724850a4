package command

import (
	"fmt"
	"os"
	"strings"
)

// ExitError is the end of a program with a status other than 0, or by a signal
// that did not come from Run.
type ExitError struct {
	*os.ProcessState
	Stderr []byte // what it printed to standard error
}

// Error returns the status and, quoted in one line, what the program printed to
// standard error.
func (e *ExitError) Error() string {
	text := strings.TrimSpace(string(e.Stderr))
	if text == "" {
		return e.ProcessState.String()
	}
	return fmt.Sprintf("%v: %q", e.ProcessState, strings.ReplaceAll(text, "\n", "; "))
}

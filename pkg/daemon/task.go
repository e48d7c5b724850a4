package daemon

import (
	"context"
	"fmt"
)

// task is what runs as long as the service does.
type task struct {
	name string
	run  func(context.Context) error
}

// Run runs the task until ctx ends. An error names the task.
func (t task) Run(ctx context.Context) error {
	if err := t.run(ctx); err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	return nil
}

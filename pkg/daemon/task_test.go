package daemon

import (
	"context"
	"errors"
	"testing"

	"igdd/pkg/config"
	"igdd/pkg/notify"
	"igdd/pkg/stun"
	"igdd/pkg/upnpd"
)

func TestErrorNamesTheTask(t *testing.T) {
	broken := errors.New("out of memory")
	err := task{"announcer", func(context.Context) error { return broken }}.Run(t.Context())
	if !errors.Is(err, broken) || err.Error() != "announcer: out of memory" {
		t.Errorf("%v", err)
	}
	if err := (task{"announcer", func(context.Context) error { return nil }}).Run(t.Context()); err != nil {
		t.Errorf("a task that ends well: %v", err)
	}
}

// TestTasksHaveNames demands that no two tasks of a daemon with everything share
// a name.
func TestTasksHaveNames(t *testing.T) {
	d := &Daemon{
		config: &config.Config{ControlSocket: "/run/ctl"},
		http:   new(upnpd.Server), notify: new(notify.Runner), stun: new(stun.Follower),
	}
	seen := make(map[string]bool)
	for _, task := range d.tasks(nil) {
		if task.name == "" || task.run == nil || seen[task.name] {
			t.Errorf("task %q", task.name)
		}
		seen[task.name] = true
	}
	if len(seen) != 11 {
		t.Errorf("%d tasks", len(seen))
	}
}

package portmap

import "context"

// Report takes over what became of forwardings, and waits until that is in force.
func (t *Table) Report(ctx context.Context, reports []Report) error {
	return t.runTask(ctx, func() {})
}

package netfilter_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

func TestOwnChangesGiveNoNotice(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		f := r.firewall(t, options(t))
		must(t, f.Setup())
		var touched func() bool
		must(t, r.Do(func() (err error) { touched, err = f.Notifier(r.lock); return err }))
		one := mapping(portmap.TCP, 3001, "192.168.50.10:80")
		for _, work := range []struct {
			name   string
			do     func() error
			notice bool // asks for another check
		}{
			{"apply", func() error { return f.Apply(open(one)) }, false},
			{"sync", func() error { return f.Sync(hundred()) }, true},
			{"sync again", func() error { return f.Sync(hundred()) }, false},
			{"setup", f.Setup, false},
			{"healthy", func() error { _, err := f.Healthy(); return err }, false},
			{"forwards", func() error { _, err := f.StaticForwards(netfilter.Uplink{}); return err }, false},
			{"counters", func() error { _, err := f.Counters(); return err }, false},
			{"failure", func() error {
				if f.Apply(closing(one)) == nil {
					t.Error("a rule that is not there can be deleted")
				}
				return nil
			}, false},
		} {
			must(t, work.do())
			if got := touched(); got != work.notice {
				t.Errorf("%s: notice %v", work.name, got)
			}
		}
		for range 2 {
			r.iptables(t, "-A FORWARD -j DROP")
			if !touched() {
				t.Error("no notice of a rule that another program has changed")
			}
			// What others did before an own change is noticed as well.
			r.iptables(t, "-D FORWARD -j DROP")
			must(t, f.Sync(hundred()))
			if !touched() {
				t.Error("no notice of what others did before an own change")
			}
		}
		if touched() {
			t.Error("a notice without a change")
		}
		must(t, f.Teardown())
	})
}

func TestWatch(t *testing.T) {
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			r := newRouter(t, variant)
			t.Setenv("XTABLES_LOCKFILE", r.lock) // Watch looks for it on all threads
			testWatch(t, r)
		})
	}
}

func testWatch(t *testing.T, r *router) {
	f := r.firewall(t, ipv4(t))
	must(t, f.Sync(hundred()[1:]))
	want := r.rules(t)
	ctx, cancel := context.WithCancel(t.Context())
	restored, ended := make(chan error), make(chan error)
	go func() {
		ended <- r.Do(func() error {
			return f.Watch(ctx, func() {
				switch ok, err := f.Healthy(); {
				case err != nil:
					restored <- err
				case !ok:
					restored <- f.Sync(hundred()[1:])
				}
			})
		})
	}()
	for range 3 {
		flushed := func() bool {
			r.iptables(t, "-t nat -F", "-F")
			select {
			case err := <-restored:
				must(t, err)
				return true
			default:
				return false
			}
		}
		eventually(t, "flushed chains are filled again", flushed)
	}
	cancel()
	for done := false; !done; {
		select {
		case err := <-restored:
			must(t, err)
		case err := <-ended:
			must(t, err)
			done = true
		}
	}
	must(t, f.Sync(hundred()[1:]))
	wantRules(t, r, want)
	must(t, f.Teardown())
}

// TestLockFileAppearsLater has the lock file created by the first iptables, and
// removed.
func TestLockFileAppearsLater(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	f := r.firewall(t, options(t)) // its check of the kernel has made the lock file
	must(t, os.Remove(r.lock))
	touched, err := f.Notifier(r.lock)
	must(t, err)
	for range 2 {
		must(t, os.WriteFile(filepath.Join(filepath.Dir(r.lock), "other"), nil, 0o600))
		if touched() {
			t.Error("a notice of another file")
		}
		for range 2 {
			r.iptables(t, "-A FORWARD -j ACCEPT")
			if !touched() {
				t.Error("no notice")
			}
		}
		must(t, os.Remove(r.lock))
		if !touched() {
			t.Error("no notice of the lock file that was removed")
		}
	}
}

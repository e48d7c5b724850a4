package xtables_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/xtables"
)

// watched is a router whose firewall is watched.
type watched struct {
	nsPrograms
	*xtables.Watch
}

// watch opens the notices of a router's firewall.
func (r *router) watch(t testing.TB) watched {
	t.Helper()
	p := r.programs(t, new(strings.Builder))
	w := watched{p, p.NewWatch()}
	must(t, r.Do(func() error { return w.Open(p.Programs, r.lock) }))
	t.Cleanup(w.Watch.Close)
	return w
}

// work does own work, with as many commits as it reports.
func (w watched) work(do func() (commits int, err error)) error {
	return w.router.Do(func() error {
		work := w.Begin()
		defer work.End()
		n, err := do()
		work.Committed(n)
		return err
	})
}

// told returns what has been told of changes since the last call: "changed",
// "unsure" or nothing.
func (w watched) told(t testing.TB) string {
	t.Helper()
	w.Read()
	var all []string
	select {
	case <-w.Changed:
		all = append(all, "changed")
	default:
	}
	select {
	case <-w.Unsure:
		all = append(all, "unsure")
	default:
	}
	return strings.Join(all, " ")
}

// other adds a rule by another program, from a thread in the namespace.
func (w watched) other(port string) error {
	e := add(port)
	out, err := w.router.command(e.String()).CombinedOutput()
	if err != nil {
		return errors.New(string(out))
	}
	return nil
}

func TestWatchTellsWhoseChangesTheyAre(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		w := r.watch(t)
		commit := func(edits ...xtables.Edit) (int, error) {
			return w.Commit(context.Background(), []xtables.Section{{Table: "filter", Edits: edits}})
		}
		missing := xtables.Edit{Op: xtables.Delete, Chain: "FORWARD", Rule: "-p tcp -m tcp --dport 999 -j ACCEPT"}
		for _, tt := range []struct {
			name        string
			do          func() error
			legacy, nft string // what is told
		}{
			{"nothing", func() error { return nil }, "", ""},
			{"the first commit, which makes the table", func() error {
				return w.work(func() (int, error) { return commit(add("1")) })
			}, "unsure", ""},
			{"a commit", func() error { return w.work(func() (int, error) { return commit(add("2")) }) }, "", ""},
			{"two tables", func() error {
				return w.work(func() (int, error) {
					chain := []xtables.Edit{{Op: xtables.Create, Chain: "X"}}
					return w.Commit(context.Background(), []xtables.Section{{"nat", chain}, {"filter", chain}})
				})
			}, "", ""},
			{"a command", func() error { return w.work(func() (int, error) { return 1, w.Do("filter", add("3")) }) }, "", ""},
			{"a commit that fails", func() error {
				return w.work(func() (int, error) {
					n, err := commit(missing)
					if err == nil {
						return n, errors.New("a missing rule can be deleted")
					}
					return n, nil
				})
			}, "unsure", ""},
			{"a listing", func() error {
				return r.Do(func() error { _, err := w.Snapshot(t.Context()); return err })
			}, "", ""},
			{"another program", func() error { return r.Do(func() error { return w.other("11") }) }, "changed", "changed"},
			{"another program just before own work", func() error {
				if err := r.Do(func() error { return w.other("12") }); err != nil {
					return err
				}
				return w.work(func() (int, error) { return commit(add("4")) })
			}, "changed", "changed"},
			{"another program during own work", func() error {
				return w.work(func() (int, error) {
					if err := w.other("13"); err != nil {
						return 0, err
					}
					return commit(add("5"))
				})
			}, "unsure", "changed"},
			{"the same while Run reads", func() error {
				return w.work(func() (int, error) {
					if err := w.other("14"); err != nil {
						return 0, err
					}
					w.Read()
					return commit(add("6"))
				})
			}, "unsure", "changed"},
			{"another program during own work that fails", func() error {
				return w.work(func() (int, error) { return 0, w.other("15") })
			}, "unsure", "changed"},
			{"another program beside own work that changes nothing", func() error {
				return r.Do(func() error {
					work := w.Begin()
					defer work.End()
					_, err := work.Commit(t.Context(), w.Programs, []xtables.Section{{"filter", []xtables.Edit{{Op: xtables.Create, Chain: "X"}}}})
					return errors.Join(err, w.other("16"))
				})
			}, "unsure", "changed"},
			{"own work that changes nothing", func() error { return w.work(func() (int, error) { return 0, nil }) }, "", ""},
			{"more was done than is known", func() error {
				return w.work(func() (int, error) { _, err := commit(add("7")); return 0, err })
			}, "unsure", "changed"},
			{"after all of it", func() error { return nil }, "", ""},
		} {
			must(t, tt.do())
			want := tt.legacy
			if r.isNFT {
				want = tt.nft
			}
			if got := w.told(t); got != want {
				t.Errorf("%s: told %q, want %q", tt.name, got, want)
			}
		}
	})
}

// Two pieces of own work at once are never taken for another program's, and do
// not hide one.
func TestTwoPiecesOfWorkAtOnce(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		w := r.watch(t)
		must(t, r.Do(func() error {
			one := w.Begin()
			two := w.Begin()
			two.End()
			err := w.commitHere(add("4"))
			one.Committed(1)
			one.End()
			return err
		}))
		want := map[bool]string{true: "", false: "unsure"}[r.isNFT]
		if got := w.told(t); got != want {
			t.Errorf("one of them does nothing: told %q, want %q", got, want)
		}
		for _, other := range []bool{false, true} {
			must(t, r.Do(func() error {
				one := w.Begin()
				two := w.Begin()
				if err := w.commitHere(add("1")); err != nil {
					return err
				}
				one.Committed(1)
				w.Read()
				one.End()
				if other {
					if err := w.other("2"); err != nil {
						return err
					}
				}
				w.Read()
				err := w.commitHere(add("3"))
				two.Committed(1)
				two.End()
				return err
			}))
			if got := w.told(t); got != "unsure" {
				t.Errorf("other %v: told %q", other, got)
			}
		}
		if got := w.told(t); got != "" {
			t.Errorf("afterwards: told %q", got)
		}
	})
}

// TestOthersBesideOwnWork has another program change the firewall while there is own
// work without pause: it is told of every time.
func TestOthersBesideOwnWork(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		w := r.watch(t)
		chain := []xtables.Section{{Table: "filter", Edits: []xtables.Edit{{Op: xtables.Create, Chain: "X"}, {Op: xtables.Append, Chain: "X", Rule: "-j ACCEPT"}}}}
		commit := func() (int, error) { return w.Commit(t.Context(), chain) }
		must(t, w.work(commit))
		w.told(t)
		for i := range 30 {
			ended := make(chan error, 1)
			go func() { ended <- r.Do(func() error { return w.other("9") }) }()
			for busy := true; busy; {
				select {
				case err := <-ended:
					must(t, err)
					busy = false
				default:
					must(t, w.work(commit))
				}
			}
			if w.told(t) == "" {
				t.Fatalf("change %d was not told of", i)
			}
		}
		must(t, w.work(commit))
		if got := w.told(t); got != "" {
			t.Errorf("afterwards: told %q", got)
		}
	})
}

// TestRunTellsOfChanges has the notices read as they are in the daemon.
func TestRunTellsOfChanges(t *testing.T) {
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			r := newRouter(t, variant)
			t.Setenv("XTABLES_LOCKFILE", r.lock) // of this process and of iptables
			p := r.programs(t, new(strings.Builder))
			w := watched{p, p.NewWatch()}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- r.Do(func() error { return w.Run(ctx, p.Programs) }) }()
			changed := func() bool {
				select {
				case <-w.Changed:
					return true
				default:
					return false
				}
			}
			eventually(t, "the first change is told of", func() bool { r.iptables(t, "-A FORWARD -j ACCEPT"); return changed() })
			for range 3 {
				for changed() { // of the one before
				}
				r.iptables(t, "-A FORWARD -j ACCEPT")
				eventually(t, "another change is told of", changed)
			}
			cancel()
			must(t, <-ended)
		})
	}
}

// TestLockFileAppearsLater has the lock file created by the first iptables, and
// removed.
func TestLockFileAppearsLater(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	w := r.watch(t)
	for range 2 {
		must(t, os.WriteFile(filepath.Join(filepath.Dir(r.lock), "other"), nil, 0o600))
		if got := w.told(t); got != "" {
			t.Errorf("another file: told %q", got)
		}
		for range 2 {
			r.iptables(t, "-A FORWARD -j ACCEPT")
			if got := w.told(t); got != "changed" {
				t.Errorf("told %q of a change", got)
			}
		}
		must(t, os.Remove(r.lock))
		if got := w.told(t); got != "changed" {
			t.Errorf("told %q of a lock file that was removed", got)
		}
	}
}

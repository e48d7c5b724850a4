package xtables_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
	"igdd/pkg/xtables"
)

// router is a network namespace with the iptables of one variant, and with an
// xtables lock of its own.
type router struct {
	*netlab.Namespace
	tools string // folder of the programs
	lock  string // seen from outside
	isNFT bool
}

// newRouter makes a router.
func newRouter(t testing.TB, variant string) *router {
	t.Helper()
	r := &router{Namespace: netlab.New(t, "xt"), tools: netlab.Tools(t, variant), isNFT: variant == "nft"}
	run := t.TempDir()
	r.Bind(run, "/run")
	r.lock = filepath.Join(run, "xtables.lock")
	return r
}

// eachVariant runs the test on a router of each kind, side by side.
func eachVariant(t *testing.T, test func(t *testing.T, r *router)) {
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			test(t, newRouter(t, variant))
		})
	}
}

// stub puts a shell script in the place of a program; the real one is $real.
func (r *router) stub(t testing.TB, name, script string) {
	t.Helper()
	path, real := filepath.Join(r.tools, name), filepath.Join(r.tools, "real", name)
	must(t, os.MkdirAll(filepath.Dir(real), 0o755))
	must(t, os.Rename(path, real))
	netlab.Script(t, path, "real="+real+"\n"+script)
}

// iptables runs iptables as another program does.
func (r *router) iptables(t testing.TB, args string) string {
	t.Helper()
	var out []byte
	must(t, r.Do(func() (err error) {
		out, err = r.command(args).CombinedOutput()
		return err
	}))
	return string(out)
}

// command is iptables as another program calls it, on a thread that is in the
// namespace.
func (r *router) command(args string) *exec.Cmd {
	return exec.Command(filepath.Join(r.tools, "iptables"), append([]string{"--wait", "10"}, strings.Fields(args)...)...)
}

// programs are those of IPv4, as the daemon runs them. What they log is in the
// buffer.
func (r *router) programs(t testing.TB, log *strings.Builder) nsPrograms {
	t.Helper()
	p, err := xtables.Find(filepath.Join(r.tools, "iptables"), slog.New(slog.NewTextHandler(log, nil)))
	must(t, err)
	must(t, r.Do(p.Probe))
	t.Cleanup(p.Close)
	return nsPrograms{p, r}
}

// nsPrograms are programs that run on a router.
type nsPrograms struct {
	*xtables.Programs
	router *router
}

// commit carries out edits of table filter.
func (p nsPrograms) commit(edits ...xtables.Edit) error {
	return p.router.Do(func() error { return p.commitHere(edits...) })
}

// commitHere does so on a thread that is in the namespace.
func (p nsPrograms) commitHere(edits ...xtables.Edit) error {
	_, err := p.Commit(context.Background(), []xtables.Section{{Table: "filter", Edits: edits}})
	return err
}

// add adds a rule for a port.
func add(port string) xtables.Edit {
	return xtables.Edit{Op: xtables.Append, Chain: "FORWARD", Rule: "-p tcp -m tcp --dport " + port + " -j ACCEPT"}
}

// demandRule demands that the rule for a port is there once.
func (r *router) demandRule(t testing.TB, port string) {
	t.Helper()
	if rules := r.iptables(t, "-S FORWARD"); strings.Count(rules, "--dport "+port+" ") != 1 {
		t.Errorf("the rule for port %s is not there once:\n%s", port, rules)
	}
}

// withoutTerminals calls f on a thread that sees no pseudo-terminals.
func (r *router) withoutTerminals(t testing.TB, f func() error) {
	t.Helper()
	empty := t.TempDir()
	must(t, r.Do(func() error {
		if err := unix.Mount(empty, "/dev/pts", "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return f()
	}))
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

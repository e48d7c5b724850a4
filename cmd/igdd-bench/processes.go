package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// few is the number of mappings present where processes are counted.
	few = 10
	// watched is how long the daemon is watched after an event.
	watched = 3 * time.Second
)

// emptyRules is a router without a firewall.
const emptyRules = `*nat
COMMIT
*mangle
COMMIT
*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
COMMIT
`

// stub notes its name and arguments if a daemon has started it, and becomes the program
// in whose place it is.
const stub = `#!/bin/sh
[ -z "$IPTABLES_CALLS" ] || echo "${0##*/} $*" >>"$IPTABLES_CALLS"
exec %s "${0##*/}" "$@"
`

// callsFile is where the stubs note the calls of the lab's daemon.
func (l *lab) callsFile() string { return l.folder + ".calls" }

// installStubs puts stubs in the place of iptables' programs. The function that it
// returns puts these back.
func (l *lab) installStubs() (remove func(), err error) {
	replaced := make(map[string]string)
	remove = func() {
		for path, program := range replaced {
			os.Symlink(program, path+".new")
			os.Rename(path+".new", path)
		}
	}
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, part := range []string{"", "-save", "-restore"} {
			path := filepath.Join(filepath.Dir(l.folder), name+part)
			program, err := os.Readlink(path)
			if err != nil {
				return remove, err
			}
			replaced[path] = program
			err = errors.Join(os.WriteFile(path+".new", fmt.Appendf(nil, stub, program), 0o755), os.Rename(path+".new", path))
			if err != nil {
				return remove, err
			}
		}
	}
	return remove, os.WriteFile(l.callsFile(), nil, 0o644)
}

// calls returns the calls since the last time, one a line.
func (l *lab) calls() ([]string, error) {
	text, err := os.ReadFile(l.callsFile())
	if err != nil {
		return nil, err
	}
	return slices.Collect(strings.Lines(string(text))), os.Truncate(l.callsFile(), 0)
}

// printCalls prints the calls since the last time.
func (l *lab) printCalls(what string) error {
	calls, err := l.calls()
	fmt.Printf("\n%s: %d\n", what, len(calls))
	for _, line := range calls {
		fmt.Println("   ", strings.TrimSpace(line))
	}
	return err
}

// printLater prints the calls of the time watched.
func (l *lab) printLater(what string) error {
	time.Sleep(watched)
	return l.printCalls(fmt.Sprintf("%s, within %v", what, watched))
}

// countProcesses prints which iptables processes the daemon starts.
func (r *repairRun) countProcesses() error {
	remove, err := r.lab.installStubs()
	defer remove()
	fmt.Print("\nProcesses of iptables that the daemon starts:\n")
	return errors.Join(err, r.countStart(), r.countRestart())
}

// restart starts the daemon without clearing the router, and waits until it answers.
func (r *repairRun) restart() (*process, error) {
	p, err := r.lab.run(r.lab.command(r.program))
	if err != nil {
		return nil, err
	}
	return p, p.awaitReady(0)
}

// countStart counts at a start on an empty router.
func (r *repairRun) countStart() error {
	if err := errors.Join(r.lab.clear(), r.lab.loadRules(emptyRules), r.lab.writeFiles(leases{})); err != nil {
		return err
	}
	p, err := r.restart()
	if err != nil {
		return err
	}
	defer p.stop()
	return errors.Join(
		r.lab.printCalls("start on an empty router, until it answers"),
		r.lab.printLater("after that"))
}

// countRestart counts at a restart with everything in place, and when another program
// uses the firewall then.
func (r *repairRun) countRestart() error {
	before, err := r.lab.start(r.program, leases{present: few})
	if err != nil {
		return err
	}
	defer before.stop()
	unix.Kill(before.pid, unix.SIGUSR2)
	<-before.exited
	if _, err := r.lab.calls(); err != nil {
		return err
	}
	p, err := r.restart()
	if err != nil {
		return err
	}
	defer p.stop()
	return errors.Join(
		r.lab.printCalls(fmt.Sprintf("restart with %d mappings and everything in place, until it answers", few)),
		r.lab.printLater("after that"),
		r.lab.iptables("-S"),
		r.lab.printLater("another program lists: iptables -S"),
		r.lab.iptables("-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"),
		r.lab.printLater("another program adds a rule elsewhere: iptables -A INPUT"))
}

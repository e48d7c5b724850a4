package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// stub logs its name and arguments and becomes the program in whose place it is.
const stub = `#!/bin/sh
echo "${0##*/} $*" >>%s
exec %s "$@"
`

// counter counts the iptables processes of a daemon.
type counter struct {
	dir string // of the stubs
	log string
}

// newCounter writes the stubs into a new folder.
func newCounter(dir string) (*counter, error) {
	c := &counter{dir: dir, log: filepath.Join(dir, "log")}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, part := range []string{"", "-save", "-restore"} {
			program := filepath.Join(filepath.Dir(dir), name+part)
			text := fmt.Appendf(nil, stub, c.log, program)
			if err := os.WriteFile(filepath.Join(dir, name+part), text, 0o755); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// print prints the processes since the last call.
func (c *counter) print(what string) error {
	text, err := os.ReadFile(c.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fmt.Printf("\n%s: %d\n", what, strings.Count(string(text), "\n"))
	for line := range strings.Lines(string(text)) {
		fmt.Println("   ", strings.TrimSpace(line))
	}
	return os.WriteFile(c.log, nil, 0o644)
}

// printLater prints the processes of the time watched.
func (c *counter) printLater(what string) error {
	time.Sleep(watched)
	return c.print(fmt.Sprintf("%s, within %v", what, watched))
}

// run starts the daemon with the stubs, and waits until it answers.
func (c *counter) run(r *repairRun) (*process, error) {
	cmd := r.lab.command(r.program)
	cmd.Env = append(cmd.Env, "PATH="+c.dir+":"+os.Getenv("PATH"))
	p, err := r.lab.run(cmd)
	if err != nil {
		return nil, err
	}
	if err := p.waitFor(startLimit, func() bool { return p.ready(0) }); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// countProcesses prints which iptables processes the daemon starts.
func (r *repairRun) countProcesses() error {
	c, err := newCounter(r.lab.folder + "-stubs")
	if err != nil {
		return err
	}
	fmt.Print("\nProcesses of iptables that the daemon starts:\n")
	return errors.Join(r.countStart(c), r.countRestart(c))
}

// countStart counts at a start on an empty router.
func (r *repairRun) countStart(c *counter) error {
	if err := errors.Join(r.lab.clear(), r.lab.loadRules(emptyRules), r.lab.writeFiles(leases{})); err != nil {
		return err
	}
	p, err := c.run(r)
	if err != nil {
		return err
	}
	defer p.stop()
	return errors.Join(
		c.print("start on an empty router, until it answers"),
		c.printLater("after that"))
}

// countRestart counts at a restart with everything in place, and when another program
// uses the firewall then.
func (r *repairRun) countRestart(c *counter) error {
	before, err := r.lab.start(r.program, leases{present: few})
	if err != nil {
		return err
	}
	defer before.stop()
	unix.Kill(before.pid, unix.SIGUSR2)
	<-before.exited
	if err := os.WriteFile(c.log, nil, 0o644); err != nil {
		return err
	}
	p, err := c.run(r)
	if err != nil {
		return err
	}
	defer p.stop()
	return errors.Join(
		c.print(fmt.Sprintf("restart with %d mappings and everything in place, until it answers", few)),
		c.printLater("after that"),
		r.lab.iptables("-S"),
		c.printLater("another program lists: iptables -S"),
		r.lab.iptables("-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"),
		c.printLater("another program adds a rule elsewhere: iptables -A INPUT"))
}

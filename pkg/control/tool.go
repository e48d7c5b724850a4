package control

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// exitStatus is an exit status of the tool.
type exitStatus int

// The exit statuses.
const (
	exitDone    exitStatus = 0
	exitFault   exitStatus = 1 // the daemon is not running, or cannot do it
	exitUsage   exitStatus = 2
	exitNothing exitStatus = 3 // there is no such mapping or block
	exitNo      exitStatus = 4 // a request would be refused, or something is wrong
)

// exitUnless returns exitDone if ok, else other.
func exitUnless(ok bool, other exitStatus) exitStatus {
	if ok {
		return exitDone
	}
	return other
}

// command is one of the tool's.
type command struct {
	name  string
	other string // another name
	words string // its arguments, as the usage shows them
	text  string // what it does
	run   func(t *tool, args []string) (exitStatus, error)
}

// commands returns the tool's commands, in the order of the usage.
func commands() []command {
	return []command{
		{name: "list", text: "show the mappings", run: (*tool).list},
		{name: "status", text: "show the service, the uplink, the LANs and the firewall", run: (*tool).status},
		{name: "delete", words: "WHICH...", text: "delete mappings", run: (*tool).delete},
		{name: "block", other: "veto", words: "TIME|forever WHICH...", text: "delete mappings and refuse new ones; TIME is 600, 10m, 2h or 7d", run: (*tool).block},
		{name: "blocks", text: "show the blocks in force", run: (*tool).blocks},
		{name: "unblock", words: "ID|WHICH...", text: "lift a block by its number, or those set with the same words", run: (*tool).unblock},
		{name: "explain", words: "CLIENT PROTOCOL EXTERNAL INTERNAL [as natpmp|pcp|upnp]", text: "say what a client would be answered, and why", run: (*tool).explain},
		{name: "trace", words: "SOURCE PROTOCOL [ADDRESS:]PORT [--probe]", text: "show which firewall rules a connection passes, from outside or from a LAN", run: (*tool).trace},
		{name: "watch", text: "show what happens, until it is interrupted", run: (*tool).watch},
		{name: "history", words: "[N]", text: "show the last N events, at most 500", run: (*tool).history},
		{name: "selftest", words: "[CLIENT]", text: "act as a client and report the step that fails", run: (*tool).selftest},
		{name: "metrics", text: "print metrics for Prometheus", run: (*tool).metrics},
	}
}

// usageColumn is where the usage says what commands do.
const usageColumn = 28

// usageHint follows the reason why arguments are invalid.
const usageHint = "Run miniupnpctl -h for the commands."

// usage returns how the tool is called.
func usage() string {
	var text strings.Builder
	text.WriteString("Usage: miniupnpctl [-s socket] [--json] [COMMAND]\n")
	for _, c := range commands() {
		call := "  " + strings.TrimSpace(c.name+" "+c.words)
		if len(call) > usageColumn-2 {
			text.WriteString(call + "\n")
			call = ""
		}
		fmt.Fprintf(&text, "%-*s%s\n", usageColumn, call, c.text)
	}
	text.WriteString("Without a command: the status and the newest mappings\n")
	text.WriteString("PORT of trace is a port of the router; IPv6, and a SOURCE on a LAN, need the address that it connects to\n")
	text.WriteString("WHICH is any of: a host's address, hardware address or name, tcp or udp, an external port or a range a-b\n")
	return text.String()
}

// tool is one call of miniupnpctl.
type tool struct {
	socket string
	json   bool
	probe  bool // of trace
	stdout io.Writer
}

// Main runs the tool with the arguments after its name, and returns its exit
// status.
func Main(args []string, stdout, stderr io.Writer) int {
	t := tool{stdout: stdout}
	status, err := t.run(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(stdout, usage())
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "miniupnpctl: %v\n%s\n", err, usageHint)
		status = exitUsage
	case err != nil:
		fmt.Fprintln(stderr, "miniupnpctl:", err)
		status = exitFault
	}
	return int(status)
}

// run parses the arguments and runs the command.
func (t *tool) run(args []string) (exitStatus, error) {
	words, err := t.parse(args)
	if err != nil {
		return 0, usageError(err)
	}
	if len(words) == 0 {
		return t.overview()
	}
	if t.probe && words[0] != "trace" {
		return 0, fmt.Errorf("%w: --probe is an option of trace", errUsage)
	}
	for _, c := range commands() {
		if words[0] == c.name || words[0] == c.other {
			return c.run(t, words[1:])
		}
	}
	return 0, fmt.Errorf("%w: unknown command %q", errUsage, words[0])
}

// parse reads the flags, which may come anywhere, and returns the other arguments.
func (t *tool) parse(args []string) (words []string, err error) {
	flags := flag.NewFlagSet("miniupnpctl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&t.socket, "s", defaultSocket, "")
	flags.BoolVar(&t.json, "json", false, "")
	flags.BoolVar(&t.probe, "probe", false, "")
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if args = flags.Args(); len(args) == 0 {
			return words, nil
		}
		words, args = append(words, args[0]), args[1:]
	}
}

// usageError wraps an error of package flag, but for a request for help, and words it
// as the daemon does.
func usageError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	text := err.Error()
	if name, is := strings.CutPrefix(text, "flag provided but not defined: "); is {
		text = "unknown option " + name
	} else if name, is := strings.CutPrefix(text, "flag needs an argument: "); is {
		text = "option " + name + ": missing value"
	}
	return fmt.Errorf("%w: %s", errUsage, text)
}

// What goes wrong between the tool and the daemon.
var (
	errNoDaemon   = errors.New("cannot connect to the daemon")
	errIncomplete = errors.New("the daemon's reply is incomplete")
)

// call sends a request to the daemon and calls handle with each reply. It waits for
// them for a limited time.
func (t *tool) call(r request, handle func(reply) error) error {
	c, err := t.dial()
	if err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(requestTimeout + replyTimeout))
	return exchange(c, r, handle)
}

// query sends a request and returns the parts of this kind of the replies.
func query[T any](t *tool, r request, part func(reply) *T) (list []T, err error) {
	err = t.call(r, func(a reply) error {
		if p := part(a); p != nil {
			list = append(list, *p)
		}
		return nil
	})
	return list, err
}

// dial connects to the daemon.
func (t *tool) dial() (net.Conn, error) {
	c, err := net.DialTimeout("unix", t.socket, requestTimeout)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("cannot connect to the daemon at %s: must be run as root", t.socket)
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s: is it running?", errNoDaemon, t.socket)
	}
	return c, err
}

// exchange sends a request and calls handle with each reply until the last. It closes
// the connection.
func exchange(c net.Conn, r request, handle func(reply) error) error {
	defer c.Close()
	if err := json.NewEncoder(c).Encode(r); err != nil {
		return fmt.Errorf("cannot send the request to the daemon: %w", err)
	}
	lines := json.NewDecoder(bufio.NewReader(c))
	for {
		var a reply
		switch err := lines.Decode(&a); {
		case err != nil:
			return fmt.Errorf("%w: %w", errIncomplete, err)
		case a.Error != "":
			return errors.New(a.Error)
		case a.End:
			return nil
		}
		if err := handle(a); err != nil {
			return err
		}
	}
}

// delete deletes mappings.
func (t *tool) delete(args []string) (exitStatus, error) {
	r := request{Do: doDelete}
	if err := r.addSelectors(args); err != nil {
		return 0, err
	}
	var a reply
	if err := t.call(r, func(got reply) error { a = got; return nil }); err != nil {
		return 0, err
	}
	var err error
	if t.json {
		err = t.encode(deleted{schemaVersion, a.Closed})
	} else {
		_, err = fmt.Fprintln(t.stdout, plural(a.Closed, "mapping"), "closed")
	}
	return exitUnless(a.Closed > 0, exitNothing), cmp.Or(err, shortfall(a))
}

// encode prints a value as indented JSON.
func (t *tool) encode(v any) error {
	out := json.NewEncoder(t.stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The tool's exit statuses.
const (
	exitDone    = 0
	exitFault   = 1 // the daemon does not run, or cannot do it
	exitUsage   = 2
	exitNothing = 3 // there is no such mapping
	exitNo      = 4 // a request would be refused, or not all is well
)

const usage = `Usage: miniupnpctl [-s socket] [--json] COMMAND
  list                      show the mappings
  status                    show the service, the uplink, the LANs and the firewall
  delete WHICH...           end mappings
  veto TIME WHICH...        end mappings and refuse such for a time: 600, 10m, 2h
  explain CLIENT PROTOCOL EXTERNAL INTERNAL
                            say what a request would be answered, and why
  selftest [CLIENT]         play a client, and say which step fails
WHICH is any of: a client's address, tcp or udp, an external port or a range a-b
`

// tool is one call of miniupnpctl.
type tool struct {
	socket string
	json   bool
	stdout io.Writer
}

// errUsage marks arguments that make no sense.
var errUsage = errors.New("usage")

// outcome is an exit status that is no error.
type outcome int

// Main runs the tool with the arguments behind its name and returns its exit
// status.
func Main(args []string, stdout, stderr io.Writer) int {
	t := tool{stdout: stdout}
	status, err := t.run(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(stdout, usage)
		return exitDone
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "miniupnpctl: %v\n%s", err, usage)
		return exitUsage
	case err != nil:
		fmt.Fprintln(stderr, "miniupnpctl:", err)
		return exitFault
	}
	return int(status)
}

// run reads the arguments and carries out the command.
func (t *tool) run(args []string) (outcome, error) {
	flags := flag.NewFlagSet("miniupnpctl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&t.socket, "s", DefaultSocket, "")
	flags.BoolVar(&t.json, "json", false, "")
	command := ""
	for range 2 { // flags may stand before the command and behind it
		if err := flags.Parse(args); err != nil {
			return 0, wrong(err)
		}
		if args = flags.Args(); command == "" && len(args) > 0 {
			command, args = args[0], args[1:]
		}
	}
	switch command {
	case doList:
		return t.list(args)
	case doStatus:
		return t.status(args)
	case doDelete:
		return t.close(question{Do: doDelete}, args)
	case doVeto:
		return t.veto(args)
	case doExplain:
		return t.explain(args)
	case "selftest":
		return t.selftest(args)
	case "":
		return 0, fmt.Errorf("%w: no command", errUsage)
	}
	return 0, fmt.Errorf("%w: %q is no command", errUsage, command)
}

// wrong makes an error of the arguments one of usage, but for a call for help.
func wrong(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return fmt.Errorf("%w: %w", errUsage, err)
}

// ask puts a question to the daemon and hands each line of the answer to hear.
func (t *tool) ask(q question, hear func(answer) error) error {
	c, err := net.DialTimeout("unix", t.socket, askTime)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the tool is for root", err)
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("the daemon does not run: nobody answers at %s", t.socket)
	case err != nil:
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(askTime + answerTime))
	if err := json.NewEncoder(c).Encode(q); err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	lines := json.NewDecoder(bufio.NewReader(c))
	for {
		var a answer
		switch err := lines.Decode(&a); {
		case err != nil:
			return fmt.Errorf("the daemon's answer breaks off: %w", err)
		case a.Error != "":
			return errors.New(a.Error)
		case a.End:
			return nil
		}
		if err := hear(a); err != nil {
			return err
		}
	}
}

// veto ends mappings and refuses new ones for a time.
func (t *tool) veto(args []string) (outcome, error) {
	if len(args) == 0 {
		return 0, fmt.Errorf("%w: veto needs a time", errUsage)
	}
	seconds, err := parseTime(args[0])
	if err != nil {
		return 0, err
	}
	return t.close(question{Do: doVeto, Seconds: seconds}, args[1:])
}

// parseTime reads seconds, or a duration as Go writes it.
func parseTime(s string) (int64, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil && n > 0 {
		return int64(n), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("%w: %q is no time: write seconds, or 10m, 2h", errUsage, s)
	}
	return int64(d / time.Second), nil
}

// close ends the mappings that the words in which name.
func (t *tool) close(q question, which []string) (outcome, error) {
	for _, word := range which {
		if err := q.narrow(word); err != nil {
			return 0, err
		}
	}
	if !q.Client.IsValid() && q.First == 0 {
		return 0, fmt.Errorf("%w: %s needs a client's address or external ports", errUsage, q.Do)
	}
	closed := 0
	if err := t.ask(q, func(a answer) error { closed = a.Closed; return nil }); err != nil {
		return 0, err
	}
	if t.json {
		return exit(closed > 0 || q.Do == doVeto, exitNothing), t.encode(map[string]int{"closed": closed})
	}
	fmt.Fprintf(t.stdout, "%d mappings closed\n", closed)
	return exit(closed > 0 || q.Do == doVeto, exitNothing), nil
}

// exit returns the exit status for well, and other if it is not.
func exit(well bool, other outcome) outcome {
	if well {
		return exitDone
	}
	return other
}

// narrow takes one word that says which mappings are meant.
func (q *question) narrow(word string) error {
	if a, err := netip.ParseAddr(word); err == nil && !q.Client.IsValid() {
		q.Client = a.Unmap()
		return nil
	}
	if p, err := parseProtocol(word); err == nil && q.Protocol == "" {
		q.Protocol = p
		return nil
	}
	first, last, isRange := strings.Cut(word, "-")
	if !isRange {
		last = first
	}
	a, errA := parsePort(first)
	b, errB := parsePort(last)
	if errA != nil || errB != nil || a == 0 || a > b || q.First != 0 {
		return fmt.Errorf("%w: %q: name one client, one protocol and one port or range", errUsage, word)
	}
	q.First, q.Last = a, b
	return nil
}

func parseProtocol(s string) (string, error) {
	p := strings.ToUpper(s)
	if _, known := protocols[p]; !known || p == "" {
		return "", fmt.Errorf("%w: %q is no protocol: tcp or udp", errUsage, s)
	}
	return p, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is no port", errUsage, s)
	}
	return uint16(n), nil
}

// explain says what a request would be answered.
func (t *tool) explain(args []string) (outcome, error) {
	q, err := parseExplain(args)
	if err != nil {
		return 0, err
	}
	v, err := t.verdict(q)
	if err != nil {
		return 0, err
	}
	status := exit(v.Granted, exitNo)
	if t.json {
		return status, t.encode(v)
	}
	return status, printVerdict(t.stdout, v)
}

// verdict asks for one.
func (t *tool) verdict(q question) (Verdict, error) {
	var v Verdict
	err := t.ask(q, func(a answer) error {
		if a.Verdict != nil {
			v = *a.Verdict
		}
		return nil
	})
	return v, err
}

// parseExplain reads CLIENT PROTOCOL EXTERNAL INTERNAL.
func parseExplain(args []string) (question, error) {
	q := question{Do: doExplain}
	if len(args) != 4 {
		return q, fmt.Errorf("%w: explain needs CLIENT PROTOCOL EXTERNAL INTERNAL", errUsage)
	}
	client, err := netip.ParseAddr(args[0])
	if err != nil {
		return q, fmt.Errorf("%w: %q is no address", errUsage, args[0])
	}
	q.Client = client.Unmap()
	if q.Protocol, err = parseProtocol(args[1]); err != nil {
		return q, err
	}
	if q.First, err = parsePort(args[2]); err != nil {
		return q, err
	}
	if q.Internal, err = parsePort(args[3]); err == nil && q.Internal == 0 {
		err = fmt.Errorf("%w: the client's port cannot be 0", errUsage)
	}
	return q, err
}

// encode prints a value as indented JSON.
func (t *tool) encode(v any) error {
	out := json.NewEncoder(t.stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

// none demands that a command has no arguments.
func none(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %q is too much", errUsage, args[0])
	}
	return nil
}

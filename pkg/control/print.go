package control

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"igdd/pkg/portmap"
)

// tableHead is the heading of the table of mappings.
const tableHead = "PROTO\tEXTERNAL\tCLIENT\tPORT\tHOST\tMAC\tBY\tLEFT\tPACKETS\tBYTES\tDESCRIPTION\n"

// list prints the mappings.
func (t *tool) list(args []string) (exitStatus, error) {
	if err := noArgs(args); err != nil {
		return 0, err
	}
	entries, err := t.queryEntries()
	if err != nil {
		return 0, err
	}
	if t.json {
		return exitDone, printLines(t.stdout, entries)
	}
	return exitDone, printEntries(t.stdout, entries)
}

// queryEntries asks the daemon for its mappings, in order of creation.
func (t *tool) queryEntries() ([]Entry, error) {
	return query(t, request{Do: doList}, func(a reply) *Entry { return a.Entry })
}

// printEntries prints the table of mappings.
func printEntries(out io.Writer, list []Entry) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, tableHead)
	for i := range list {
		fmt.Fprintln(w, row(&list[i]))
	}
	return w.Flush()
}

// printLines prints a JSON array with one element a line.
func printLines[T any](out io.Writer, list []T) error {
	lines := make([]string, len(list))
	for i := range list {
		line, err := json.Marshal(list[i])
		if err != nil {
			return err
		}
		lines[i] = string(line)
	}
	_, err := fmt.Fprintf(out, "[%s]\n", strings.Join(lines, ",\n "))
	return err
}

// row returns a mapping as a line of the table. What is not known is "-", so
// that every column but the last is one word.
func row(e *Entry) string {
	by := strings.Join(e.Origins, ",")
	switch {
	case !e.Enabled:
		by += "(off)"
	case e.Dormant:
		by += "(dormant)"
	}
	left := forever
	if e.Remaining != nil {
		left = leftText(*e.Remaining)
	}
	host := e.HostName
	if e.Gone {
		host += "(gone)"
	}
	cells := []string{
		e.Protocol, strconv.Itoa(int(e.ExternalPort)), e.Client.String(), strconv.Itoa(int(e.ClientPort)),
		host, e.MAC, by, left, count(e.Packets), count(e.Bytes), details(e),
	}
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	return strings.Join(cells, "\t")
}

// details returns the description of a mapping, who may use it if not all, why it is
// dormant, and what the router in front does for it.
func details(e *Entry) string {
	text := printable(e.Description)
	if len(e.Remote) > 0 {
		text += " [from " + strings.Join(e.Remote, ", ") + "]"
	}
	if e.Reason != "" {
		text += " [" + e.Reason + "]"
	}
	if e.Forwarding != "" {
		text += " [" + printable(e.forwarding()) + "]"
	}
	return text
}

// forwarding returns what the router in front does for the port as text.
func (e *Entry) forwarding() string {
	switch e.Forwarding {
	case portmap.Reachable.Slug():
		return fmt.Sprintf("reachable from outside as %v", netip.AddrPortFrom(e.OuterAddress, e.OuterPort))
	case portmap.Unreachable.Slug():
		return "not reachable from outside: " + e.Unreachable
	}
	return "the router in front has not answered yet"
}

// timeText returns a time as the operator's clock shows it.
func timeText(t time.Time) string { return t.Local().Format(time.DateTime) }

// leftText returns a number of seconds as a time, with days: "1d6h0m0s".
func leftText(seconds int64) string {
	const day = 24 * 60 * 60
	rest := (time.Duration(seconds%day) * time.Second).String()
	if days := seconds / day; days > 0 {
		return fmt.Sprintf("%dd%s", days, rest)
	}
	return rest
}

func count(n *uint64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(*n, 10)
}

// plural returns a number of things as text; the plural of their name ends in s.
func plural(n int, name string) string {
	if n != 1 {
		name += "s"
	}
	return fmt.Sprintf("%d %s", n, name)
}

// printable replaces characters of a client's text that could control a terminal
// or break the table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// status prints the state of the daemon.
func (t *tool) status(args []string) (exitStatus, error) {
	if err := noArgs(args); err != nil {
		return 0, err
	}
	s, err := t.queryStatus()
	if err != nil {
		return 0, err
	}
	if t.json {
		return s.exitStatus(), t.encode(s)
	}
	return s.exitStatus(), printStatus(t.stdout, s, time.Now())
}

// exitStatus returns exitNo if something is wrong with this router. A router in front that
// forwards nothing is no fault of it.
func (s *Status) exitStatus() exitStatus {
	return exitUnless(s.External.IsValid() && s.Firewall.Healthy && s.Helper == "" && s.Leases == "", exitNo)
}

// queryStatus asks the daemon for its state.
func (t *tool) queryStatus() (Status, error) {
	var s Status
	err := t.call(request{Do: doStatus}, func(a reply) error {
		if a.Status != nil {
			s = *a.Status
		}
		return nil
	})
	return s, err
}

func printStatus(out io.Writer, s Status, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(name string, value ...any) { fmt.Fprintf(w, "%s:\t%s", name, fmt.Sprintln(value...)) }
	line("version", s.Version)
	line("running", leftText(int64(now.Sub(s.Started)/time.Second)))
	line("protocols", strings.Join(s.Protocols, ", "))
	if s.External.IsValid() {
		line("external address", s.External)
	} else {
		line("external address", "none")
	}
	if s.Note != "" {
		line("note", s.Note)
	}
	if s.Upstream != nil {
		line("router in front", s.Upstream)
	}
	if s.Ports != nil {
		line("external ports", s.Ports)
	}
	for _, l := range s.Uplinks {
		line("uplink "+l.Name, l)
	}
	for _, l := range s.LANs {
		line("lan "+l.Name, l)
	}
	for _, r := range s.Routes {
		line("lan route "+r.Network.String(), r)
	}
	line("firewall", s.Firewall)
	if s.Helper != "" {
		line("helper", "unhealthy:", s.Helper)
	}
	if s.Firewall.Repairs > 0 {
		line("repairs", s.Firewall.Repairs, "last", timeText(s.Firewall.Repaired))
	}
	line("mappings", s.Mappings, "of", plural(s.Clients, "client"))
	if s.Leases != "" {
		line("leases", "not saved:", printable(s.Leases))
	}
	return w.Flush()
}

// String returns the state of an interface as text.
func (l Link) String() string {
	if l.Note != "" {
		return l.Note
	}
	parts := []string{"down"}
	if l.Up {
		parts[0] = "up"
	}
	parts = append(parts, addressTexts(l.Addresses)...)
	if len(l.Servers) > 0 {
		parts = append(parts, "serving "+strings.Join(l.Servers, ", "))
	}
	return strings.Join(parts, " ")
}

// String returns the router in front as text.
func (u *Upstream) String() string {
	parts := []string{"none"}
	if u.Address.IsValid() {
		parts[0] = u.Address.String()
	}
	if u.Protocol != "" {
		parts = append(parts, "by "+u.Protocol)
	}
	switch text := strings.Join(parts, " "); {
	case u.Trouble != "":
		return text + ", forwards nothing: " + printable(u.Trouble)
	case u.Protocol == "":
		return text + ", has not answered yet"
	case u.External.IsValid():
		return text + ", external address " + u.External.String()
	default:
		return text
	}
}

// String returns the interface of a route, and what is wrong.
func (r Route) String() string {
	if r.Note != "" {
		return fmt.Sprintf("via %s: %s", r.Interface, r.Note)
	}
	return "via " + r.Interface
}

func addressTexts(addresses []netip.Prefix) []string {
	var list []string
	for _, a := range addresses {
		list = append(list, a.String())
	}
	return list
}

// String returns the state of the firewall as text.
func (f Firewall) String() string {
	switch {
	case f.Healthy:
		return "healthy: chains, jumps and rules in place"
	case f.Trouble != "":
		return "unhealthy: " + f.Trouble
	}
	return "unhealthy: chains, jumps or rules are missing"
}

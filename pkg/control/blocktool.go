package control

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"igdd/pkg/portmap"
)

// forever is the time of a block without end.
const forever = "forever"

// addSelectors adds the words that say which mappings are meant: a host, external
// ports, or both.
func (r *request) addSelectors(words []string) error {
	for _, word := range words {
		if err := r.addSelector(word); err != nil {
			return err
		}
	}
	if !r.hasHost() && r.First == 0 {
		return fmt.Errorf("%w: %s needs a host or external ports", errUsage, r.Do)
	}
	return nil
}

// hasHost reports whether the request names a host.
func (r *request) hasHost() bool { return r.Client.IsValid() || r.MAC != "" || r.Host != "" }

// parseHardware reads an Ethernet address.
func parseHardware(word string) (string, bool) {
	const length = 6 // octets
	a, err := net.ParseMAC(word)
	return a.String(), err == nil && len(a) == length
}

// isHostName reports whether a word can be the name of a host in a DHCP lease: it has
// a letter, so that no number or range of ports is one, and names no other protocol.
func isHostName(word string) bool {
	if slices.Contains([]string{"tcp", "udp", "sctp", "dccp", "udplite", "icmp"}, strings.ToLower(word)) {
		return false
	}
	isLetter := func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' }
	isStrange := func(r rune) bool {
		return !isLetter(r) && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	}
	const longest = 253 // in DNS
	return len(word) <= longest && strings.ContainsFunc(word, isLetter) && !strings.ContainsFunc(word, isStrange)
}

// block deletes mappings and refuses new ones.
func (t *tool) block(args []string) (exitStatus, error) {
	if len(args) == 0 {
		return 0, fmt.Errorf("%w: missing time", errUsage)
	}
	r, err := request{Do: doBlock, Forever: args[0] == forever}, error(nil)
	if !r.Forever {
		r.Seconds, err = parseTime(args[0])
	}
	if err == nil {
		err = r.addSelectors(args[1:])
	}
	if err != nil {
		return 0, err
	}
	var a reply
	if err := t.call(r, func(got reply) error { a = got; return nil }); err != nil {
		return 0, err
	}
	return exitDone, t.printBlocked(a)
}

// printBlocked prints what a block has done. If it is not saved, or not yet so in the
// firewall, it returns that as an error.
func (t *tool) printBlocked(a reply) error {
	if t.json {
		err := t.encode(blocked{schemaVersion, a.Closed, a.Block, a.Warning})
		return cmp.Or(err, shortfall(a))
	}
	fmt.Fprintln(t.stdout, plural(a.Closed, "mapping"), "closed")
	_, err := fmt.Fprintf(t.stdout, "block %d is in force %s\n", a.Block.ID, untilText(a.Block.Until, a.Block.Remaining))
	if a.Warning != "" {
		_, err = fmt.Fprintln(t.stdout, "warning:", a.Warning)
	}
	return cmp.Or(err, shortfall(a))
}

// unblock lifts blocks.
func (t *tool) unblock(args []string) (exitStatus, error) {
	if len(args) == 0 {
		return 0, fmt.Errorf("%w: unblock needs the number of a block, or the words that it was set with", errUsage)
	}
	r := request{Do: doUnblock}
	id, err := strconv.ParseInt(strings.Join(args, " "), 10, 31)
	isNumber := err == nil && id > 0
	if isNumber {
		r.ID = int(id)
	}
	if !isNumber || id < 1<<16 {
		if err := r.addSelectors(args); err != nil {
			return 0, err
		}
	}
	var a reply
	if err := t.call(r, func(got reply) error { a = got; return nil }); err != nil {
		return 0, err
	}
	status := exitUnless(a.Lifted > 0, exitNothing)
	if t.json {
		err = t.encode(unblocked{schemaVersion, a.Lifted})
	} else {
		_, err = fmt.Fprintln(t.stdout, plural(a.Lifted, "block"), "lifted")
	}
	if a.Lifted > 0 {
		err = cmp.Or(err, shortfall(a))
	}
	return status, err
}

// shortfall returns an error if what the operator has changed is not yet so in the
// firewall, or is lost with the daemon.
func shortfall(a reply) error {
	var left, unsaved error
	if a.Left != "" {
		left = fmt.Errorf("it is done, but %s; they go as soon as that is possible", a.Left)
	}
	if a.Unsaved != "" {
		unsaved = fmt.Errorf("it is done, but not saved, and a restart undoes it: %s", a.Unsaved)
	}
	return errors.Join(left, unsaved)
}

// blocks prints the blocks.
func (t *tool) blocks(args []string) (exitStatus, error) {
	if err := noArgs(args); err != nil {
		return 0, err
	}
	list, err := query(t, request{Do: doBlocks}, func(a reply) *BlockEntry { return a.Block })
	if err != nil {
		return 0, err
	}
	if t.json {
		return exitDone, printLines(t.stdout, list)
	}
	w := tabwriter.NewWriter(t.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tHOST\tMAC\tPROTO\tEXTERNAL\tSINCE\tUNTIL\tLEFT\tHITS\tLAST HIT")
	for i := range list {
		fmt.Fprintln(w, blockRow(&list[i]))
	}
	return exitDone, w.Flush()
}

// blockRow returns a block as a line of the table; "-" stands for every host, protocol
// or port, and for what there is not.
func blockRow(b *BlockEntry) string {
	ports, until, left, last := "", forever, "", ""
	if b.FirstPort > 0 {
		ports = portmap.PortRange{First: b.FirstPort, Last: b.LastPort}.String()
	}
	if b.Until != nil {
		until, left = timeText(*b.Until), leftText(*b.Remaining)
	}
	if b.LastHit != nil {
		last = timeText(*b.LastHit)
	}
	cells := []string{
		strconv.Itoa(b.ID), b.Host, strings.Join(b.MACs, ","), b.Protocol, ports, timeText(b.Since), until, left, strconv.FormatUint(b.Hits, 10), last,
	}
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	return strings.Join(cells, "\t")
}

// untilText returns until when a block is in force, which is left seconds; nil: for ever.
func untilText(until *time.Time, left *int64) string {
	if until == nil {
		return forever
	}
	return fmt.Sprintf("until %s (%s left)", timeText(*until), leftText(*left))
}

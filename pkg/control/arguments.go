package control

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// errUsage marks arguments that make no sense.
var errUsage = errors.New("wrong arguments")

// noArgs demands that a command has no arguments.
func noArgs(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %q is too much", errUsage, args[0])
	}
	return nil
}

// addSelector takes one word that says which mappings are meant.
func (q *request) addSelector(word string) error {
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

// parseExplain reads CLIENT PROTOCOL EXTERNAL INTERNAL.
func parseExplain(args []string) (request, error) {
	q := request{Do: doExplain}
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

package control

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// errUsage marks invalid arguments.
var errUsage = errors.New("invalid arguments")

// noArgs returns an error if a command has arguments.
func noArgs(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, args[0])
	}
	return nil
}

// addSelector adds one word that says which mappings are meant.
func (r *request) addSelector(word string) error {
	if err := checkZone(word); err != nil {
		return err
	}
	if a, err := netip.ParseAddr(word); err == nil && !r.hasHost() {
		r.Client = a.Unmap()
		return nil
	}
	if a, ok := parseHardware(word); ok && !r.hasHost() {
		r.MAC = a
		return nil
	}
	if p, err := parseProtocol(word); err == nil && r.Protocol == "" {
		r.Protocol = p
		return nil
	}
	if isHostName(word) && !r.hasHost() {
		r.Host = word
		return nil
	}
	if r.First != 0 || strings.Trim(word, "0123456789-") != "" {
		return fmt.Errorf("%w: %q: name one host, one protocol and one port or range", errUsage, word)
	}
	return r.setPorts(word)
}

// checkZone returns an error if a word is an address with a zone: hosts are compared
// without.
func checkZone(word string) error {
	a, err := netip.ParseAddr(word)
	if err != nil || a.Zone() == "" {
		return nil
	}
	return fmt.Errorf("%w: address %q: leave out the zone %%%s, or use the hardware address", errUsage, word, a.Zone())
}

// setPorts reads an external port, or a range of them.
func (r *request) setPorts(word string) error {
	first, last, isRange := strings.Cut(word, "-")
	if !isRange {
		last = first
	}
	a, errA := parsePort(first)
	b, errB := parsePort(last)
	switch {
	case errA != nil:
		return errA
	case errB != nil:
		return errB
	case a == 0:
		return fmt.Errorf("%w: invalid port %q", errUsage, first)
	case a > b:
		return fmt.Errorf("%w: port range %q: first port is above last port", errUsage, word)
	}
	r.First, r.Last = a, b
	return nil
}

func parseProtocol(s string) (string, error) {
	p := strings.ToUpper(s)
	if _, known := protocols[p]; !known || p == "" {
		return "", fmt.Errorf("%w: invalid protocol %q: tcp or udp", errUsage, s)
	}
	return p, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%w: invalid port %q", errUsage, s)
	}
	return uint16(n), nil
}

// parseTime reads seconds, days, or a duration as Go writes it.
func parseTime(s string) (int64, error) {
	const day, most = 24 * 60 * 60, 1e5 // days
	if days, isDays := strings.CutSuffix(s, "d"); isDays {
		if n, err := strconv.ParseUint(days, 10, 31); err == nil && 0 < n && n <= most {
			return int64(n) * day, nil
		}
	}
	if n, err := strconv.ParseUint(s, 10, 31); err == nil && n > 0 {
		return int64(n), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("%w: invalid time %q: write seconds, or 10m, 2h, 7d", errUsage, s)
	}
	return int64(d / time.Second), nil
}

// parseExplain reads CLIENT PROTOCOL EXTERNAL INTERNAL [as ORIGIN].
func parseExplain(args []string) (request, error) {
	r := request{Do: doExplain}
	var err error
	if n := len(args); n == 6 && args[4] == "as" {
		if r.As, err = parseOrigin(args[5]); err != nil {
			return r, err
		}
		args = args[:4]
	}
	if len(args) != 4 {
		return r, fmt.Errorf("%w: explain needs CLIENT PROTOCOL EXTERNAL INTERNAL, and perhaps as natpmp, as pcp or as upnp", errUsage)
	}
	if err = r.addClient(args[0]); err != nil {
		return r, err
	}
	if r.Protocol, err = parseProtocol(args[1]); err != nil {
		return r, err
	}
	if r.First, err = parsePort(args[2]); err != nil {
		return r, err
	}
	if r.Internal, err = parsePort(args[3]); err == nil && r.Internal == 0 {
		err = fmt.Errorf("%w: the client's port cannot be 0", errUsage)
	}
	return r, err
}

// addClient adds the host that a word names: by its address, hardware address or name.
func (r *request) addClient(word string) error {
	if err := r.addSelector(word); err != nil || !r.hasHost() {
		return cmp.Or(checkZone(word), fmt.Errorf("%w: invalid host %q", errUsage, word))
	}
	return nil
}

// parseOrigin reads the name of a protocol that clients ask by.
func parseOrigin(word string) (string, error) {
	for _, o := range origins {
		if strings.EqualFold(word, strings.ReplaceAll(o.String(), "-", "")) || strings.EqualFold(word, o.String()) {
			return o.String(), nil
		}
	}
	return "", fmt.Errorf("%w: invalid protocol %q: natpmp, pcp or upnp", errUsage, word)
}

package hosts

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxLeases bounds what is read of a leases file, in octets: some 10,000 lines.
const maxLeases = 1 << 20

// maxName is the longest host name in DNS, in octets.
const maxName = 253

// addLeases adds the leases in dnsmasq's file to the known hosts.
func addLeases(known map[netip.Addr]Host, path string, now time.Time) error {
	leases, err := readLeases(path, now)
	for _, l := range leases {
		h := known[l.addr]
		h.Addr, h.Name, h.Leased = l.addr, l.name, true
		if len(h.Hardware) == 0 {
			h.Hardware = l.hardware
		}
		known[l.addr] = h
	}
	return err
}

// readLeases returns the leases in dnsmasq's file that have not expired. A missing
// file has none.
func readLeases(path string, now time.Time) ([]lease, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a named pipe would make it wait
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	var list []lease
	lines := bufio.NewScanner(io.LimitReader(f, maxLeases))
	for lines.Scan() {
		if l, ok := parseLease(lines.Text()); ok && l.isValid(now) {
			list = append(list, l)
		}
	}
	return list, lines.Err()
}

// lease is one line of dnsmasq's leases file: time of expiry in Unix seconds,
// hardware address (an IAID in the lines of DHCPv6), address, name, client ID.
type lease struct {
	expires  int64 // 0: never
	hardware net.HardwareAddr
	addr     netip.Addr
	name     string
}

// isValid reports whether the lease has not expired.
func (l lease) isValid(now time.Time) bool { return l.expires == 0 || l.expires > now.Unix() }

// parseLease decodes one line and omits a name that is not harmless.
func parseLease(line string) (lease, bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return lease{}, false
	}
	var l lease
	var err error
	if l.expires, err = strconv.ParseInt(fields[0], 10, 64); err != nil {
		return lease{}, false
	}
	if l.addr, err = netip.ParseAddr(fields[2]); err != nil || l.addr.Zone() != "" {
		return lease{}, false
	}
	l.hardware, _ = net.ParseMAC(fields[1])
	if isName(fields[3]) {
		l.name = strings.Clone(fields[3]) // keeps the name without the line
	}
	return l, true
}

// isName reports whether a name that a client chose is harmless to print. dnsmasq
// writes "*" where it knows none.
func isName(s string) bool {
	isStrange := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("-_.", r)
	}
	return len(s) <= maxName && !strings.ContainsFunc(s, isStrange)
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"igdd/pkg/config"
	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
	"igdd/pkg/xtables"
)

// Check returns why a daemon with the settings next could not take the place of the
// running one, which has the settings current; nil if it could: the firewall can be
// read, the lease file too, and a new HTTP port is free.
func Check(next, current *config.Config, log *slog.Logger) error {
	if err := netfilter.Check(context.Background(), firewallOptions(next, log)); err != nil {
		return err
	}
	if err := checkLeaseFile(next.LeaseFile); err != nil {
		return err
	}
	if !next.UPnP || next.HTTPPort == 0 || current.UPnP && next.HTTPPort == current.HTTPPort {
		return nil
	}
	return checkPort(next)
}

// How many files the process must be able to open.
const (
	// leastFiles is for two LANs, which take 35, 8 more while settings change, and some
	// connections. With fewer, rules cannot be made or leases not be saved.
	leastFiles = 64
	// ampleFiles is for three LANs whose hosts have all the connections that they may
	// have. Linux allows as many by default.
	ampleFiles = 1024
)

// CheckOpenFiles returns an error if the process may open too few files to work, and
// logs a warning if clients' connections could use them up.
func CheckOpenFiles(log *slog.Logger) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	const advice = "raise it where the daemon is started, by ulimit -n 1024 or systemd's LimitNOFILE=1024"
	switch files := limit.Cur; { // Go has raised it to the hard limit
	case files < leastFiles:
		return fmt.Errorf("the limit of open files is %d, and the daemon needs %d: %s", files, leastFiles, advice)
	case files < ampleFiles:
		log.Warn("many clients could use up the open files that the daemon may have: "+advice, "limit", files)
	}
	return nil
}

// checkLeaseFile returns an error if there is a lease file that cannot be read.
func checkLeaseFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case path == "", errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("lease file: %w", err)
	case info.IsDir():
		return fmt.Errorf("lease file %s: it is a folder", path)
	case !info.Mode().IsRegular(): // opening a pipe would wait
		return fmt.Errorf("lease file %s: it is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("lease file: %w", err)
	}
	return file.Close()
}

// checkPort returns an error if another program has the HTTP port on a LAN.
func checkPort(c *config.Config) error {
	links, err := netif.Links()
	if err != nil {
		return err
	}
	for _, l := range c.LANs {
		for _, link := range linksOf(l, uplinks(c), links) {
			a, ok := link.IPv4()
			if !ok {
				continue
			}
			listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Addr(), c.HTTPPort)))
			if errors.Is(err, fs.ErrPermission) && NeedsLowPort(c) {
				return fmt.Errorf("HTTP port %d: restart the daemon to listen below port %d: it has dropped that privilege", c.HTTPPort, firstUnprivileged)
			}
			if err != nil {
				return fmt.Errorf("HTTP port: %w", err)
			}
			listener.Close()
		}
	}
	return nil
}

// firstUnprivileged is the lowest port for which no privilege is needed, unless the
// administrator has changed net.ipv4.ip_unprivileged_port_start.
const firstUnprivileged = 1024

// NeedsLowPort reports whether the settings name a port that needs a privilege.
func NeedsLowPort(c *config.Config) bool { return 0 < c.HTTPPort && c.HTTPPort < firstUnprivileged }

// OwnFiles returns the paths of the files that a daemon with these settings and the
// iptables programs write. Names of further files begin with these paths.
func OwnFiles(c *config.Config) []string {
	list := []string{c.PIDFile, ownershipFile(c.PIDFile)}
	for _, path := range []string{c.LeaseFile, c.ControlSocket} {
		if path != "" {
			list = append(list, path)
		}
	}
	return append(list, xtables.LockFiles()...)
}

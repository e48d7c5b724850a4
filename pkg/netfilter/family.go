package netfilter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-iptables/iptables"

	"igdd/pkg/portmap"
)

// How many seconds a program waits for the xtables lock. Other programs hold it
// for milliseconds.
const (
	// lockWait is for iptables-restore, which ends with the daemon. A program
	// that holds the lock longer than this hangs.
	lockWait = 10
	// commandWait is for the commands of go-iptables, which nothing ends early,
	// not even a stop. If they fail the next Sync makes up for them, by
	// iptables-restore.
	commandWait = 2
)

// sbin are the usual folders of iptables, for a PATH that lacks them, such as
// cron's.
var sbin = [...]string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

// family is the iptables programs of IPv4 or IPv6.
type family struct {
	tables    *iptables.IPTables
	program   string // "iptables" or "ip6tables"
	savePath  string // the program that prints a consistent listing of all tables
	committer committer
	isNFT     bool // the nft variant, not the legacy one
}

// newFamily finds the programs, "iptables" or "ip6tables", and checks that they
// work.
func newFamily(name string, log *slog.Logger) (*family, error) {
	path, err := findProgram(name)
	if err != nil {
		return nil, err
	}
	for _, part := range [...]string{"-save", "-restore"} {
		if _, err := exec.LookPath(path + part); err != nil {
			return nil, fmt.Errorf("%s is incomplete: %w", path, err)
		}
	}
	version, err := probe(path)
	if err != nil {
		return nil, err
	}
	protocol := iptables.ProtocolIPv4
	if name == "ip6tables" {
		protocol = iptables.ProtocolIPv6
	}
	tables, err := iptables.New(iptables.Path(path), iptables.IPFamily(protocol), iptables.Timeout(commandWait))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &family{
		tables:    tables,
		program:   name,
		savePath:  path + "-save",
		committer: &resident{fallback: oneShot{path + "-restore"}, log: log},
		isNFT:     strings.Contains(version, "nf_tables"),
	}, nil
}

// probeTimeout is for all commands of a probe. Loading a table's kernel modules
// takes a slow board a second or two.
const probeTimeout = 5 * time.Second

// probe checks that programs and kernel work, and returns the version. It is no
// failure if the xtables lock cannot be had within a second, nor if listing
// fails, unless it hangs.
func probe(path string) (version string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	if version, err = run(ctx, nil, path, "--version"); err != nil {
		return "", err
	}
	_, err = run(ctx, nil, path, "--wait", "1", "-S", "FORWARD")
	if err != nil && !errors.Is(markLocked(err), portmap.ErrLocked) {
		return "", err
	}
	if _, err = run(ctx, nil, path+"-save", "-t", "filter"); errors.Is(err, errTimeout) {
		return "", err
	}
	return version, nil
}

// findProgram returns the absolute path of a program.
func findProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range sbin {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no program %s in PATH, nor in %s: install iptables", name, strings.Join(sbin[:], ", "))
}

// snapshotTimeout is for listing all tables: it needs no lock, and 10,000 rules
// take a slow board two seconds.
const snapshotTimeout = 10 * time.Second

// snapshot returns the family's tables at one moment. go-iptables lists each
// chain at another one.
func (f *family) snapshot(ctx context.Context) (map[string]listing, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	text, err := run(ctx, nil, f.savePath)
	if err != nil {
		return nil, err
	}
	tables, err := parseListing(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.savePath, err)
	}
	return tables, nil
}

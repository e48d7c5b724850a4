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

// How many seconds are waited for the xtables lock. Others hold it for
// milliseconds.
const (
	// lockWait is for iptables-restore, which ends when the daemon does. Who
	// holds the lock longer than this is stuck.
	lockWait = 10
	// commandWait is for commands of go-iptables, which nothing ends early, not
	// even a stop. What they do not get done the next repair does, by
	// iptables-restore.
	commandWait = 2
)

// sbin are the folders where iptables lives, for a PATH that lacks them, as
// cron's does.
var sbin = [...]string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

// family is IPv4 or IPv6: the programs that know its tables.
type family struct {
	tables  *iptables.IPTables
	program string // "iptables" or "ip6tables"
	save    string // the program that prints all tables at one moment
	restore committer
	nft     bool // the variant that keeps its tables in nft
}

// newFamily finds the programs, "iptables" or "ip6tables", and sees whether
// the kernel answers them.
func newFamily(name string, log *slog.Logger) (*family, error) {
	path, err := find(name)
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
		tables:  tables,
		program: name,
		save:    path + "-save",
		restore: &resident{fallback: oneShot{path + "-restore"}, log: log},
		nft:     strings.Contains(version, "nf_tables"),
	}, nil
}

// probeTime is for the programs that a start asks, together. Loading the
// kernel's modules of a table takes a slow board a second or two.
const probeTime = 5 * time.Second

// probe sees whether programs and kernel answer, and returns the version. One
// that does not get the xtables lock within a second is well all the same, and
// listing may fail for a while, but not hang.
func probe(path string) (version string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	if version, err = run(ctx, nil, path, "--version"); err != nil {
		return "", err
	}
	_, err = run(ctx, nil, path, "--wait", "1", "-S", "FORWARD")
	if err != nil && !errors.Is(locked(err), portmap.ErrLocked) {
		return "", err
	}
	if _, err = run(ctx, nil, path+"-save", "-t", "filter"); errors.Is(err, errLate) {
		return "", err
	}
	return version, nil
}

// find returns the absolute path of a program.
func find(name string) (string, error) {
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

// lookTime is what listing all tables may take: it needs no lock, and 10,000
// rules take a slow board two seconds.
const lookTime = 10 * time.Second

// snapshot lists the family's tables. go-iptables lists chains one by one, each at
// another moment.
func (f *family) snapshot(ctx context.Context) (map[string]listing, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	text, err := run(ctx, nil, f.save)
	if err != nil {
		return nil, err
	}
	tables, err := parseListing(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.save, err)
	}
	return tables, nil
}

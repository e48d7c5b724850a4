// Package xtables runs the iptables programs of one family: it lists their
// tables, changes them in transactions, notices changes by other programs, deletes
// rules of nft by their handles, and traces packets through the rules. It knows nothing
// of port mappings.
package xtables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-iptables/iptables"
)

// How many seconds a program waits for the xtables lock. Other programs hold it
// for milliseconds.
const (
	// lockWait is for iptables-restore, which ends with the daemon. A program
	// that holds the lock longer than this hangs.
	lockWait = 10
	// commandWait is for the commands of go-iptables, which nothing ends early,
	// not even a stop.
	commandWait = 2
)

// sbin are the usual folders of iptables, for a PATH that lacks them, such as
// cron's.
var sbin = [...]string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

// Programs is the iptables programs of IPv4 or IPv6.
type Programs struct {
	name      string // "iptables" or "ip6tables"; "iptables-legacy" from FindOther
	path      string
	probed    bool // the program has run
	isNFT     bool // the nft variant, not the legacy one
	committer committer

	mu     sync.Mutex
	tables *iptables.IPTables // nil: not needed yet
}

// probeTimeout is for the first call of a program. Loading a table's kernel
// modules takes a slow board a second or two.
const probeTimeout = 5 * time.Second

// Find finds the programs by name, "iptables" or "ip6tables", without running
// them.
func Find(name string, log *slog.Logger) (*Programs, error) {
	path, err := findProgram(name)
	if err != nil {
		return nil, err
	}
	for _, part := range [...]string{"-save", "-restore"} {
		if _, err := exec.LookPath(path + part); err != nil {
			return nil, fmt.Errorf("%s is incomplete: %w", path, err)
		}
	}
	return &Programs{name: name, path: path, committer: &resident{fallback: oneShot{path + "-restore"}, log: log}}, nil
}

// FindOther finds the program that lists the tables of the variant that p is not,
// legacy or nft, for the family of name. It is for listing and watching only; nil:
// it is not installed.
func (p *Programs) FindOther(name string) *Programs {
	o := &Programs{name: name + "-nft", isNFT: !p.isNFT}
	if p.isNFT {
		o.name = name + "-legacy"
	}
	path, err := findProgram(o.name + "-save")
	if err != nil {
		return nil
	}
	o.path = strings.TrimSuffix(path, "-save")
	return o
}

// Name returns the name of the program, such as "ip6tables" or "iptables-legacy".
func (p *Programs) Name() string { return p.name }

// isIPv6 reports whether the programs are those of IPv6.
func (p *Programs) isIPv6() bool { return strings.HasPrefix(filepath.Base(p.path), "ip6tables") }

// Probe checks that the program runs, and finds out which variant it is.
func (p *Programs) Probe() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	version, err := run(ctx, nil, p.path, "--version")
	p.probed, p.isNFT = err == nil, strings.Contains(version, "nf_tables")
	return err
}

// ProbeKernel checks that the kernel has the family's tables. It is no failure
// if the xtables lock cannot be had within a second.
func (p *Programs) ProbeKernel() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	_, err := run(ctx, nil, p.path, "--wait", "1", "-S", "FORWARD")
	if errors.Is(markLocked(err), ErrLocked) {
		return nil
	}
	return err
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

// Commit carries out the sections in order up to the first that fails, or until
// ctx ends, and returns how many were carried out. After ErrInterrupted more of
// them may have been.
func (p *Programs) Commit(ctx context.Context, sections []Section) (done int, err error) {
	return p.committer.commit(ctx, sections)
}

// Close ends the process that waits for the next transaction.
func (p *Programs) Close() { p.committer.close() }

// Do carries out one edit by a command of its own, through go-iptables. It waits
// commandWait seconds for the xtables lock; nothing else ends it early.
func (p *Programs) Do(table string, e Edit) error {
	tables, err := p.goIPTables()
	if err != nil {
		return err
	}
	switch rule := splitRule(e.Rule); e.Op {
	case Create:
		err = tables.NewChain(table, e.Chain)
	case Insert:
		err = tables.Insert(table, e.Chain, e.Index+1, rule...)
	case Append:
		err = tables.Append(table, e.Chain, rule...)
	case Delete:
		err = tables.Delete(table, e.Chain, rule...)
	default:
		err = fmt.Errorf("no command for %q", e)
	}
	return markLocked(err)
}

// goIPTables returns the programs as go-iptables runs them.
func (p *Programs) goIPTables() (*iptables.IPTables, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tables != nil {
		return p.tables, nil
	}
	protocol := iptables.ProtocolIPv4
	if p.isIPv6() {
		protocol = iptables.ProtocolIPv6
	}
	if !p.probed { // go-iptables, which asks again, has no deadline
		if err := p.Probe(); err != nil {
			return nil, err
		}
	}
	tables, err := iptables.New(iptables.Path(p.path), iptables.IPFamily(protocol), iptables.Timeout(commandWait))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	p.tables = tables
	return tables, nil
}

// ErrLocked is the error of a program that did not get the xtables lock in time.
var ErrLocked = errors.New("another program keeps the firewall locked")

// markLocked adds ErrLocked to the error of a program that did not get the
// xtables lock in time.
func markLocked(err error) error {
	if err == nil || !strings.Contains(err.Error(), "xtables lock") {
		return err
	}
	return fmt.Errorf("%w: the xtables lock, find its holder with fuser: %w", ErrLocked, err)
}

// Installed returns the absolute paths of the programs of both families and variants
// that are installed.
func Installed() (list []string) {
	for _, family := range [...]string{"iptables", "ip6tables"} {
		for _, variant := range [...]string{"", "-legacy", "-nft"} {
			for _, part := range [...]string{"", "-save", "-restore"} {
				if path, err := findProgram(family + variant + part); err == nil {
					list = append(list, path)
				}
			}
		}
	}
	return list
}

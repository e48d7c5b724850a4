package netfilter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bootID is what the kernel calls the time since it was started.
const bootID = "/proc/sys/kernel/random/boot_id"

// deed is the file that says which chains are ours, for the process that comes
// after one which could not, or should not, remove them. It is void after a
// boot: the chains are gone, and whoever makes them then is somebody else.
type deed struct {
	path   string // empty: there is none
	chains []string
}

// read takes over what a process before this one has left.
func (d *deed) read() error {
	if d.path == "" {
		return nil
	}
	text, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return err
	}
	if chains, ok := strings.CutPrefix(string(text), string(boot)); ok {
		d.chains = strings.FieldsFunc(chains, func(c rune) bool { return c == '\n' })
	}
	return nil
}

// keep makes the file name these chains; where there are none there is none.
func (d *deed) keep(chains []string) error {
	if d.path == "" || slices.Equal(chains, d.chains) {
		return nil
	}
	d.chains = chains
	if len(chains) == 0 {
		return os.Remove(d.path)
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return err
	}
	text := string(boot) + strings.Join(chains, "\n") + "\n"
	if err := os.WriteFile(d.path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(d.path+".new", d.path)
}

// String returns what the deed calls the chain: "iptables nat MINIUPNPD".
func (c *chain) String() string {
	return strings.TrimSuffix(filepath.Base(c.save), "-save") + " " + c.table + " " + c.name
}

// claim takes over the chains that the deed names.
func (f *Firewall) claim() error {
	if err := f.deed.read(); err != nil {
		return fmt.Errorf("netfilter: whose the chains are: %w", err)
	}
	for _, c := range f.chains() {
		c.ours = slices.Contains(f.deed.chains, c.String())
	}
	return nil
}

// record has the deed name the chains that are ours now.
func (f *Firewall) record() {
	var ours []string
	for _, c := range f.chains() {
		if c.ours {
			ours = append(ours, c.String())
		}
	}
	if err := f.deed.keep(ours); err != nil {
		f.log.Warn("after a crash the chains will count as somebody else's, and stay", "err", err)
	}
}

package netfilter

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"igdd/pkg/safepath"
	"igdd/pkg/xtables"
)

// bootID is the file with the kernel's ID of this boot.
const bootID = "/proc/sys/kernel/random/boot_id"

// recordFormat follows the boot ID in a record that names jumps. Older versions
// wrote records without it that name chains alone.
const recordFormat = "format 2"

// sumPrefix begins the line with the checksum (CRC-32, IEEE) of the lines after it.
// Older versions wrote records without it, and ignore it.
const sumPrefix = "crc32 "

// errDamaged is the error of a record that is not as it was written.
var errDamaged = errors.New("the ownership record is damaged")

// isBootID reports whether a text is one of the kernel's IDs of a boot, a UUID such as
// 6fd5c2a6-8f5d-4d53-9f83-2f1f6b1c4c70.
func isBootID(text string) bool {
	parts := strings.Split(text, "-")
	for i, length := range [...]int{8, 4, 4, 4, 12} {
		if i >= len(parts) || len(parts[i]) != length || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return false
		}
	}
	return len(parts) == 5
}

// ownership is the record of what the daemon owns: a file for the next process,
// if this one ends without removing its rules. It is void after a reboot: the
// rules are gone, and chains of those names are another program's then.
type ownership struct {
	path string // empty: no record
	log  *slog.Logger

	mu       sync.Mutex
	boot     []byte                 // the ID of this boot; nil: not read yet
	written  string                 // the text in the file; "": there is no file
	failing  bool                   // the last write failed
	leftover []inventory            // of an earlier process with other settings
	owned    map[string][]inventory // of each family's chains, by the name of its program
}

func newOwnership(path string, log *slog.Logger) *ownership {
	return &ownership{path: path, log: log, owned: make(map[string][]inventory)}
}

// read returns what the record names, if it is of this boot. The error is an
// errDamaged if that cannot be known.
func (o *ownership) read() ([]inventory, error) {
	if o.path == "" {
		return nil, nil
	}
	text, err := readRecord(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if o.boot, err = os.ReadFile(bootID); err != nil {
		return nil, err
	}
	o.written = string(text)
	list, ok := parseRecord(o.written, string(o.boot))
	if !ok {
		return nil, fmt.Errorf("%w: %s", errDamaged, o.path)
	}
	return mergeInventories(list), nil
}

// parseRecord returns what a record names: nothing if it is of another boot. It fails
// for a text that is not a whole record.
func parseRecord(text, boot string) (list []inventory, ok bool) {
	body, isThisBoot := strings.CutPrefix(text, boot)
	if !isThisBoot {
		first, _, isLine := strings.Cut(text, "\n")
		return nil, isLine && isBootID(first)
	}
	names, hasJumps := strings.CutPrefix(body, recordFormat+"\n")
	if sum, rest, _ := strings.Cut(names, "\n"); strings.HasPrefix(sum, sumPrefix) {
		if sum != checksum(rest) {
			return nil, false
		}
		names = rest
	}
	for line := range strings.Lines(names) {
		line, isLine := strings.CutSuffix(line, "\n")
		v, ok := parseInventory(line)
		if !ok || !isLine {
			return nil, false
		}
		v.adoptJumps = !hasJumps
		list = append(list, v)
	}
	return list, len(list) > 0 // there is no record of nothing
}

// checksum returns the line with the checksum of a record's lines.
func checksum(lines string) string {
	return fmt.Sprintf("%s%08x", sumPrefix, crc32.ChecksumIEEE([]byte(lines)))
}

// readRecord reads the file of the record, which names chains to be removed: not one
// that another user may have planted.
func readRecord(path string) ([]byte, error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: remove it", path)
	}
	f, err := safepath.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// writeRecord replaces the file of the record: at any time, also after a power cut,
// there is a whole one.
func writeRecord(path, text string) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// write writes the record, and removes the file if there is nothing to record.
func (o *ownership) write(list []inventory) error {
	text, err := o.text(list)
	switch {
	case err != nil || o.path == "" || text == o.written:
		return err
	case text == "":
		err = os.Remove(o.path)
	default:
		err = writeRecord(o.path, text)
	}
	if err != nil && (text != "" || !errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	o.written = text
	return nil
}

// text returns the text of the record, "" if there is nothing to record.
func (o *ownership) text(list []inventory) (text string, err error) {
	if len(list) == 0 {
		return "", nil
	}
	if o.boot == nil {
		if o.boot, err = os.ReadFile(bootID); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	for _, v := range list {
		for _, line := range v.lines() {
			b.WriteString(line + "\n")
		}
	}
	return string(o.boot) + recordFormat + "\n" + checksum(b.String()) + "\n" + b.String(), nil
}

// loadOwnership reads the record: what concerns the daemon's chains goes there,
// the rest is leftover. After a damaged one the daemon owns nothing of what is there.
func (f *Firewall) loadOwnership() error {
	list, err := f.ownership.read()
	if errors.Is(err, errDamaged) {
		f.log.Error("chains and jumps that an earlier process created will stay when the daemon ends, without rules; "+
			"remove them by hand then, unless the firewall made them", "err", err)
	} else if err != nil {
		return fmt.Errorf("netfilter: read the ownership record: %w", err)
	}
	var leftover []inventory
	for _, v := range list {
		for _, family := range f.families() {
			for _, c := range family.chains {
				if family.name == v.program && c.table == v.table {
					v = c.takeFrom(v)
				}
			}
		}
		leftover = append(leftover, v)
	}
	f.ownership.leftover = mergeInventories(leftover)
	for _, family := range f.families() {
		f.ownership.owned[family.name] = family.inventories()
	}
	return nil
}

// takeFrom takes what concerns the chain out of an inventory, and returns the
// rest.
func (c *chain) takeFrom(v inventory) inventory {
	isName := func(name string) bool { return name == c.name }
	isJump := func(j xtables.Jump) bool {
		if c.exits != nil {
			return xtables.ParseRule(j.Rule).Target == c.name
		}
		return slices.ContainsFunc(c.wan, func(device string) bool { return j.Rule == c.jumpRule(device) })
	}
	c.created = slices.ContainsFunc(v.created, isName)
	c.borrowed = slices.ContainsFunc(v.borrowed, isName)
	c.adoptJumps = c.created && v.adoptJumps
	for _, j := range v.jumps {
		if isJump(j) {
			c.jumps = append(c.jumps, j)
		}
	}
	v.created, v.borrowed = slices.DeleteFunc(v.created, isName), slices.DeleteFunc(v.borrowed, isName)
	v.jumps = slices.DeleteFunc(v.jumps, isJump)
	return v
}

// inventory returns what the daemon owns of the chain and the jumps to it.
func (c *chain) inventory() inventory {
	v := inventory{program: c.family.name, table: c.table, jumps: c.jumps, adoptJumps: c.adoptJumps}
	switch {
	case c.created:
		v.created = []string{c.name}
	case c.borrowed:
		v.borrowed = []string{c.name}
	}
	return v
}

// inventories returns what the daemon owns of a family.
func (f *family) inventories() (list []inventory) {
	for _, c := range f.chains {
		list = append(list, c.inventory())
	}
	return list
}

// saveOwnership writes the record, before the kernel is changed and after.
func (f *Firewall) saveOwnership(family *family) {
	list := family.inventories()
	f.ownership.update(func(o *ownership) { o.owned[family.name] = list })
}

// update changes what is owned and writes the record. It logs only the first of
// several failures.
func (o *ownership) update(change func(*ownership)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
	list := slices.Clone(o.leftover)
	list = append(append(list, o.owned["iptables"]...), o.owned["ip6tables"]...)
	err := o.write(mergeInventories(list))
	if err != nil && !o.failing {
		o.log.Warn("cannot record which chains the daemon created; after a crash they will not be removed", "err", err)
	}
	o.failing = err != nil
}

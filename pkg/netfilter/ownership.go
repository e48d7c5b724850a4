package netfilter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// bootID is what the kernel calls the time since it was started.
const bootID = "/proc/sys/kernel/random/boot_id"

// recordFormat follows the boot in a record that names jumps. One without it
// is of a version that named the chains alone.
const recordFormat = "format 2"

// ownership is the record of what is ours, a file, for the process that comes
// after one which could not, or should not, take it away. It is void after a
// boot: all of it is gone, and whoever makes such chains then is somebody else.
type ownership struct {
	path    string // empty: there is none
	boot    []byte // this one's bootID; nil: not read yet
	written string // "": there is no file
	failing bool   // the last attempt to write it failed
}

// read returns what the file says of this boot.
func (o *ownership) read() ([]holding, error) {
	if o.path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if o.boot, err = os.ReadFile(bootID); err != nil {
		return nil, err
	}
	o.written = string(text)
	body, ofThisBoot := strings.CutPrefix(o.written, string(o.boot))
	if !ofThisBoot {
		return nil, nil
	}
	names, known := strings.CutPrefix(body, recordFormat+"\n")
	var list []holding
	for line := range strings.Lines(names) {
		if h, ok := parseHolding(strings.TrimSuffix(line, "\n")); ok {
			h.adopts = !known
			list = append(list, h)
		}
	}
	return merge(list), nil
}

// write makes the file say what is ours; where nothing is there is no file.
func (o *ownership) write(list []holding) error {
	text, err := o.text(list)
	switch {
	case err != nil || o.path == "" || text == o.written:
		return err
	case text == "":
		err = os.Remove(o.path)
	default:
		if err = os.WriteFile(o.path+".new", []byte(text), 0o644); err == nil {
			err = os.Rename(o.path+".new", o.path)
		}
	}
	if err != nil && (text != "" || !errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	o.written = text
	return nil
}

// text returns what the file says of a list, "" if there is nothing to say.
func (o *ownership) text(list []holding) (text string, err error) {
	if len(list) == 0 {
		return "", nil
	}
	if o.boot == nil {
		if o.boot, err = os.ReadFile(bootID); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	b.Write(o.boot)
	b.WriteString(recordFormat + "\n")
	for _, h := range list {
		for _, line := range h.lines() {
			b.WriteString(line + "\n")
		}
	}
	return b.String(), nil
}

// loadOwnership takes over what the record names.
func (f *Firewall) loadOwnership() error {
	list, err := f.ownership.read()
	if err != nil {
		return fmt.Errorf("netfilter: what is ours in the firewall: %w", err)
	}
	for _, h := range list {
		for _, c := range f.chains() {
			if c.family.program == h.program && c.table == h.table {
				h = c.inherit(h)
			}
		}
		f.leftover = append(f.leftover, h)
	}
	f.leftover = merge(f.leftover)
	return nil
}

// inherit takes over what concerns the chain, and returns the rest.
func (c *chain) inherit(h holding) holding {
	isName := func(name string) bool { return name == c.name }
	isJump := func(j jump) bool {
		return slices.ContainsFunc(c.wan, func(device string) bool { return j.rule == c.jump(device) })
	}
	c.made = slices.ContainsFunc(h.made, isName)
	c.adopts = c.made && h.adopts
	for _, j := range h.jumps {
		if isJump(j) {
			c.jumps = append(c.jumps, j)
		}
	}
	h.made, h.used = slices.DeleteFunc(h.made, isName), slices.DeleteFunc(h.used, isName)
	h.jumps = slices.DeleteFunc(h.jumps, isJump)
	return h
}

// holding returns what of the chain is ours.
func (c *chain) holding() holding {
	h := holding{program: c.family.program, table: c.table, jumps: c.jumps, adopts: c.adopts}
	switch {
	case c.made:
		h.made = []string{c.name}
	case c.used:
		h.used = []string{c.name}
	}
	return h
}

// saveOwnership has the file say what is ours now, before the kernel is changed. What
// cannot be written is told once.
func (f *Firewall) saveOwnership() {
	list := slices.Clone(f.leftover)
	for _, c := range f.chains() {
		list = append(list, c.holding())
	}
	err := f.ownership.write(merge(list))
	if err != nil && !f.ownership.failing {
		f.log.Warn("rules that a crash leaves behind will stay open until the firewall is restarted: the record of them cannot be written", "err", err)
	}
	f.ownership.failing = err != nil
}

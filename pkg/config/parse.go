package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Parse returns the configuration of the arguments and of the file that they
// name, by default /etc/rc.conf, or without that miniupnpd.conf. Relative paths in
// them start from dir, which is absolute. The error is an Info for -h and --version;
// any other names what the operator has to correct.
func Parse(args []string, dir string) (*Config, error) {
	return thisMachine(dir).parse(args)
}

func (m machine) parse(args []string) (*Config, error) {
	flags, err := split(args)
	var info Info
	switch {
	case errors.As(err, &info):
		return nil, info
	case err != nil:
		return nil, fmt.Errorf("miniupnpd: %w\n%s", err, usage)
	}
	d := newDraft(m)
	err = d.readFile(flags)
	if err == nil {
		err = d.apply(flags)
	}
	if err == nil {
		err = d.finish()
	}
	if err != nil {
		return nil, &Unusable{Warnings: d.Warnings, Reason: err}
	}
	return &d.Config, nil
}

// Unusable is the error of settings with which the service cannot start.
type Unusable struct {
	Warnings []string // what was skipped before, usually the cause
	Reason   error    // what is missing because of it
}

// Error returns the warnings and the reason, one per line.
func (u *Unusable) Error() string {
	lines := append(slices.Clip(u.Warnings), u.Reason.Error())
	return "miniupnpd: " + strings.Join(lines, "\nminiupnpd: ")
}

// Unwrap returns the reason.
func (u *Unusable) Unwrap() error { return u.Reason }

// readFile reads the file that the first -c or -f names, or a default one.
func (d *draft) readFile(flags []flag) error {
	i := slices.IndexFunc(flags, func(f flag) bool { return f.name == "-c" || f.name == "-f" })
	if i < 0 {
		return d.readUsual()
	}
	other := map[string]string{"-c": "-f", "-f": "-c"}[flags[i].name]
	if slices.ContainsFunc(flags, func(f flag) bool { return f.name == other }) {
		return errors.New("options -c and -f cannot be used together")
	}
	if flags[i].name == "-c" {
		return d.readRC(d.machine.absolute(flags[i].words[0]))
	}
	path := d.machine.absolute(flags[i].words[0])
	if err := d.readConf(path); err != nil {
		return err
	}
	if path == d.machine.generated {
		d.readSecondUplink()
	}
	return nil
}

// readUsual reads the first of the default files that exists. It is not an error
// if none does: the arguments may be enough.
func (d *draft) readUsual() error {
	err := d.readRC(d.machine.rc)
	for _, path := range d.machine.confs {
		if errors.Is(err, fs.ErrNotExist) {
			err = d.readConf(path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

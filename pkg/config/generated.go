package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// generatedLine is the first line of every rc.conf that AstLinux's gen-rc-conf writes.
const generatedLine = "## Auto-generated file, do not edit!!\n"

// readSecondUplink adds the second uplink of AstLinux's rc.conf to the miniupnpd.conf
// that AstLinux's own init script has written: the script names the first one alone,
// while its firewall accepts mappings on both. Without a usable rc.conf there is a
// warning.
func (d *draft) readSecondUplink() {
	second, rc := &uplink{d, 1}, d.machine.rc
	if second.String() != "" {
		return
	}
	text, err := readGenerated(d.machine.shell, rc, "EXT2IF")
	switch {
	case err != nil:
		d.warn(rc, fmt.Errorf("cannot read EXT2IF, mappings work on the first uplink only: %w", err))
	case text != "":
		where := rc + ": EXT2IF"
		if err := second.Set(text); err != nil {
			d.warn(where, err)
		}
		d.places["ext_ifname2"], d.borrowed = where, where
	}
}

// readGenerated returns the value of a variable in an rc.conf that gen-rc-conf has
// written, "" if the file is another one or does not exist.
func readGenerated(command []string, rc, variable string) (string, error) {
	b, err := readLimited(rc)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case !strings.HasPrefix(string(b), generatedLine):
		return "", nil
	}
	vars, _, err := shell{command, ReadLimit, "/"}.readPlain(rc, []string{variable})
	return vars[variable], err
}

package config

import (
	"cmp"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"igdd/pkg/command"
	"igdd/pkg/upnp"
)

// machine is what the settings use of the system, apart from their own file.
type machine struct {
	dir       string                     // where relative paths start; absolute
	rc        string                     // the default file of settings
	confs     []string                   // paths of miniupnpd's own file, used if there is no rc
	generated string                     // miniupnpd's own file as AstLinux's init script writes it
	shell     []string                   // the command that evaluates rc
	release   string                     // file with the name of the firmware's release
	blkid     []string                   // lists the file systems
	machineID string                     // file with an ID of the installation
	hardware  func(device string) string // address of an interface, "": unknown
}

// thisMachine returns the system with the paths of AstLinux, and the directory in which
// relative paths start.
func thisMachine(dir string) machine {
	return machine{
		dir:       dir,
		rc:        "/etc/rc.conf",
		confs:     []string{"/etc/miniupnpd.conf", "/etc/miniupnpd/miniupnpd.conf"},
		generated: "/tmp/etc/miniupnpd.conf",
		shell:     []string{"/bin/sh"},
		release:   "/etc/astlinux-release",
		blkid:     []string{"/sbin/blkid", "/usr/sbin/blkid"},
		machineID: "/etc/machine-id",
		hardware:  hardwareAddress,
	}
}

// absolute returns the absolute path of a file in the settings, "" for "".
func (m machine) absolute(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(m.dir, path)
}

func hardwareAddress(device string) string {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return ""
	}
	return link.HardwareAddr.String()
}

// releaseName returns the name of the firmware's release, "" if it has none.
func (m machine) releaseName() string { return firstLine(m.release) }

// firstLine returns the first line of a file, "" if it cannot be read.
func firstLine(path string) string {
	b, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// uuid returns a UUID that stays the same on this machine: that of AstLinux's
// file system for changes, as miniupnpd used there; else one derived from the
// hardware address of the first LAN interface that has one, or from the machine
// ID.
func (m machine) uuid(lans []LAN) upnp.UUID {
	name := m.partition("ASTURW")
	if id, err := upnp.ParseUUID(name); err == nil {
		return id
	}
	for _, lan := range lans {
		name = cmp.Or(name, m.hardware(lan.Interface))
	}
	return upnp.UUIDOf(cmp.Or(name, firstLine(m.machineID)))
}

// partition returns the UUID of the file system with this label, "" if there
// is none.
func (m machine) partition(label string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, path := range m.blkid {
		list, err := command.Command{Path: path, MaxStdout: maxFile}.Run(ctx)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(list.Stdout)) {
			if tag(line, "LABEL") == label {
				return tag(line, "UUID")
			}
		}
	}
	return ""
}

// tag returns the value of NAME="value" in a line of blkid.
func tag(line, name string) string {
	_, value, _ := strings.Cut(line, " "+name+`="`)
	value, _, _ = strings.Cut(value, `"`)
	return value
}

package config

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"igdd/pkg/portmap"
)

// externalPortsKey is the setting of the external ports that the provider forwards. In
// rc.conf, too, an empty one is a value: a script that is to find the ports may not have
// found them yet.
const externalPortsKey = "ext_ports"

// noPorts is the value without any port.
const noPorts = "none"

// externalPorts are external ports, separated by blanks or commas, perhaps in lines with
// comments; nil: every port. Invalid words are left out. A value without a port means
// none: no client is given a port at which nothing arrives.
type externalPorts struct{ ports **portmap.PortSet }

func (v externalPorts) Set(s string) error {
	s = withoutComments(s)
	set := new(portmap.PortSet)
	var errs []error
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(blanks+",", r) }) {
		r, err := parsePorts(word)
		switch {
		case word == noPorts:
		case err != nil:
			errs = append(errs, badEntry{err})
		case r.Last == 0:
			errs = append(errs, badEntry{errors.New("port 0 is not a port")})
		default:
			set.AddRange(r)
		}
	}
	set.Remove(0)
	n := set.Len()
	if n == 0 && strings.TrimSpace(s) != noPorts {
		errs = append(errs, errors.New("it names no port, so that no IPv4 port is granted; name the ports that the provider forwards, or remove the setting"))
	}
	if *v.ports = set; n == maxPort {
		*v.ports = nil
	}
	return errors.Join(errs...)
}

func (v externalPorts) String() string {
	if *v.ports == nil {
		return fmt.Sprintf("1-%d", maxPort)
	}
	return cmp.Or((*v.ports).String(), noPorts)
}

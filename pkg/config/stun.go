package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// stun is the settings of the STUN server for the announced address.
type stun struct {
	on   bool
	host string
	port uint16 // 0: the default
}

// stunPort is the default port of STUN servers (RFC 8489, section 18.5).
const stunPort = 3478

// performSTUN is on for yes, and for allow-filtered, which accepts a filtering
// NAT upstream.
type performSTUN stun

func (v *performSTUN) Set(s string) error {
	v.on = s == "yes" || s == "allow-filtered"
	if v.on {
		return nil
	}
	return checkYesNo(s, v.String())
}

func (v *performSTUN) String() string { return yesNo(v.on) }

// stunHost is the name or the address of the server, perhaps with a port.
type stunHost stun

func (v *stunHost) Set(s string) error {
	host, port, found := strings.Cut(s, ":")
	if _, err := netip.ParseAddr(s); found && err != nil {
		if err := (&number[uint16]{&v.port, 1, maxPort}).Set(port); err != nil {
			return fmt.Errorf("port of the STUN server: %w", err)
		}
		s = host
	}
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`"'/[]`, r) }
	if strings.ContainsFunc(s, odd) {
		return fmt.Errorf("invalid host name or address %q", s)
	}
	v.host = s
	return nil
}

func (v *stunHost) String() string { return v.host }

// setSTUN sets the server, as host or host:port.
func (d *draft) setSTUN(server string) error {
	next := stun{on: true}
	if err := (*stunHost)(&next).Set(server); err != nil {
		return err
	}
	if next.host == "" {
		return fmt.Errorf("missing STUN server in %q", server)
	}
	d.stun, d.places["ext_perform_stun"] = next, d.where
	return nil
}

// finishSTUN sets the server from the settings.
func (d *draft) finishSTUN() error {
	switch {
	case !d.stun.on:
		return nil
	case d.stun.host == "":
		return fmt.Errorf("%sext_perform_stun=yes needs a server: set ext_stun_host", d.Place("ext_perform_stun"))
	case d.ExternalIP.IsValid():
		return fmt.Errorf("%sthe announced address is %v, but STUN is enabled by %sext_perform_stun: remove one of them",
			d.Place("ext_ip"), d.ExternalIP, d.Place("ext_perform_stun"))
	case d.stun.port == 0:
		d.stun.port = stunPort
	}
	d.STUN = net.JoinHostPort(d.stun.host, strconv.Itoa(int(d.stun.port)))
	return nil
}

// recallSTUN is the inverse of finishSTUN.
func (d *draft) recallSTUN() {
	if host, port, err := net.SplitHostPort(d.STUN); err == nil {
		n, _ := parsePort(port)
		d.stun = stun{on: true, host: host, port: n}
	}
}

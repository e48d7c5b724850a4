package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"igdd/pkg/upnp"
)

// value is a setting's place in the configuration. Set may both accept a value
// and return an error about it; an invalid value does not change the setting.
type value interface {
	Set(text string) error
	String() string // the text that Set takes
}

// yes is a switch that is on for exactly that word.
type yes bool

func (v *yes) Set(s string) error {
	*v = s == "yes"
	return checkYesNo(s, v.String())
}

func (v *yes) String() string { return yesNo(bool(*v)) }

// unlessNo is a switch that is off for exactly the word no.
type unlessNo bool

func (v *unlessNo) Set(s string) error {
	*v = s != "no"
	return checkYesNo(s, v.String())
}

func (v *unlessNo) String() string { return yesNo(bool(*v)) }

// badSwitch is the error of a switch with an unknown value: it is counted, because it may
// mean the opposite of what it was meant to.
type badSwitch struct{ error }

// checkYesNo returns a badSwitch for a value other than yes and no.
func checkYesNo(s, taken string) error {
	if s != "yes" && s != "no" {
		return badSwitch{fmt.Errorf("%q is taken as %s; write yes or no", s, taken)}
	}
	return nil
}

// badEntry is the error of an entry of a list that is left out: it is counted, because
// what was meant to be in the list is not.
type badEntry struct{ error }

func yesNo(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

// text is any text without control characters.
type text string

func (v *text) Set(s string) error {
	if strings.ContainsFunc(s, isControl) {
		return fmt.Errorf("%q has a control character", s)
	}
	*v = text(s)
	return nil
}

func (v *text) String() string { return string(*v) }

// path is the path of a file, or none if empty.
type path struct {
	p       *string
	machine machine
}

func (v *path) Set(s string) error {
	var t text
	if err := t.Set(s); err != nil {
		return err
	}
	*v.p = v.machine.absolute(s)
	return nil
}

func (v *path) String() string { return *v.p }

// isControl reports whether r is an ASCII control character.
func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// commandLine is a program and its arguments, or none if empty.
type commandLine string

func (v *commandLine) Set(s string) error {
	if s != "" && !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%q is not an absolute path", s)
	}
	return (*text)(v).Set(s)
}

func (v *commandLine) String() string { return string(*v) }

// device is the name of an external interface, or a pattern such as "ppp+", or
// none if empty.
type device string

func (v *device) Set(s string) error {
	s = strings.Trim(s, blanks) // which a script that lists interfaces may leave
	name, err := withoutLabel(s)
	if _, notAddress := netip.ParseAddr(s); notAddress == nil {
		return essential{fmt.Errorf("%q is an address: name the interface that has it", s)}
	}
	if s != "" && !isDevice(name) {
		return essential{fmt.Errorf("invalid interface name %q", s)}
	}
	*v = device(name)
	if s != "" && !inRules(name) {
		return remark{essential{fmt.Errorf("interface name %q cannot be used in firewall rules", s)}}
	}
	return err
}

// inRules reports whether the name of an interface needs no quotes in a line for
// iptables-restore.
func inRules(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@+-", r)
	}) && name[0] != '-' && name[0] != '+'
}

// withoutLabel returns the interface in the label of an address: eth0 for
// "eth0:1". The error is a remark about it.
func withoutLabel(s string) (name string, err error) {
	name, _, labelled := strings.Cut(s, ":")
	if labelled && isDevice(name) {
		return name, remark{fmt.Errorf("%q is one address of %s, all of %s is used", s, name, name)}
	}
	return s, nil
}

func (v *device) String() string { return string(*v) }

// isDevice reports whether the kernel accepts s as the name of an interface.
func isDevice(s string) bool {
	const longest = 15 // IFNAMSIZ less the final NUL
	return s != "" && len(s) <= longest && s != "." && s != ".." &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r == 0x7f })
}

// hasShellSigns reports whether s has characters of lists or of the shell: the kernel
// accepts them in the name of an interface, but they are hardly meant.
func hasShellSigns(s string) bool { return strings.ContainsAny(s, "\"',;*$") }

// takenChains are names that cannot be set: the kernel's own chains, those of
// AstLinux's firewall for jumps, those that the daemon creates for other rules, and the
// targets that every iptables has.
var takenChains = []string{
	"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING",
	"POST_NAT_PREROUTING_CHAIN", "POST_FORWARD_CHAIN", "NAT_POSTROUTING_CHAIN",
	"MINIUPNPD-PEER", "MINIUPNPD-OUTBOUND", "MINIUPNPD-HAIRPIN", "MINIUPNPD-HAIRPIN-MASQ",
	"ACCEPT", "DROP", "QUEUE", "RETURN", "REJECT", "LOG", "DNAT", "SNAT", "MASQUERADE", "REDIRECT",
}

// chain is the name of an iptables chain.
type chain string

func (v *chain) Set(s string) error {
	const longest = 28 // XT_EXTENSION_MAXNAMELEN less the final NUL
	odd := func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-", r)
	}
	if s == "" || len(s) > longest || s[0] == '-' || strings.ContainsFunc(s, odd) {
		return fmt.Errorf("invalid chain name %q: use 1 to %d letters, digits, dots, - and _", s, longest)
	}
	if slices.Contains(takenChains, s) {
		return fmt.Errorf("chain %q has other rules, which would be lost: name a chain for mappings only", s)
	}
	*v = chain(s)
	return nil
}

func (v *chain) String() string { return string(*v) }

// ipv4 is an address, or none if empty.
type ipv4 netip.Addr

func (v *ipv4) Set(s string) error {
	if s == "" {
		*v = ipv4{}
		return nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return fmt.Errorf("invalid IPv4 address %q", s)
	}
	if !a.IsGlobalUnicast() {
		return fmt.Errorf("%v is not a host's address, that of the uplink is announced", a)
	}
	*v = ipv4(a)
	return nil
}

func (v *ipv4) String() string {
	if a := netip.Addr(*v); a.IsValid() {
		return a.String()
	}
	return ""
}

// span is a duration in whole units. A value out of range is replaced by the
// nearest one in it.
type span struct {
	d           *time.Duration
	unit        time.Duration
	least, most time.Duration
}

// century is the upper bound of durations that have no other.
const century = 100 * 365 * 24 * time.Hour

// seconds is a duration of at least this much.
func seconds(d *time.Duration, least time.Duration) value {
	return &span{d, time.Second, least, century}
}

// lifetime is a bound of the lifetimes that PCP grants (RFC 6887, section 15).
func lifetime(d *time.Duration) value {
	return &span{d, time.Second, shortest, longest}
}

func (v *span) Set(s string) error {
	n, err := whole(s, 0, int64(century/v.unit))
	if err != nil {
		return err
	}
	wanted := time.Duration(n) * v.unit
	*v.d = max(v.least, min(wanted, v.most))
	if *v.d != wanted {
		return fmt.Errorf("%v is out of range, %v is used", wanted, *v.d)
	}
	return nil
}

func (v *span) String() string { return strconv.FormatInt(int64(*v.d/v.unit), 10) }

// number is a whole number between two bounds.
type number[T uint16 | uint32 | int] struct {
	n        *T
	from, to int64
}

func (v *number[T]) Set(s string) error {
	n, err := whole(s, v.from, v.to)
	if err != nil {
		return err
	}
	*v.n = T(n)
	return nil
}

func (v *number[T]) String() string { return strconv.FormatInt(int64(*v.n), 10) }

// bitrate is a number of bits per second. An invalid one is taken as 0, as in
// miniupnpd: then the interface's own rate is reported.
type bitrate uint64

func (v *bitrate) Set(s string) error {
	n, err := strconv.ParseUint(strings.Trim(s, blanks), 10, 64)
	if err != nil {
		*v = 0
		return fmt.Errorf("invalid bit rate %q, 0 is used", s)
	}
	*v = bitrate(n)
	return nil
}

func (v *bitrate) String() string { return strconv.FormatUint(uint64(*v), 10) }

// whole parses a decimal number without a sign, perhaps with blanks around it.
func whole(s string, from, to int64) (int64, error) {
	s = strings.Trim(s, blanks)
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange), strings.HasPrefix(s, "+"), strings.HasPrefix(s, "-"):
		return 0, fmt.Errorf("invalid number %q", s)
	case err != nil || n < from || n > to:
		return 0, fmt.Errorf("%s is not from %d to %d", s, from, to)
	}
	return n, nil
}

// uuid is a UUID, or one derived from any other text, or none if empty.
type uuid string

func (v *uuid) Set(s string) error {
	if s == "" {
		*v = ""
		return nil
	}
	id, err := upnp.ParseUUID(s)
	if err != nil {
		id = upnp.UUIDOf(s)
		err = fmt.Errorf("%q is not a valid UUID, %v is used", s, id)
	}
	*v = uuid(id.String())
	return err
}

func (v *uuid) String() string { return string(*v) }

// outbound is auto, yes or no.
type outbound Outbound

func (v *outbound) Set(s string) error {
	for _, known := range []Outbound{OutboundAuto, OutboundAlways, OutboundNever} {
		if s == known.String() {
			*v = outbound(known)
			return nil
		}
	}
	return fmt.Errorf("%q is none of auto, yes and no", s)
}

func (v *outbound) String() string { return Outbound(*v).String() }

// upstream is no, auto, or a protocol: pcp, natpmp or igd.
type upstream Upstream

func (v *upstream) Set(s string) error {
	for known := UpstreamNo; known <= UpstreamIGD; known++ {
		if s == known.String() {
			*v = upstream(known)
			return nil
		}
	}
	return badSwitch{fmt.Errorf("%q is none of no, auto, pcp, natpmp and igd", s)}
}

func (v *upstream) String() string { return Upstream(*v).String() }

// igdVersion is 1, 2 or both.
type igdVersion IGDVersion

func (v *igdVersion) Set(s string) error {
	for _, known := range []IGDVersion{Both, V1, V2} {
		if s == known.String() {
			*v = igdVersion(known)
			return nil
		}
	}
	return fmt.Errorf("invalid version %q: use 1, 2 or both", s)
}

func (v *igdVersion) String() string { return IGDVersion(*v).String() }

package ssdp

import (
	"strconv"
	"strings"
)

// Kind is the kind of a Target.
type Kind uint8

// The kinds of targets (section 1.3.2, ST).
const (
	All         Kind = iota + 1 // every device and service
	RootDevice                  // root devices
	UUID                        // one device
	DeviceType                  // devices of a type and version
	ServiceType                 // services of a type and version
)

// Target is the target of a search.
type Target struct {
	Kind    Kind
	Name    string // the UUID in its spelling, or the type without its version
	Version int    // of a type, 1 or more
}

// The targets that are words, and the prefix of UUIDs.
const (
	all        = "ssdp:all"
	rootDevice = "upnp:rootdevice"
	uuidPrefix = "uuid:"
)

// ParseTarget parses an ST. Types must be complete, with a decimal version (section
// 1.3.2).
func ParseTarget(st string) (Target, bool) {
	switch {
	case st == all:
		return Target{Kind: All}, true
	case st == rootDevice:
		return Target{Kind: RootDevice}, true
	case strings.HasPrefix(st, uuidPrefix):
		return Target{Kind: UUID, Name: st[len(uuidPrefix):]}, len(st) > len(uuidPrefix)
	}
	return parseType(st)
}

// parseType reads urn:DOMAIN:device:NAME:VERSION and urn:DOMAIN:service:NAME:VERSION.
func parseType(st string) (Target, bool) {
	last := strings.LastIndexByte(st, ':')
	if last < 0 {
		return Target{}, false
	}
	version, ok := parseVersion(st[last+1:])
	urn, rest, _ := strings.Cut(st[:last], ":")
	domain, rest, _ := strings.Cut(rest, ":")
	kind, name, _ := strings.Cut(rest, ":")
	if !ok || urn != "urn" || domain == "" || name == "" || strings.Contains(name, ":") {
		return Target{}, false
	}
	switch kind {
	case "device":
		return Target{DeviceType, st[:last], version}, true
	case "service":
		return Target{ServiceType, st[:last], version}, true
	}
	return Target{}, false
}

// parseVersion parses a version of up to three digits, without sign or leading zero.
func parseVersion(s string) (int, bool) {
	if s == "" || len(s) > 3 || s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	version, err := strconv.Atoi(s)
	return version, err == nil
}

// String returns the target in the form of an ST.
func (t Target) String() string {
	switch t.Kind {
	case All:
		return all
	case RootDevice:
		return rootDevice
	case UUID:
		return uuidPrefix + t.Name
	}
	return t.Name + ":" + strconv.Itoa(t.Version)
}

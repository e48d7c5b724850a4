// Package ssdp encodes and decodes searches and their responses, and encodes notices, of
// the Simple Service Discovery Protocol: UPnP Device Architecture 1.1, chapter 1 and
// annex A.
package ssdp

import (
	"errors"
	"net/netip"
	"time"
)

// Port is the UDP port of searches and notices (section 1.1.1).
const Port = 1900

// MaxLen is the maximum length of a received datagram, in octets. A search needs a
// tenth of it.
const MaxLen = 1100

// MaxWait is the maximum delay of a response, whatever MX allows (section 1.3.2).
const MaxWait = 5 * time.Second

// MinAge is the minimum validity of a notice (section 1.2.2).
const MinAge = 1800 * time.Second

// ErrIgnore marks a datagram that must not be answered: SSDP has no error
// responses (section 1.1.5).
var ErrIgnore = errors.New("ssdp: not a search")

// Group is a multicast group in which devices are searched and announced.
type Group uint8

// The groups of IPv4 and of both IPv6 scopes (sections 1.1.1 and A.2).
const (
	IPv4 Group = iota
	LinkLocal
	SiteLocal
)

// Addr returns the group's address.
func (g Group) Addr() netip.Addr {
	switch g {
	case LinkLocal:
		return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x0c})
	case SiteLocal:
		return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x05, 15: 0x0c})
	}
	return netip.AddrFrom4([4]byte{239, 255, 255, 250})
}

// host returns the HOST of notices to the group, in the spelling of section A.3.
func (g Group) host() string {
	switch g {
	case LinkLocal:
		return "[FF02::C]:1900"
	case SiteLocal:
		return "[FF05::C]:1900"
	}
	return "239.255.255.250:1900"
}

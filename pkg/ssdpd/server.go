// Package ssdpd makes the gateway known on its LANs: they search and we
// answer, and we announce it unasked (SSDP, UDP port 1900).
package ssdpd

import (
	"cmp"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"igdd/pkg/ssdp"
)

// Options are what a Server is made of.
type Options struct {
	Descriptions []*ssdp.Description // descriptions of the gateway; the first is announced
	Port         uint16              // TCP port of the descriptions
	IPv6         bool                // serve the IPv6 groups too
	Interval     time.Duration       // longest time between two announcements
	BootID       uint32              // the first BOOTID; 0: the present in Unix seconds
	Product      string              // the SERVER field: OS/version UPnP/1.1 product/version
	Log          *slog.Logger
}

// Server makes the gateway known on any number of interfaces; each has a
// Listener.
type Server struct {
	opts Options

	mu        sync.Mutex // guards the rest
	boot      uint32     // BOOTID of all messages
	listeners map[*Listener]bool
}

// maxBoot is the greatest BOOTID (UDA 1.1, section 1.2.2).
const maxBoot = 1<<31 - 1

// New returns a server that listens nowhere yet.
func New(o Options) *Server {
	return &Server{
		opts:      o,
		boot:      cmp.Or(o.BootID, uint32(time.Now().Unix()&maxBoot)),
		listeners: make(map[*Listener]bool),
	}
}

// Announce repeats the announcement on all interfaces.
func (s *Server) Announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		l.queueEvent(event{})
	}
}

// Changed tells that addresses of interfaces may have changed. If one did
// where the gateway is announced, clients on all of them learn it, in the way
// of UDA 1.1, section 1.2.4.
func (s *Server) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	moved := false
	for l := range s.listeners {
		at := groupAddrsOf(l.lan.Prefixes())
		moved = moved || at != l.addrs
		l.addrs = at
	}
	if !moved {
		return
	}
	before := s.boot
	s.boot = max(before+1, uint32(time.Now().Unix())) & maxBoot
	for l := range s.listeners {
		l.queueEvent(event{moved: true, oldBootID: before})
	}
}

// add and leave keep the listeners that Announce and Changed reach.
func (s *Server) add(l *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.addrs = groupAddrsOf(l.lan.Prefixes())
	s.listeners[l] = true
}

func (s *Server) remove(l *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// sender returns what messages have in common that lead to an own address.
func (s *Server) sender(local netip.Addr) *ssdp.Sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &ssdp.Sender{
		Server: s.opts.Product,
		HTTP:   netip.AddrPortFrom(local, s.opts.Port),
		BootID: s.boot,
		MaxAge: 2*s.opts.Interval + 10*time.Second, // two announcements may get lost (section 1.2.2)
	}
}

// Package ssdpd announces the gateway on its LANs and answers searches (SSDP, UDP port
// 1900).
package ssdpd

import (
	"cmp"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/ssdp"
)

// Options configure a Server.
type Options struct {
	Descriptions []*ssdp.Description // descriptions of the gateway; the first is announced
	Port         uint16              // TCP port of the descriptions
	Hosts        *lan.Hosts          // tells the clients apart
	IPv6         bool                // serve the IPv6 groups too
	Interval     time.Duration       // maximum time between two announcements
	BootID       uint32              // the first BOOTID; 0: one that is greater than the last
	Saved        BootIDs             // where the BOOTID is saved
	Product      string              // the SERVER field: OS/version UPnP/1.1 product/version
	Log          *slog.Logger
}

// BootIDs saves the BOOTID, so that it grows over restarts although the clock may not be
// set then.
type BootIDs interface {
	// BootID returns the last BOOTID that was saved; 0: there is none.
	BootID() uint32
	// SetBootID saves a BOOTID. An error means that it may not outlive the process.
	SetBootID(id uint32) error
}

// Server announces the gateway on any number of interfaces; each has a Listener.
type Server struct {
	opts Options

	mu        sync.Mutex // guards the rest
	begun     bool       // bootID has been chosen, for the first listener
	bootID    uint32     // BOOTID of all messages
	listeners map[*Listener]bool
}

// maxBootID is the greatest BOOTID (UDA 1.1, section 1.2.2).
const maxBootID = 1<<31 - 1

// New returns a server that listens nowhere yet.
func New(o Options) *Server {
	return &Server{opts: o, listeners: make(map[*Listener]bool)}
}

// setBootID chooses the BOOTID of all messages from now on, and saves it.
func (s *Server) setBootID(id uint32) {
	s.bootID = id
	if err := s.opts.Saved.SetBootID(id); err != nil {
		s.opts.Log.Warn("cannot save the BOOTID of SSDP", "err", err)
	}
}

// nextBootID returns the BOOTID after last: the present time in Unix seconds, or a greater
// number if last is not less (UDA 1.1, section 1.2.2).
func nextBootID(last uint32) uint32 {
	return max(last+1, uint32(time.Now().Unix()&maxBootID)) & maxBootID
}

// Announce repeats the announcement on all interfaces.
func (s *Server) Announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		l.queueEvent(event{})
	}
}

// Changed must be called when addresses of interfaces may have changed. If an address
// of an announcement has changed, the clients on all interfaces are notified (UDA 1.1,
// section 1.2.4).
func (s *Server) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for l := range s.listeners {
		addrs := groupAddrsOf(l.on.Prefixes())
		changed = changed || addrs != l.addrs
		l.addrs = addrs
	}
	if !changed {
		return
	}
	oldBootID := s.bootID
	s.setBootID(nextBootID(oldBootID))
	for l := range s.listeners {
		l.queueEvent(event{addrChanged: true, oldBootID: oldBootID})
	}
}

// add and remove maintain the listeners for Announce and Changed. The first listener
// begins a BOOTID.
func (s *Server) add(l *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.begun = true
		s.setBootID(cmp.Or(s.opts.BootID, nextBootID(s.opts.Saved.BootID())))
	}
	l.addrs = groupAddrsOf(l.on.Prefixes())
	s.listeners[l] = true
}

func (s *Server) remove(l *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// sender returns the common part of all messages with a LOCATION at this address.
func (s *Server) sender(local netip.Addr) *ssdp.Sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &ssdp.Sender{
		Server: s.opts.Product,
		HTTP:   netip.AddrPortFrom(local, s.opts.Port),
		BootID: s.bootID,
		MaxAge: 2*s.opts.Interval + 10*time.Second, // so that two announcements may be lost (section 1.2.2)
	}
}

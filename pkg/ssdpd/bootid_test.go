package ssdpd

import (
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/ssdp"
)

// savedBootID is a saved BOOTID that outlives servers.
type savedBootID uint32

func (s *savedBootID) BootID() uint32 { return uint32(*s) }
func (s *savedBootID) SetBootID(id uint32) error {
	*s = savedBootID(id)
	return nil
}

// movingLAN is an interface with one address, which changes.
type movingLAN struct{ addr netip.Addr }

func (*movingLAN) Name() string               { return "lan0" }
func (*movingLAN) Index() int                 { return 7 }
func (l *movingLAN) Prefixes() []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(l.addr, 24)} }

// move gives the interface another address.
func (l *movingLAN) move() { l.addr = l.addr.Next() }

// start starts a server with one listener and returns the server.
func (saved *savedBootID) start(on *movingLAN, fixed uint32) *Server {
	s := New(Options{Descriptions: []*ssdp.Description{testDescription}, BootID: fixed, Saved: saved, Log: slog.New(slog.DiscardHandler)})
	s.add(&Listener{server: s, on: on, events: make(chan event, 1)})
	return s
}

// id returns the BOOTID of a server's messages.
func (s *Server) id() uint32 { return s.sender(netip.Addr{}).BootID }

// TestBootIDGrows starts servers one after another, with address changes, at times that
// the clock shows in any order: in the bubble it begins in the year 2000, and what was
// saved is from before it stepped back.
func TestBootIDGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saved, on, now := new(savedBootID), &movingLAN{addr: own[0].Addr()}, uint32(time.Now().Unix())
		if got := saved.start(on, 0).id(); got != now || got != uint32(*saved) {
			t.Errorf("at first: %d, saved %d, want the time, %d", got, *saved, now)
		}
		for _, last := range []uint32{now, now + 10*365*24*3600, maxBootID - 3} { // at once, and after steps
			*saved = savedBootID(last)
			for range 2 {
				before := uint32(*saved)
				s := saved.start(on, 0)
				if got := s.id(); got != before+1 || got != uint32(*saved) {
					t.Errorf("after %d: %d, saved %d", before, got, *saved)
				}
			}
		}
		*saved = savedBootID(now)
		time.Sleep(time.Hour)
		s := saved.start(on, 0)
		if got := s.id(); got != now+3600 {
			t.Errorf("an hour later: %d, want %d", got, now+3600)
		}
		for range 3 {
			before := s.id()
			on.move()
			s.Changed()
			if got := s.id(); got != before+1 || got != uint32(*saved) {
				t.Errorf("another address: %d, saved %d, want %d", got, *saved, before+1)
			}
		}
		if got, want := saved.start(on, 0).id(), s.id()+1; got != want {
			t.Errorf("restarted after changes of the address: %d, want %d", got, want)
		}
	})
}

// TestBootIDIsOneNumber demands that listeners that come later have the same BOOTID, and
// that it stays within 31 bits: after the greatest it begins anew.
func TestBootIDIsOneNumber(t *testing.T) {
	saved, on := savedBootID(maxBootID-1), &movingLAN{addr: own[0].Addr()}
	s := saved.start(on, 0)
	s.add(&Listener{server: s, on: on, events: make(chan event, 1)})
	if got := s.id(); got != maxBootID {
		t.Errorf("with two listeners: %d, want %d", got, maxBootID)
	}
	if got := saved.start(on, 0).id(); got != 0 {
		t.Errorf("after the greatest: %d", got)
	}
}

// TestBootIDOfTheSettings demands that the one of the settings counts, also if a greater
// one was saved, and that it is saved.
func TestBootIDOfTheSettings(t *testing.T) {
	saved, on := savedBootID(maxBootID), &movingLAN{addr: own[0].Addr()}
	s := saved.start(on, 7)
	if got := s.id(); got != 7 || saved != 7 {
		t.Errorf("%d, saved %d, want 7", got, saved)
	}
	on.move()
	s.Changed()
	if got := s.id(); got < uint32(time.Now().Unix())-1 || got != uint32(saved) {
		t.Errorf("after a change: %d, saved %d, want the time", got, saved)
	}
}

package vectors

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Waiting times: a reply that must come may take long on a busy machine, and
// one that must not come would be here before the reply to a later request.
const (
	patience = 10 * time.Second
	silence  = 100 * time.Millisecond
)

// Gateway is a gateway under test whose table is empty and which has been set
// up with the vector's steps other than send and wan.
type Gateway interface {
	// Exchange sends a request from a host on the side, lan or wan, to UDP port
	// 5351 of the destination. It returns the first reply and where it came
	// from, nil if there is none in time.
	Exchange(side string, source, destination netip.Addr, request []byte, wait time.Duration) ([]byte, netip.Addr, error)
	// SetUplink gives the gateway another external address, or none. It
	// returns when the gateway knows.
	SetUplink(netip.Addr) error
}

// Play carries out a vector that starts with a request and compares what comes
// of it.
func (v Vector) Play(t testing.TB, g Gateway) {
	t.Helper()
	for _, step := range v.Before {
		if err := step.play(g); err != nil {
			t.Fatalf("%s: before: %s: %v", v.ID, step.Op, err)
		}
	}
	for _, difference := range exchange(g, v.Side, FollowUp{v.Source, v.Destination, v.Request, v.Expect, ""}) {
		t.Errorf("%s: %s", v.ID, difference)
	}
	for _, f := range v.After {
		for _, difference := range exchange(g, "lan", f) {
			t.Errorf("%s: after: %s (%s)", v.ID, difference, f.Why)
		}
	}
}

// play carries out a step that the gateway under test must see.
func (s Step) play(g Gateway) error {
	switch s.Op {
	case "send":
		reply, _, err := g.Exchange("lan", s.Source, s.Destination, s.Request, patience)
		if err != nil {
			return err
		}
		if got := decode(reply)["result"]; got != float64(s.Result) {
			return fmt.Errorf("result %v, want %d", got, s.Result)
		}
	case "wan":
		return g.SetUplink(s.Addr)
	}
	return nil
}

// exchange sends a request and returns what is wrong with the reply.
func exchange(g Gateway, side string, f FollowUp) []string {
	wait := patience
	if f.Expect.Silent() {
		wait = silence
	}
	reply, from, err := g.Exchange(side, f.Source, f.Destination, f.Request, wait)
	if f.Expect.ICMP != "" && err != nil && strings.Contains(err.Error(), "refused") {
		return nil
	}
	if err != nil {
		return []string{err.Error()}
	}
	differences := f.Expect.Check(reply)
	if want := f.Expect.ReplySource; want.IsValid() && from != want {
		differences = append(differences, fmt.Sprintf("reply from %v, want %v", from, want))
	}
	if f.Expect.ICMP != "" {
		differences = append(differences, "no ICMP "+f.Expect.ICMP)
	}
	return differences
}

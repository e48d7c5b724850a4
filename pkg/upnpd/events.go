package upnpd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/upnp"
)

// Limits of event subscriptions (UDA 1.1, section 4.1).
const (
	subscriptionsPerClient = 8
	subscriptionsInAll     = 64
	shortestSubscription   = 1800 * time.Second
	longestSubscription    = 86400 * time.Second
	// eventGap is the minimum time between two messages to one subscriber; changes
	// in between go into the next (section 4.3.1).
	eventGap       = 200 * time.Millisecond
	refusalsToDrop = 3 // consecutive deliveries that all callbacks refused
)

// subscription is a control point's subscription to the events of one service.
type subscription struct {
	sid       string
	service   *upnp.Service
	version   upnp.Version // of the description whose variables it gets
	callbacks []callback
	device    string     // the LAN interface of the request
	client    netip.Addr // the subscriber
	local     netip.Addr // the router's address that it connected to

	// Guarded by subscriptions.mu.
	expires   time.Time
	seq       uint32
	delivered map[string]string // the values that were delivered, by variable
	earliest  time.Time         // when the next message may be sent
	busy      bool              // it does not have its SID yet, or a message is being delivered
	refusals  int
}

// subscriptions holds all subscriptions.
type subscriptions struct {
	// state returns the state variables at the moment of the call.
	state func() state
	dial  dialer
	log   *slog.Logger

	mu      sync.Mutex
	list    []*subscription
	ctx     context.Context // of the deliveries; nil: the server does not run
	sending sync.WaitGroup
}

// run delivers events until ctx ends, and waits for the last delivery.
func (s *subscriptions) run(ctx context.Context, changed <-chan struct{}) {
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	s.changed()
	for {
		select {
		case <-ctx.Done():
			s.stop()
			return
		case <-changed:
			s.changed()
		}
	}
}

// stop starts no further deliveries and waits for those in progress.
func (s *subscriptions) stop() {
	s.mu.Lock()
	s.ctx = nil
	s.mu.Unlock()
	s.sending.Wait()
}

// add adds a subscription and returns its duration; false: a limit is reached. No
// event is sent before sendInitial.
func (s *subscriptions) add(sub *subscription, asked time.Duration) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	mine := 0
	for _, other := range s.list {
		if other.client == sub.client {
			mine++
		}
	}
	if mine >= subscriptionsPerClient || len(s.list) >= subscriptionsInAll {
		return 0, false
	}
	granted := grantedTimeout(asked)
	sub.sid = newSID()
	sub.expires = time.Now().Add(granted)
	sub.delivered = make(map[string]string)
	sub.busy = true
	s.list = append(s.list, sub)
	return granted, true
}

// grantedTimeout returns the duration that is granted to a subscriber.
func grantedTimeout(asked time.Duration) time.Duration {
	return min(max(asked, shortestSubscription), longestSubscription)
}

// newSID returns an identifier that cannot be guessed: a random UUID.
func newSID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// sendInitial sends the initial event with all variables after the response with the
// SID (section 4.1.2), with a delay: GUPnP loses an event that overtakes the response.
func (s *subscriptions) sendInitial(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.busy, sub.earliest = false, time.Now().Add(eventGap)
	s.send(sub, s.state())
}

// renew renews a subscription.
func (s *subscriptions) renew(sid string, service *upnp.Service, client netip.Addr, asked time.Duration) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.find(sid, service, client)
	if sub == nil {
		return 0, false
	}
	granted := grantedTimeout(asked)
	sub.expires = time.Now().Add(granted)
	return granted, true
}

// cancel ends a subscription.
func (s *subscriptions) cancel(sid string, service *upnp.Service, client netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.find(sid, service, client)
	if sub != nil {
		s.drop(sub)
	}
	return sub != nil
}

// find returns a client's subscription to a service, or nil.
func (s *subscriptions) find(sid string, service *upnp.Service, client netip.Addr) *subscription {
	s.expire()
	for _, sub := range s.list {
		if strings.EqualFold(sub.sid, sid) && sub.service == service && sub.client == client {
			return sub
		}
	}
	return nil
}

func (s *subscriptions) drop(sub *subscription) {
	s.list = slices.DeleteFunc(s.list, func(o *subscription) bool { return o == sub })
}

func (s *subscriptions) expire() {
	now := time.Now()
	s.list = slices.DeleteFunc(s.list, func(o *subscription) bool { return !o.expires.After(now) })
}

// changed starts deliveries to the subscribers whose variables have changed. It does
// not wait for them.
func (s *subscriptions) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	now := s.state()
	for _, sub := range s.list {
		s.send(sub, now)
	}
}

// send starts a delivery if values have changed for the subscriber, unless one is in
// progress: the messages of a subscription are sent one after another.
func (s *subscriptions) send(sub *subscription, now state) {
	if sub.busy || s.ctx == nil || s.ctx.Err() != nil || len(sub.changedProperties(now)) == 0 {
		return
	}
	sub.busy = true
	ctx := s.ctx
	s.sending.Go(func() { s.deliver(ctx, sub) })
}

// changedProperties returns the variables whose values have not been delivered, all
// of them at first.
func (sub *subscription) changedProperties(now state) (list []upnp.Property) {
	for _, name := range sub.service.Evented(sub.version) {
		value, _ := now.value(name, sub.version)
		if had, ok := sub.delivered[name]; !ok || had != value {
			list = append(list, upnp.Property{Name: name, Value: value})
		}
	}
	return list
}

// deliver sends messages until the subscriber has all values.
func (s *subscriptions) deliver(ctx context.Context, sub *subscription) {
	for s.waitTurn(ctx, sub) {
		changes, seq := s.next(sub)
		if len(changes) == 0 {
			return
		}
		err := sub.notify(ctx, s.dial, seq, upnp.AppendEvent(nil, changes))
		if !s.recordDelivery(sub, changes, err) {
			return
		}
	}
}

// waitTurn waits until the next message may be sent; false: ctx has ended.
func (s *subscriptions) waitTurn(ctx context.Context, sub *subscription) bool {
	s.mu.Lock()
	wait := time.Until(sub.earliest)
	s.mu.Unlock()
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// next returns the properties of the next message and its sequence number. Without
// properties, or when the subscription has ended, the delivery is over.
func (s *subscriptions) next(sub *subscription) (changes []upnp.Property, seq uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if slices.Contains(s.list, sub) {
		changes = sub.changedProperties(s.state())
	}
	if len(changes) == 0 {
		sub.busy = false
		return nil, 0
	}
	seq = sub.seq
	if sub.seq++; sub.seq == 0 {
		sub.seq = 1 // section 4.3.2: only the initial event has 0
	}
	sub.earliest = time.Now().Add(eventGap)
	return changes, seq
}

// recordDelivery notes the result of a delivery, and reports whether there may be
// more to send. A lost message is not repeated (section 4.3.2): its values go into the
// next, when something changes. A subscriber that refuses repeatedly, or answers that
// it does not know the subscription, is removed.
func (s *subscriptions) recordDelivery(sub *subscription, changes []upnp.Property, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		sub.refusals = 0
		for _, p := range changes {
			sub.delivered[p.Name] = p.Value
		}
		return true
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		sub.refusals++
	}
	if errors.Is(err, errUnknown) || sub.refusals >= refusalsToDrop {
		s.log.Info("event subscriber is gone", "client", sub.client, "service", sub.service.Name, "err", err)
		s.drop(sub)
	}
	sub.busy = !slices.Equal(sub.changedProperties(s.state()), changes)
	return sub.busy
}

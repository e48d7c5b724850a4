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
	// eventGap is the least time between two messages to one subscriber:
	// what changes meanwhile goes into the next (section 4.3.1).
	eventGap       = 200 * time.Millisecond
	refusalsToDrop = 3 // deliveries in a row that no callback took
)

// subscription is one control point that wants to hear of one service.
type subscription struct {
	sid       string
	service   *upnp.Service
	version   upnp.Version // of the face whose variables it gets
	callbacks []callback
	device    string     // the LAN interface it came in on
	client    netip.Addr // who subscribed
	local     netip.Addr // the router's address that was asked

	// Guarded by subscriptions.mu.
	expires  time.Time
	seq      uint32
	told     map[string]string // the values it knows
	earliest time.Time         // when the next message may go
	busy     bool              // has not got its SID yet, or a message is under way
	refusals int
}

// subscriptions is the register of all subscribers.
type subscriptions struct {
	// state returns a look at the state variables as they are at one moment.
	state func() state
	dial  dialer
	log   *slog.Logger

	mu      sync.Mutex
	list    []*subscription
	ctx     context.Context // of the deliveries; nil: the server does not run
	sending sync.WaitGroup
}

// run lets events be delivered until ctx ends, and waits for the last.
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

// stop lets no further delivery begin and waits for those under way.
func (s *subscriptions) stop() {
	s.mu.Lock()
	s.ctx = nil
	s.mu.Unlock()
	s.sending.Wait()
}

// add registers a subscriber and returns how long its subscription lasts;
// false: a limit is reached. It hears nothing before begin.
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
	sub.told = make(map[string]string)
	sub.busy = true
	s.list = append(s.list, sub)
	return granted, true
}

// grantedTimeout returns the duration that is granted to a subscriber.
func grantedTimeout(asked time.Duration) time.Duration {
	return min(max(asked, shortestSubscription), longestSubscription)
}

// newSID returns an identifier that nobody can guess: a random UUID.
func newSID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// sendInitial sends the initial event of all variables, now that the subscriber
// has its SID (section 4.1.2), and time to read it: GUPnP loses an event that
// overtakes the reply.
func (s *subscriptions) sendInitial(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.busy, sub.earliest = false, time.Now().Add(eventGap)
	s.send(sub, s.state())
}

// renew prolongs a subscription.
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

// find returns the subscription of a client at a service, or nil.
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

// changed tells all subscribers whose variables have changed. It never waits
// for them.
func (s *subscriptions) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	now := s.state()
	for _, sub := range s.list {
		s.send(sub, now)
	}
}

// send starts a delivery if the subscriber does not know all yet, unless one
// is under way: messages of one subscription go one after another.
func (s *subscriptions) send(sub *subscription, now state) {
	if sub.busy || s.ctx == nil || s.ctx.Err() != nil || len(sub.changedProperties(now)) == 0 {
		return
	}
	sub.busy = true
	ctx := s.ctx
	s.sending.Go(func() { s.deliver(ctx, sub) })
}

// changedProperties returns the variables whose values the subscriber has not been told,
// all of them at first.
func (sub *subscription) changedProperties(now state) (list []upnp.Property) {
	for _, name := range sub.service.Evented(sub.version) {
		value, _ := now.value(name, sub.version)
		if told, ok := sub.told[name]; !ok || told != value {
			list = append(list, upnp.Property{Name: name, Value: value})
		}
	}
	return list
}

// deliver sends messages until the subscriber knows all.
func (s *subscriptions) deliver(ctx context.Context, sub *subscription) {
	for s.waitTurn(ctx, sub) {
		news, seq := s.next(sub)
		if len(news) == 0 {
			return
		}
		err := sub.notify(ctx, s.dial, seq, upnp.AppendEvent(nil, news))
		if !s.recordDelivery(sub, news, err) {
			return
		}
	}
}

// waitTurn waits until the next message may go; false: none may any more.
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

// next returns what the next message says and its number. If it says nothing,
// or the subscription has ended, the delivery is over.
func (s *subscriptions) next(sub *subscription) (news []upnp.Property, seq uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if slices.Contains(s.list, sub) {
		news = sub.changedProperties(s.state())
	}
	if len(news) == 0 {
		sub.busy = false
		return nil, 0
	}
	seq = sub.seq
	if sub.seq++; sub.seq == 0 {
		sub.seq = 1 // section 4.3.2: 0 is the initial event's alone
	}
	sub.earliest = time.Now().Add(eventGap)
	return news, seq
}

// recordDelivery notes how a message fared, and reports whether there may be more to
// say. One that is lost is given up (section 4.3.2): what it said goes into
// the next, once something changes. Who refuses again and again, or says that
// it does not know the subscription, is dropped.
func (s *subscriptions) recordDelivery(sub *subscription, news []upnp.Property, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		sub.refusals = 0
		for _, p := range news {
			sub.told[p.Name] = p.Value
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
	sub.busy = !slices.Equal(sub.changedProperties(s.state()), news)
	return sub.busy
}

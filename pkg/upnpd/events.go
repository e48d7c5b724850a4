package upnpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/fair"
	"igdd/pkg/lan"
	"igdd/pkg/upnp"
)

// Limits of event subscriptions (UDA 1.1, section 4.1).
const (
	subscriptionsPerHost = 8
	subscriptionsInAll   = 64
	shortestSubscription = 1800 * time.Second
	longestSubscription  = 86400 * time.Second
	// eventGap is the minimum time between two messages to one subscriber; changes
	// in between go into the next (section 4.3.1).
	eventGap       = 200 * time.Millisecond
	failuresToDrop = 3 // consecutive deliveries that all callbacks refused
	// repeatGap is the time before an initial event is sent again that nobody took:
	// some programs subscribe before they listen.
	repeatGap = 2 * time.Second
	// newFor is how long a subscription counts as new after it was made or renewed: a
	// host that has all its places loses none of them to further ones of its own.
	newFor = 2 * time.Minute
)

// subscription is a control point's subscription to the events of one service.
type subscription struct {
	sid       string
	service   *upnp.Service
	version   upnp.Version // of the description whose variables it gets
	callbacks []callback
	device    string     // the LAN interface of the request
	client    netip.Addr // the subscriber
	host      lan.Host   // the same
	local     netip.Addr // the router's address that it connected to

	// Guarded by subscriptions.mu.
	since     time.Time // it was made or renewed
	expires   time.Time
	seq       uint32
	delivered map[string]string // the values that were delivered, by variable
	earliest  time.Time         // when the next message may be sent
	busy      bool              // it does not have its SID yet, or a message is being delivered
	failures  int               // consecutive deliveries that nobody took
	isMute    bool              // the last message was not answered
	stop      func()            // ends the delivery in progress; nil: there was none yet
}

// subscriptions holds all subscriptions.
type subscriptions struct {
	// state returns the state variables at the moment of the call.
	state func() state
	dial  dialer
	log   *slog.Logger

	mu      sync.Mutex
	places  fair.Places[lan.Host, *subscription]
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

// newSubscriptions returns subscriptions without any.
func newSubscriptions(state func() state, dial dialer, log *slog.Logger) *subscriptions {
	s := &subscriptions{state: state, dial: dial, log: log}
	s.places = fair.Places[lan.Host, *subscription]{PerHost: subscriptionsPerHost, Total: subscriptionsInAll, Rank: (*subscription).rank}
	return s
}

// The ranks of subscriptions: those whose events were not taken, or not answered, give
// up their places first, then those that were not renewed for the longest time: a host
// that was restarted leaves such behind.
const (
	unheard = iota
	mute
	heard
	recent
)

// rank returns the rank of a subscription.
func (sub *subscription) rank() int {
	switch {
	case len(sub.delivered) == 0 && sub.failures > 0:
		return unheard
	case sub.isMute:
		return mute
	case time.Since(sub.since) < newFor:
		return recent
	}
	return heard
}

// add adds a subscription, perhaps in place of another one, and returns its duration;
// false: there is no place for it, or the kernel has no random number. No event is sent
// before sendInitial.
func (s *subscriptions) add(sub *subscription, asked time.Duration) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	sid, err := newSID()
	if err != nil {
		return 0, false
	}
	if s.places.Count(sub.host) >= subscriptionsPerHost {
		if own, ok := s.places.Weakest(sub.host); ok && own.rank() < recent {
			s.displace(own)
		}
	}
	lost, hasLost, ok := s.places.Take(sub.host, sub)
	if hasLost {
		s.displace(lost)
	}
	if !ok {
		return 0, false
	}
	sub.sid = sid
	sub.delivered = make(map[string]string)
	sub.busy = true
	return sub.extend(asked), true
}

// displace ends a subscription that has to make room for another.
func (s *subscriptions) displace(sub *subscription) {
	s.log.Info("event subscription ended to make room for another", "client", sub.client, "service", sub.service.Name)
	s.end(sub)
}

// end ends a subscription, and the delivery in progress.
func (s *subscriptions) end(sub *subscription) {
	s.places.Release(sub)
	if sub.stop != nil {
		sub.stop()
	}
}

// extend sets the end of a subscription, and returns how long it lasts from now.
func (sub *subscription) extend(asked time.Duration) time.Duration {
	granted := grantedTimeout(asked)
	sub.since = time.Now()
	sub.expires = sub.since.Add(granted)
	return granted
}

// grantedTimeout returns the duration that is granted to a subscriber.
func grantedTimeout(asked time.Duration) time.Duration {
	return min(max(asked, shortestSubscription), longestSubscription)
}

// newSID returns an identifier that cannot be guessed: a random UUID.
func newSID() (string, error) {
	var b [16]byte
	_, err := unix.Getrandom(b[:], 0)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), err
}

// sendInitial sends the initial event with all variables after the response with the
// SID (section 4.1.2), with a delay: GUPnP loses an event that overtakes the response.
func (s *subscriptions) sendInitial(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.busy, sub.earliest = false, time.Now().Add(eventGap)
	s.send(sub, s.state())
}

// renew renews a subscription, which is then the newest of its host.
func (s *subscriptions) renew(sid string, service *upnp.Service, client netip.Addr, asked time.Duration) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.find(sid, service, client)
	if sub == nil {
		return 0, false
	}
	s.places.Release(sub)
	s.places.Take(sub.host, sub)
	return sub.extend(asked), true
}

// cancel ends a subscription.
func (s *subscriptions) cancel(sid string, service *upnp.Service, client netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.find(sid, service, client)
	if sub != nil {
		s.end(sub)
	}
	return sub != nil
}

// find returns a client's subscription to a service, or nil.
func (s *subscriptions) find(sid string, service *upnp.Service, client netip.Addr) *subscription {
	s.expire()
	for _, sub := range s.places.Items() {
		if strings.EqualFold(sub.sid, sid) && sub.service == service && sub.client == client {
			return sub
		}
	}
	return nil
}

// expire ends the subscriptions whose time is over.
func (s *subscriptions) expire() {
	now := time.Now()
	for _, sub := range s.places.Items() {
		if !sub.expires.After(now) {
			s.end(sub)
		}
	}
}

// changed starts deliveries to the subscribers whose variables have changed. It does
// not wait for them.
func (s *subscriptions) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	now := s.state()
	for _, sub := range s.places.Items() {
		s.send(sub, now)
	}
}

// send starts a delivery if values have changed for the subscriber, unless one is in
// progress: the messages of a subscription are sent one after another.
func (s *subscriptions) send(sub *subscription, now state) {
	if sub.busy || s.ctx == nil || s.ctx.Err() != nil || len(sub.changedProperties(now)) == 0 {
		return
	}
	ctx, stop := context.WithCancel(s.ctx)
	sub.busy, sub.stop = true, stop
	s.sending.Go(func() {
		defer stop()
		s.deliver(ctx, sub)
	})
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

// deliver sends messages until the subscriber has all values. A panic ends nothing but
// the subscription.
func (s *subscriptions) deliver(ctx context.Context, sub *subscription) {
	defer lan.Recover(s.log, sub.client, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.end(sub)
	})
	for s.waitTurn(ctx, sub) {
		changes, seq := s.next(sub)
		if len(changes) == 0 {
			return
		}
		err := sub.notify(ctx, s.dial, seq, upnp.AppendEvent(nil, changes))
		if ctx.Err() != nil || !s.recordDelivery(sub, changes, err) {
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
	if slices.Contains(s.places.Items(), sub) {
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
// more to send. An initial event that nobody took is repeated; another message is not
// (section 4.3.2): its values go into the next, when something changes. A subscriber
// that nobody reaches repeatedly, or that answers that it does not know the
// subscription, is removed.
func (s *subscriptions) recordDelivery(sub *subscription, changes []upnp.Property, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	isInitial, isRefused := len(sub.delivered) == 0, errors.Is(err, unix.ECONNREFUSED)
	sub.isMute = err != nil
	if err == nil || isInitial && errors.Is(err, errNoAnswer) {
		sub.failures = 0
		for _, p := range changes {
			sub.delivered[p.Name] = p.Value
		}
		return true
	}
	if isRefused {
		sub.failures++
	}
	if errors.Is(err, errUnknown) || sub.failures >= failuresToDrop || isInitial && !isRefused {
		s.log.Info("event subscriber is gone", "client", sub.client, "service", sub.service.Name, "err", err)
		s.end(sub)
		return false
	}
	if isInitial {
		sub.seq, sub.earliest = 0, time.Now().Add(repeatGap)
		return true
	}
	sub.busy = !slices.Equal(sub.changedProperties(s.state()), changes)
	return sub.busy
}

package ssdpd

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"igdd/pkg/ssdp"
)

// The timing of announcements (UDA 1.1, section 1.2.2).
const (
	firstPause = 100 * time.Millisecond
	aliveCount = 3 // of the first announcement
	copyGap    = 300 * time.Millisecond
)

// event is the reason for another announcement: a call of Announce, or a changed
// address, which changes BOOTID.
type event struct {
	addrChanged bool
	oldBootID   uint32 // if addrChanged
}

// queueEvent passes an event to the advertiser. It replaces a pending one, unless that
// one has an old BOOTID.
func (l *Listener) queueEvent(e event) {
	select {
	case pending := <-l.events:
		if pending.addrChanged {
			e = pending
		}
	default:
	}
	l.events <- e
}

// notice is a scheduled announcement.
type notice struct {
	at        time.Time
	kind      kind
	oldBootID uint32 // update: the previous BOOTID
}

// kind is the kind of a notice.
type kind uint8

const (
	alive kind = iota
	byebye
	update
)

// advertiser is a listener with the schedule of its announcements.
type advertiser struct {
	*Listener
	schedule []notice // the next first, never empty
}

// announce sends what is due, including responses, until ctx ends, and then byebye.
func (l *Listener) announce(ctx context.Context) {
	a := advertiser{Listener: l, schedule: l.startSchedule()}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.multicast(notice{kind: byebye})
			return
		case <-l.wakeup:
		case e := <-l.events:
			a.schedule = reannouncement(e)
		case <-timer.C:
		}
		timer.Reset(time.Until(a.sendDue(time.Now())))
	}
}

// sendDue sends what is due now and returns when the next is.
func (a *advertiser) sendDue(now time.Time) time.Time {
	a.sendDueReplies(now)
	if !a.schedule[0].at.After(now) {
		a.multicast(a.schedule[0])
		if a.schedule = a.schedule[1:]; len(a.schedule) == 0 {
			a.schedule = a.nextPeriodic(now)
		}
	}
	if due := a.replies.due(); !due.IsZero() && due.Before(a.schedule[0].at) {
		return due
	}
	return a.schedule[0].at
}

// startSchedule returns the announcements of the start. Byebye comes first, for clients
// that remember an earlier instance (WANIPConnection:2, section 1.2).
func (l *Listener) startSchedule() []notice {
	now := time.Now()
	return append([]notice{{at: now, kind: byebye}}, aliveCopies(now.Add(firstPause+random(firstPause)))...)
}

// aliveCopies returns the copies of an announcement.
func aliveCopies(first time.Time) (notices []notice) {
	for i := range aliveCount {
		notices = append(notices, notice{at: first.Add(time.Duration(i) * copyGap)})
	}
	return notices
}

// reannouncement returns the announcements after an event.
func reannouncement(e event) []notice {
	now := time.Now()
	if !e.addrChanged {
		return []notice{{at: now}}
	}
	return append([]notice{{at: now, kind: update, oldBootID: e.oldBootID}}, aliveCopies(now.Add(firstPause))...)
}

// nextPeriodic returns the next announcement: at a random time, so that devices that
// were switched on at the same time do not stay in step.
func (l *Listener) nextPeriodic(now time.Time) []notice {
	return []notice{{at: now.Add(l.server.opts.Interval - random(l.server.opts.Interval/4))}}
}

// random returns a duration up to d.
func random(d time.Duration) time.Duration { return rand.N(d + 1) }

// multicast sends a notice to every group for which the gateway has an address. It does
// not pause between messages, because each pause would be another wake-up.
func (l *Listener) multicast(n notice) {
	if l.server.opts.Hosts.Hides(l.on) {
		return
	}
	addrs := groupAddrsOf(l.on.Prefixes())
	for _, s := range l.sockets {
		for i, from := range addrs {
			g := ssdp.Group(i)
			if !from.IsValid() || !s.HasGroup(g.Addr()) {
				continue
			}
			for _, m := range l.messages(n, g, from) {
				l.send(s, from, netip.AddrPortFrom(g.Addr(), ssdp.Port), func(b []byte) []byte { return append(b, m...) })
			}
		}
	}
}

// messages returns the messages of a notice to one group.
func (l *Listener) messages(n notice, g ssdp.Group, local netip.Addr) (messages [][]byte) {
	description, sender := l.server.opts.Descriptions[0], l.server.sender(local)
	for _, i := range description.Items() {
		var b []byte
		switch n.kind {
		case alive:
			b = sender.AppendAlive(nil, g, description, i)
		case byebye:
			b = sender.AppendByebye(nil, g, description, i)
		case update:
			old := *sender
			old.BootID = n.oldBootID
			b = old.AppendUpdate(nil, g, description, i, sender.BootID)
		}
		messages = append(messages, b)
	}
	return messages
}

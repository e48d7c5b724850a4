package daemon_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"igdd/pkg/control"
)

// claim is one mapping of one client through one protocol. A client asks for it with
// one request at a time.
type claim struct {
	origin   string // as miniupnpctl names it
	client   netip.Addr
	protocol string // "TCP" or "UDP"
	// port is the internal one, by which NAT-PMP, PCP and the pinholes of UPnP name a
	// mapping. UPnP names the others by the external one.
	port uint16
}

// The internal ports of the soak's clients begin here, by how they request them.
const (
	natpmpPorts  = 4000
	pcpPorts     = 4004 // the first two are those of NAT-PMP as well
	pcp6Ports    = 4200
	peerPorts    = 4300
	upnpPorts    = 4400
	anyPorts     = 4500 // requested with AddAnyPortMapping
	pinholePorts = 4600
)

// claimOf returns the claim through which a protocol holds an entry.
func claimOf(origin string, e control.Entry) claim {
	c := claim{origin: origin, client: e.Client, protocol: e.Protocol, port: e.ClientPort}
	if origin == "UPnP" && e.ClientPort >= upnpPorts && e.ClientPort < anyPorts {
		c.port = e.ExternalPort
	}
	return c
}

// promise is what a client may rely on.
type promise struct {
	state   string
	other   uint16    // the port that is not in the claim; 0: there is none
	expires time.Time // zero: never
	changed time.Time // when the last request ended
	id      string    // of a pinhole
	asking  bool      // a request has no answer yet
	doubted bool      // nor had it when the daemon ended with what the disk did not take
}

// String names a claim in messages.
func (c claim) String() string {
	return fmt.Sprintf("%s %s %v:%d", c.origin, c.protocol, c.client, c.port)
}

// String says what is promised in messages.
func (p promise) String() string {
	return fmt.Sprintf("%q with port %d until %s", p.state, p.other, p.expires.Format("15:04:05.000"))
}

// The states of a promise. The zero value is one that was never given.
const (
	isGranted = "granted"
	isGone    = ""        // deleted, or never granted
	isPerhaps = "perhaps" // a request had no answer, or the disk did not take it
)

// book notes what clients were answered.
type book struct {
	mu       sync.Mutex
	promises map[claim]promise
	history  map[claim][]string // the last events of each
	denied   bool               // external ports from deniedPort on may be denied
	counts   map[string]int     // answers by their kind
}

// historyLen is how many events are kept for each claim.
const historyLen = 8

func newBook() *book {
	return &book{promises: make(map[claim]promise), history: make(map[claim][]string), counts: make(map[string]int)}
}

// ask notes that a request is on its way, and returns the promise before it.
func (b *book) ask(c claim) promise {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.promises[c]
	p.asking = true
	b.promises[c] = p
	return p
}

// answer notes how a request ended; what says it in words. The answer of a daemon that has
// ended since may come late, when a link is up again, and promise what the disk did not take.
func (b *book) answer(c claim, p promise, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.denied && p.state == isGranted && mayBeDenied(c, p) {
		p.state = isPerhaps
	}
	if b.promises[c].doubted {
		p.state, p.expires = isPerhaps, time.Time{}
	}
	p.asking, p.doubted, p.changed = false, false, time.Now()
	b.promises[c] = p
	b.note(c, what)
}

// note adds an event to the history of a claim.
func (b *book) note(c claim, what string) {
	list := append(b.history[c], fmt.Sprintf("%s %s", time.Now().Format("15:04:05.000"), what))
	b.history[c] = list[max(0, len(list)-historyLen):]
}

// count counts an answer or something else that happens.
func (b *book) count(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[what]++
}

// deniedPort is the first external port that some settings deny.
const deniedPort = 20030

// mayBeDenied reports whether the settings that deny ports deny a mapping.
func mayBeDenied(c claim, p promise) bool { return c.port >= deniedPort || p.other >= deniedPort }

// deny says whether settings that deny ports may be in force.
func (b *book) deny(denied bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denied = denied
	for c, p := range b.promises {
		if denied && p.state == isGranted && mayBeDenied(c, p) {
			p.state = isPerhaps
			b.promises[c] = p
			b.note(c, "may be denied")
		}
	}
}

// doubt forgets what was answered since a time: the answers did not reach the disk, and
// the daemon ends.
func (b *book) doubt(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c, p := range b.promises {
		if p.changed.After(since) || p.asking {
			p.state, p.expires, p.doubted = isPerhaps, time.Time{}, p.asking
			b.promises[c] = p
			b.note(c, "not on the disk")
		}
	}
}

// copy returns the present promises.
func (b *book) copy() map[claim]promise {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.promises)
}

// of returns a host's promises for which a condition holds.
func (b *book) of(holds func(claim, promise) bool) (list []claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c, p := range b.promises {
		if holds(c, p) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b claim) int { return int(a.port) - int(b.port) })
	return list
}

// historyOf returns the last events of a claim, one a line.
func (b *book) historyOf(c claim) (text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.history[c] {
		text += "\n    " + line
	}
	return text
}

// expiryMargin is how much earlier or later than a client expects it, its lease may
// end: it may have repeated the request, and the machine may be busy.
const expiryMargin = 5 * time.Second

// mustBe reports whether a mapping must exist at a time, and whether it must not.
func (p promise) mustBe(at time.Time) (present, absent bool) {
	switch {
	case p.state == isGone:
		return false, true
	case p.expires.IsZero():
		return p.state == isGranted, false
	case at.After(p.expires.Add(expiryMargin)):
		return false, true
	}
	return p.state == isGranted && at.Before(p.expires.Add(-expiryMargin)), false
}

// judge compares entries of the table, read between two copies of the book, with what
// clients were answered. It returns what is wrong with which claims.
func (b *book) judge(list []control.Entry, before, after map[claim]promise, began, ended time.Time) map[claim]string {
	wrong, seen := make(map[claim]string), make(map[claim]control.Entry)
	for _, e := range list {
		for _, origin := range e.Origins {
			seen[claimOf(origin, e)] = e
		}
	}
	for c, e := range seen {
		if _, isAsked := after[c]; !isAsked {
			wrong[c] = fmt.Sprintf("in the table, and never requested: %v: %+v", c, e)
		}
	}
	for c, p := range after {
		e, isThere := seen[c]
		present, _ := p.mustBe(ended)
		_, absent := p.mustBe(began)
		switch {
		case p != before[c], p.asking: // it changes
		case present && !isThere:
			wrong[c] = fmt.Sprintf("granted, and not in the table: %v, %v", c, p)
		case absent && isThere:
			wrong[c] = fmt.Sprintf("in the table, and deleted, refused or expired: %v, %v: %+v", c, p, e)
		case present && !p.leadsTo(c, e):
			wrong[c] = fmt.Sprintf("granted otherwise than in the table: %v, %v: %+v", c, p, e)
		}
	}
	return wrong
}

// leadsTo reports whether an entry has the ports of a promise.
func (p promise) leadsTo(c claim, e control.Entry) bool {
	switch {
	case e.Pinhole:
		return true
	case c.port == e.ClientPort:
		return p.other == e.ExternalPort
	}
	return p.other == e.ClientPort && c.port == e.ExternalPort
}

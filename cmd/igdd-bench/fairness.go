package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
)

const (
	// fairRequests is the number of requests of the honest client in a round.
	fairRequests = 10
	// fairLead is how long a flood goes on before the client comes.
	fairLead = 500 * time.Millisecond
)

// nuisance is a flood of any kind.
type nuisance interface {
	// stop ends it and returns how many requests or connections per second there were.
	stop() (float64, error)
}

// peace is no flood.
type peace struct{}

func (peace) stop() (float64, error) { return 0, nil }

// contest is a flood, and the honest client that comes beside it.
type contest struct {
	name  string // of the row
	flood string // in words
	ask   func(h *honest, i int) (time.Duration, error)
	pause time.Duration
	isNew bool // the honest client, to the router's neighbour table
	begin func(l *lab, s *service) (nuisance, error)
}

// quiet is an honest client of the family of the sources, without a flood.
func quiet(name string, k kind, family sources) contest {
	c := besides(name, k, family)
	c.flood = "none: " + k.name
	if family.at(0).Is6() {
		c.flood += ", IPv6"
	}
	c.begin = func(*lab, *service) (nuisance, error) { return peace{}, nil }
	return c
}

// besides is a flood of one kind, beside which the honest client sends requests of the
// same kind over the same family.
func besides(name string, k kind, from sources) contest {
	return contest{
		name:  name,
		flood: k.name + ", from " + from.what,
		pause: k.pause,
		ask: func(h *honest, i int) (time.Duration, error) {
			own, err := h.lab.honestAddr(from.at(0))
			if err != nil {
				return 0, err
			}
			return h.ask(k, own, i)
		},
		begin: func(l *lab, _ *service) (nuisance, error) { return l.startFlood(k, from) },
	}
}

// whenNew is the contest with an honest client that is new to the router at each request.
func whenNew(c contest) contest {
	c.isNew = true
	c.name += "-new"
	c.flood += "; the honest client is new"
	return c
}

// holding is a flood of held HTTP connections, each with the text that prepare returns.
func holding(name, what string, from sources, prepare func(*lab, *service) (string, error)) contest {
	return contest{
		name:  name,
		flood: what + ", from " + from.what,
		pause: honestPause,
		ask:   func(h *honest, _ int) (time.Duration, error) { return h.askHTTP() },
		begin: func(l *lab, s *service) (nuisance, error) {
			if s == nil {
				return nil, errors.New("no response to a search")
			}
			text, err := prepare(l, s)
			if err != nil {
				return nil, err
			}
			return l.startHold(s.host, from, text), nil
		},
	}
}

func sendNothing(*lab, *service) (string, error) { return "", nil }

func askForList(l *lab, s *service) (string, error) { return listRequest(s), l.fillTable(s) }

// honestAddr returns the honest client's address for requests beside those of another
// one.
func (l *lab) honestAddr(beside netip.Addr) (netip.Addr, error) {
	switch {
	case beside.Is4():
		return firstClient, nil
	case beside.IsLinkLocalUnicast():
		return l.linkLocal(func(f func() error) error { return f() }, "eth0")
	}
	return honestULA, nil
}

// contests has each kind of flood from one host and from invented ones, and of the other
// sources those that meet another part of a daemon.
var contests = []contest{
	quiet("quiet-address", natpmpAddress, oneHost), quiet("quiet-map", natpmpMapping, oneHost),
	quiet("quiet-pcp", pcpMapping, oneHost), quiet("quiet-pcp-6", pcpMapping, hundredULA),
	quiet("quiet-search", searchOne, oneHost), quiet("quiet-search-6", searchOne, inventedLink), quiet("quiet-all", searchAll, oneHost),

	besides("flood-address", natpmpAddress, oneHost), whenNew(besides("flood-address", natpmpAddress, oneHost)),
	besides("flood-address-100", natpmpAddress, hundred), besides("flood-address-forged", natpmpAddress, forged),
	besides("flood-address-invented", natpmpAddress, invented), whenNew(besides("flood-address-invented", natpmpAddress, invented)),
	besides("flood-map", natpmpMapping, oneHost), besides("flood-map-100", natpmpMapping, hundred),
	besides("flood-map-invented", natpmpMapping, invented),
	besides("flood-pcp", pcpMapping, oneHost), besides("flood-pcp-invented", pcpMapping, invented),
	besides("flood-pcp-6", pcpMapping, hundredULA),
	besides("flood-announce-forged", pcpAnnounce, forged), besides("flood-announce-invented", pcpAnnounce, invented),
	besides("flood-announce-6", pcpAnnounce, inventedULA), besides("flood-announce-link", pcpAnnounce, inventedLink),
	besides("flood-search", searchOne, oneHost), besides("flood-search-forged", searchOne, forged),
	besides("flood-search-invented", searchOne, invented), whenNew(besides("flood-search-invented", searchOne, invented)),
	besides("flood-search-link", searchOne, inventedLink),
	besides("flood-all", searchAll, oneHost), besides("flood-all-100", searchAll, hundred), besides("flood-all-invented", searchAll, invented),

	holding("flood-http", "64 idle HTTP connections", oneHost, sendNothing),
	holding("flood-http-100", "64 idle HTTP connections", hundred, sendNothing),
	holding("flood-lists", "64 lists of 384 mappings that nobody reads", oneHost, askForList),
	holding("flood-lists-100", "64 lists of 384 mappings that nobody reads", hundred, askForList),
}

// inWholeRun are the contests of a whole run: of each server's dearest requests, from
// those hosts that meet another part of it.
var inWholeRun = []string{"flood-address", "flood-map-invented", "flood-pcp", "flood-search-invented", "flood-http"}

// fairnessRows returns a row for each contest of a whole run, or of the others.
func fairnessRows(isExtra bool) (rows []row) {
	for _, c := range contests {
		if slices.Contains(inWholeRun, c.name) != isExtra {
			rows = append(rows, row{c.name, floodTopic, c.flood, percent, empty, c.measure})
		}
	}
	return rows
}

// measure returns how many percent of the honest client's requests a daemon, which has
// just started, answers before they have to be repeated.
func (c contest) measure(r *round) (atOnce float64, err error) {
	l := r.lab
	if err := l.addIPv6(); err != nil {
		return 0, err
	}
	p, err := l.start(r.daemon.program, leases{})
	if err != nil {
		return 0, err
	}
	defer l.settle(p)
	h := &honest{lab: l, isNew: c.isNew}
	if h.service, err = discover(firstClient); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", r.daemon.name, err)
	}
	n, err := c.begin(l, h.service)
	if err != nil {
		return 0, err
	}
	time.Sleep(fairLead)
	atOnce = c.askAll(h)
	sent, err := n.stop()
	fmt.Fprintf(os.Stderr, "beside %.0f a second: ", sent)
	if p.hasExited() {
		err = errors.Join(err, fmt.Errorf("the daemon exited: %s", l.log.recent()))
	}
	return atOnce, err
}

// askAll is the honest client's part. It returns how many percent of its requests were
// answered at once.
func (c contest) askAll(h *honest) float64 {
	atOnce := 0
	for i := range fairRequests {
		took, err := c.ask(h, i)
		switch {
		case err == nil && took <= firstWait:
			atOnce++
		case err != nil && !errors.Is(err, errUnanswered):
			fmt.Fprintln(os.Stderr, "honest client:", err)
		}
		time.Sleep(c.pause)
	}
	return 100 * float64(atOnce) / fairRequests
}

// settle stops a daemon and waits until the router's kernel looks for no neighbour any
// more.
func (l *lab) settle(p *process) {
	p.stop()
	l.onRouter("ip", "neighbour", "flush", "all").Run()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		n := 0
		l.router.Do(func() (err error) { n, err = incompleteNeighbours(); return err })
		if n == 0 {
			return
		}
	}
}

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	fairRequests = 50 // of the honest client beside each flood
	quickFair    = 20
	roundFair    = 10 // in a round of a whole run
	// fairLimit is the time after which it sends no further one.
	fairLimit = 20 * time.Second
	// fairLead is how long a flood goes on before the client comes.
	fairLead = 500 * time.Millisecond
)

// fairRow is a flood, and who comes beside it.
type fairRow struct {
	what  string
	ask   func(h *honest, i int) (time.Duration, error)
	pause time.Duration
	isNew bool // the honest client, to the router's neighbour table
	begin func(l *lab, s *service) (nuisance, error)
}

// nuisance is a flood of any kind.
type nuisance interface {
	// stop ends it and returns how many requests or connections per second there were.
	stop() (float64, error)
}

// peace is no flood.
type peace struct{}

func (peace) stop() (float64, error) { return 0, nil }

// quiet is a row without a flood, of an honest client over the family of the sources.
func quiet(k kind, family sources) fairRow {
	row := besides(k, family)
	row.what = "nothing: " + k.name
	if family.at(0).Is6() {
		row.what += ", IPv6"
	}
	row.begin = func(*lab, *service) (nuisance, error) { return peace{}, nil }
	return row
}

// besides is a row of a flood of one kind, beside which the honest client sends
// requests of the same kind over the same family.
func besides(k kind, from sources) fairRow {
	return fairRow{
		what:  k.name + ", from " + from.what,
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

// whenNew is a row whose honest client is new to the router at each request.
func whenNew(row fairRow) fairRow {
	row.isNew = true
	row.what += "; the honest client is new"
	return row
}

// holding is a row of held HTTP connections.
func holding(what string, from sources, prepare func(*lab, *service) error, text func(*service) string) fairRow {
	return fairRow{
		what:  what + ", from " + from.what,
		pause: honestPause,
		ask:   func(h *honest, _ int) (time.Duration, error) { return h.askHTTP() },
		begin: func(l *lab, s *service) (nuisance, error) {
			if s == nil {
				return nil, errors.New("no response to a search")
			}
			if err := prepare(l, s); err != nil {
				return nil, err
			}
			return l.startHold(s.host, from, text(s)), nil
		},
	}
}

func nothing(*lab, *service) error { return nil }

func silence(*service) string { return "" }

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

// fairRows has each kind of flood from one host and from invented ones, and of the other
// sources those that meet another part of a daemon.
var fairRows = []fairRow{
	quiet(natpmpAddress, oneHost), quiet(natpmpMapping, oneHost), quiet(pcpMapping, oneHost), quiet(pcpMapping, hundredULA),
	quiet(searchOne, oneHost), quiet(searchOne, inventedLink), quiet(searchAll, oneHost),

	besides(natpmpAddress, oneHost), besides(natpmpAddress, hundred), besides(natpmpAddress, forged), besides(natpmpAddress, invented),
	whenNew(besides(natpmpAddress, oneHost)), whenNew(besides(natpmpAddress, invented)),
	besides(natpmpMapping, oneHost), besides(natpmpMapping, hundred), besides(natpmpMapping, invented),
	besides(pcpMapping, oneHost), besides(pcpMapping, invented), besides(pcpMapping, hundredULA),
	besides(pcpAnnounce, forged), besides(pcpAnnounce, invented), besides(pcpAnnounce, inventedULA), besides(pcpAnnounce, inventedLink),
	besides(searchOne, oneHost), besides(searchOne, forged), besides(searchOne, invented), besides(searchOne, inventedLink),
	whenNew(besides(searchOne, invented)),
	besides(searchAll, oneHost), besides(searchAll, hundred), besides(searchAll, invented),

	holding("64 idle connections", oneHost, nothing, silence),
	holding("64 idle connections", hundred, nothing, silence),
	holding("64 lists of 384 mappings that nobody reads", oneHost, (*lab).fillTable, listRequest),
	holding("64 lists of 384 mappings that nobody reads", hundred, (*lab).fillTable, listRequest),
}

// floodRows returns the floods of a whole run: of each server's dearest requests, from
// those hosts that meet another part of it.
func floodRows() (rows []row) {
	for _, f := range []struct {
		name string
		row  fairRow
	}{
		{"flood-address", besides(natpmpAddress, oneHost)},
		{"flood-map", besides(natpmpMapping, invented)},
		{"flood-pcp", besides(pcpMapping, oneHost)},
		{"flood-search", besides(searchOne, invented)},
		{"flood-http", holding("64 idle HTTP connections", oneHost, nothing, silence)},
	} {
		rows = append(rows, row{f.name, "answered at once beside a flood: " + f.row.what, percent, empty, func(r *round) (float64, error) {
			result, err := f.row.measure(r.lab, r.daemon, roundFair)
			return 100 * float64(result.atOnce()) / float64(max(1, result.asked)), err
		}})
	}
	return rows
}

// measureFairness measures what floods do to an honest client, and prints a table.
func (b *bench) measureFairness() error {
	l, err := newLab(b.lab, b.folder)
	if err != nil {
		return err
	}
	if err := l.addIPv6(); err != nil {
		return err
	}
	fmt.Printf(fairLegend, floodRate, b.fairRequests())
	_, chosen, _ := strings.Cut(b.only, ":")
	for _, row := range fairRows {
		if !strings.Contains(row.what, chosen) {
			continue
		}
		for _, d := range b.daemons {
			r, err := row.measure(l, d, b.fairRequests())
			fmt.Printf("| %s | %s | %v |\n", row.what, d.name, r)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %s: %v\n", row.what, d.name, err)
			}
		}
	}
	return nil
}

const fairLegend = `
Floods are of %d requests per second, each on a daemon that has just started, and an honest client sends up to %d requests
of the same kind (beside HTTP: GetExternalIPAddress), repeats one after 250 ms and gives up after 1 s. Answered are those
with a success; times are of these. Neighbours: the most that the router's kernel looked for at once. Lost: datagrams for
want of room in the router's receive and send buffers. Full: how often the neighbour table of all namespaces had no room,
whoever filled it.

| beside | daemon | sent /s | p50 ms | p99 ms | at once | within 1 s | of | neighbours | lost, received | lost, sent | full |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`

func (b *bench) fairRequests() int {
	if b.quick {
		return quickFair
	}
	return fairRequests
}

// fairResult is what the honest client met.
type fairResult struct {
	sent   float64
	asked  int
	took   []time.Duration // of those answered
	kernel kernelStats
}

// measure measures the row with one daemon.
func (row fairRow) measure(l *lab, d daemon, requests int) (r fairResult, err error) {
	p, err := l.start(d.program, leases{})
	if err != nil {
		return r, err
	}
	defer l.settle(p)
	h := &honest{lab: l, isNew: row.isNew}
	if h.service, err = discover(firstClient); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", d.name, err)
	}
	watch, err := l.watchKernel()
	if err != nil {
		return r, err
	}
	n, err := row.begin(l, h.service)
	if err == nil {
		time.Sleep(fairLead)
		r.ask(h, row, requests)
		r.sent, err = n.stop()
	}
	var watched error
	r.kernel, watched = watch.end()
	select {
	case <-p.exited:
		err = errors.Join(err, fmt.Errorf("the daemon exited: %s", l.log.recent()))
	default:
	}
	return r, errors.Join(err, watched)
}

// ask is the honest client's part.
func (r *fairResult) ask(h *honest, row fairRow, times int) {
	for begin := time.Now(); r.asked < times && time.Since(begin) < fairLimit; r.asked++ {
		took, err := row.ask(h, r.asked)
		switch {
		case err == nil:
			r.took = append(r.took, took)
		case !errors.Is(err, errUnanswered):
			fmt.Fprintln(os.Stderr, "honest client:", err)
		}
		time.Sleep(row.pause)
	}
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

// String returns the line of the table.
func (r fairResult) String() string {
	return fmt.Sprintf("%.0f | %s | %s | %s | %s | %d | %d | %d | %d | %d", r.sent, r.percentile(50), r.percentile(99),
		r.share(r.atOnce()), r.share(len(r.took)), r.asked, r.kernel.incomplete, r.kernel.receive, r.kernel.write, r.kernel.full)
}

// atOnce returns how many requests were answered before they had to be repeated.
func (r fairResult) atOnce() (n int) {
	for _, t := range r.took {
		if t <= firstWait {
			n++
		}
	}
	return n
}

// share returns a share of the requests.
func (r fairResult) share(n int) string {
	if r.asked == 0 {
		return "–"
	}
	return fmt.Sprintf("%d %%", 100*n/r.asked)
}

// percentile returns the nearest rank of the times, in ms.
func (r fairResult) percentile(percent int) string {
	if len(r.took) == 0 {
		return "–"
	}
	return strconv.FormatFloat(float64(percentile(r.took, percent).Microseconds())/1e3, 'f', 1, 64)
}

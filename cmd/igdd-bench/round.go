package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// clients is the number of clients that send requests at once.
const clients = 32

// rowLimit is the time after which a row begins no further operation: where one takes
// seconds, a few of them must suffice.
const rowLimit = time.Second

// firstPort is the first port that clients ask for, above those of all leases.
const firstPort = 35000

// round is one run of a daemon with a number of mappings present.
type round struct {
	lab     *lab
	daemon  daemon
	present int
	process *process
	service *service // nil: there is no UPnP
	port    uint16   // the next unused one
}

// start starts the daemon.
func (r *round) start() (err error) {
	if r.process, err = r.lab.start(r.daemon.program, leases{present: r.present}); err != nil {
		return err
	}
	r.service, _ = discover(nth(firstClient, clients-1))
	return nil
}

// takePorts returns the first of n unused ports.
func (r *round) takePorts(n int) uint16 {
	first := r.port
	r.port += uint16(n)
	return first
}

// p50 measures the median time of an operation, in µs, as one client sees it.
func p50(times int, o operation) func(*round) (float64, error) {
	return func(r *round) (float64, error) {
		each, _, err := r.repeat(1, times, o)
		if err != nil {
			return 0, err
		}
		return median(each), nil
	}
}

// rate measures how many operations per second are answered in total, when all clients
// send requests without pause.
func rate(times int, o operation) func(*round) (float64, error) {
	return func(r *round) (float64, error) {
		each, took, err := r.repeat(clients, times, o)
		return float64(len(each)) / took.Seconds(), err
	}
}

// total measures how long it takes so many clients to do an operation so many times each,
// in µs.
func total(workers, times int, o operation) func(*round) (float64, error) {
	return func(r *round) (float64, error) {
		_, took, err := r.repeat(workers, times, o)
		return float64(took.Microseconds()), err
	}
}

// repeat has so many clients do an operation up to so many times each, at once. It returns
// how long each operation took, in µs, and how long all of them did. All are prepared
// first, so that the daemon's work for that is not measured.
func (r *round) repeat(workers, times int, o operation) (each []float64, took time.Duration, err error) {
	var works []*work
	defer func() { undoAll(works) }()
	for i := range workers {
		w, err := r.newWork(i, times, o)
		if err != nil {
			return nil, 0, err
		}
		works = append(works, w)
		if err := w.prepare(times, time.Now().Add(rowLimit)); err != nil {
			return nil, 0, err
		}
	}
	var busy errgroup.Group
	begin := time.Now()
	for _, w := range works {
		busy.Go(func() error { return w.doAll(times, begin.Add(rowLimit)) })
	}
	err = busy.Wait()
	took = time.Since(begin)
	for _, w := range works {
		each = append(each, w.took...)
	}
	return each, took, err
}

// work is what one client does repeatedly, with one port after the other.
type work struct {
	operation
	client   *client
	first    uint16
	prepared int
	took     []float64 // by each operation, µs
}

// newWork returns the work of a client, on so many ports that nobody has used.
func (r *round) newWork(client, ports int, o operation) (*work, error) {
	c, err := newClient(client, r.present, r.service, answerTime)
	if err != nil {
		return nil, err
	}
	c.web.keep = o.keep
	return &work{operation: o, client: c, first: r.takePorts(ports)}, nil
}

// prepare prepares up to so many operations, until a time.
func (w *work) prepare(times int, end time.Time) error {
	for ; w.before != nil && w.prepared < times && time.Now().Before(end); w.prepared++ {
		if err := w.before(w.client, w.first+uint16(w.prepared)); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	return nil
}

// doAll does up to so many operations, those that were prepared if they have to be, and
// begins none but the first after a time.
func (w *work) doAll(times int, end time.Time) error {
	if w.before != nil {
		times = w.prepared
	}
	for n := 0; n < times && (n == 0 || time.Now().Before(end)); n++ {
		if err := w.doNext(); err != nil {
			return err
		}
	}
	return nil
}

// doNext does the operation with the next port.
func (w *work) doNext() error {
	took, err := w.once(w.client, w.first+uint16(len(w.took)))
	if err == nil {
		w.took = append(w.took, float64(took.Nanoseconds())/1e3)
	}
	return err
}

// undoAll undoes all works at once, and closes their clients.
func undoAll(works []*work) {
	var undoing sync.WaitGroup
	for _, w := range works {
		undoing.Go(w.undo)
	}
	undoing.Wait()
}

// undo deletes the mappings that remain, and closes the client.
func (w *work) undo() {
	defer w.client.close()
	from, to := len(w.took), w.prepared
	if w.leaves {
		from, to = 0, max(w.prepared, len(w.took))
	}
	w.client.web.keep = true
	for i := from; i < to; i++ {
		w.client.granted = w.first + uint16(i)
		if err := w.client.deleteLast(w.client.granted); err != nil {
			fmt.Fprintf(os.Stderr, "cannot delete the mapping of port %d: %v\n", w.first+uint16(i), err)
			return
		}
	}
}

func (r *round) startTime() (float64, error) { return 1e6 * r.process.startTime.Seconds(), nil }

func (r *round) memory() (float64, error) { return resident(r.process.pids()[:1]), nil }

func (r *round) childMemory() (float64, error) { return resident(r.process.pids()[1:]), nil }

// expire measures the time from the expiry of 100 mappings until the last of them is
// gone from the firewall. It restarts the daemon.
func (r *round) expire() (float64, error) {
	const expiring = 100
	r.process.stop()
	due := time.Now().Add(r.process.startTime*3/2 + 3*time.Second).Truncate(time.Second)
	p, err := r.lab.start(r.daemon.program, leases{present: r.present, expiring: expiring, soon: due})
	if err != nil {
		return 0, err
	}
	r.process = p
	if time.Now().After(due) {
		return 0, errors.New("the leases expired before the daemon had started")
	}
	time.Sleep(time.Until(due))
	err = p.waitFor(time.Minute, func() bool {
		n, err := r.lab.countMappings()
		return err == nil && n <= r.present-expiring
	})
	return 1e6 * time.Since(due).Seconds(), err
}

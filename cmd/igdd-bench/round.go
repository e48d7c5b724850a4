package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// clients is how many hosts ask at once.
const clients = 32

// rowLimit is when a row stops to begin another operation: where one takes
// seconds, a few of them must do.
const rowLimit = 3 * time.Second

// firstPort begins the ports that clients ask for, above those of all leases.
const firstPort = 35000

// round is one daemon with so many mappings, from its start to its end.
type round struct {
	lab     *lab
	program string
	present int
	process *process
	service *service // nil: there is no UPnP
	port    uint16   // the next that nobody has had
}

// newRound starts the daemon.
func newRound(l *lab, program string, present int) (*round, error) {
	r := &round{lab: l, program: program, present: present, port: firstPort}
	var err error
	if r.process, err = l.start(program, leases{present: present}); err != nil {
		return nil, err
	}
	r.service, _ = discover(nth(firstClient, clients-1))
	return r, nil
}

// take returns the first of n ports that nobody has had.
func (r *round) take(n int) uint16 {
	first := r.port
	r.port += uint16(n)
	return first
}

// p50 measures the median time of an operation, in µs, as one client sees it.
// Everything is prepared first, so that no work that it leaves behind is
// measured.
func p50(times int, o operation) func(*round) (float64, error) {
	return func(r *round) (float64, error) {
		c, err := newClient(0, r.present, r.service, patience)
		if err != nil {
			return 0, err
		}
		defer c.close()
		c.web.keep = o.keep
		first, prepared := r.take(times), 0
		var took []float64
		defer func() { o.undo(c, first, prepared, len(took)) }()
		for begin := time.Now(); o.before != nil && prepared < times && time.Since(begin) < rowLimit; prepared++ {
			if err := o.before(c, first+uint16(prepared)); err != nil {
				return 0, fmt.Errorf("prepare: %w", err)
			}
		}
		if o.before != nil {
			times = prepared
		}
		for begin := time.Now(); len(took) < times && (len(took) == 0 || time.Since(begin) < rowLimit); {
			d, err := o.once(c, first+uint16(len(took)))
			if err != nil {
				return 0, err
			}
			took = append(took, float64(d.Nanoseconds())/1e3)
		}
		return median(took), nil
	}
}

// rate measures how many operations a second are answered, all in all, when all
// clients are as busy as they can be.
func rate(times int, o operation) func(*round) (float64, error) {
	return func(r *round) (float64, error) {
		first := r.take(clients * times)
		var answered atomic.Int64
		var busy errgroup.Group
		begin := time.Now()
		for i := range clients {
			c, err := newClient(i, r.present, r.service, patience)
			if err != nil {
				return 0, errors.Join(err, busy.Wait())
			}
			defer c.close()
			first, done := first+uint16(i*times), 0
			defer func() { o.undo(c, first, 0, done) }()
			busy.Go(func() error {
				for ; done < times && time.Since(begin) < rowLimit; done++ {
					if _, err := o.once(c, first+uint16(done)); err != nil {
						return err
					}
					answered.Add(1)
				}
				return nil
			})
		}
		err := busy.Wait()
		return float64(answered.Load()) / time.Since(begin).Seconds(), err
	}
}

// undo deletes the mappings that are left behind after so many were prepared,
// and so many operations done, from a first port on.
func (o operation) undo(c *client, first uint16, prepared, done int) {
	from, to := done, prepared
	if o.leaves {
		from, to = 0, max(prepared, done)
	}
	c.web.keep = true
	for i := from; i < to; i++ {
		c.granted = first + uint16(i)
		if err := c.deleteLast(c.granted); err != nil {
			fmt.Fprintf(os.Stderr, "port %d stays behind: %v\n", first+uint16(i), err)
			return
		}
	}
}

func (r *round) startTime() (float64, error) { return 1e3 * r.process.started.Seconds(), nil }

func (r *round) memory() (float64, error) { return resident(r.process.pids()[:1]), nil }

func (r *round) childMemory() (float64, error) { return resident(r.process.pids()[1:]), nil }

// expire measures how long after it was due the last of 100 expired mappings
// is gone from the firewall. It restarts the daemon.
func (r *round) expire() (float64, error) {
	const expiring = 100
	r.process.stop()
	due := time.Now().Add(2*r.process.started + 3*time.Second).Truncate(time.Second)
	p, err := r.lab.start(r.program, leases{present: r.present, expiring: expiring, soon: due})
	if err != nil {
		return 0, err
	}
	r.process = p
	if time.Now().After(due) {
		return 0, errors.New("the leases were due before the start was done")
	}
	time.Sleep(time.Until(due))
	err = p.until(time.Minute, func() bool {
		n, err := r.lab.countMappings()
		return err == nil && n <= r.present-expiring
	})
	return 1e3 * time.Since(due).Seconds(), err
}

// forward measures how many connections a second come through, one after
// another, to mappings from all over the table.
func (r *round) forward() (float64, error) {
	const connects, targets = 1000, 20
	for i := range targets {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", r.target(i, targets).internal()))
		if err != nil {
			return 0, err
		}
		defer l.Close()
		go reset(l)
	}
	var took time.Duration
	err := r.lab.wan.Do(func() error {
		begin := time.Now()
		for i := range connects {
			to := netip.AddrPortFrom(routerWAN, r.target(i%targets, targets).external())
			if err := call(to); err != nil {
				return fmt.Errorf("%v: %w", to, err)
			}
		}
		took = time.Since(begin)
		return nil
	})
	return connects / took.Seconds(), err
}

// target returns the i-th of n mappings that are spread over the table.
func (r *round) target(i, n int) lease { return lease((i*r.present + r.present/2) / n) }

// call makes a connection and waits until the other side drops it.
func call(to netip.AddrPort) error {
	connections.Add(1)
	c, err := net.DialTimeout("tcp4", to.String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	var one [1]byte
	_, err = c.Read(one[:])
	return err
}

// reset greets and drops every connection.
func reset(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write([]byte("!"))
		c.Close()
	}
}

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

// clients is the number of clients that send requests at once.
const clients = 32

// rowLimit is the time after which a row begins no further operation: where one takes
// seconds, a few of them must suffice.
const rowLimit = 3 * time.Second

// firstPort is the first port that clients ask for, above those of all leases.
const firstPort = 35000

// round is one run of a daemon with a number of mappings present.
type round struct {
	lab     *lab
	program string
	present int
	process *process
	service *service // nil: there is no UPnP
	port    uint16   // the next unused one
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

// takePorts returns the first of n unused ports.
func (r *round) takePorts(n int) uint16 {
	first := r.port
	r.port += uint16(n)
	return first
}

// p50 measures the median time of an operation, in µs, as one client sees it. All
// operations are prepared first, so that the daemon's work for that is not measured.
func p50(times int, o operation) func(*round) (float64, error) {
	return func(r *round) (float64, error) {
		c, err := newClient(0, r.present, r.service, answerTime)
		if err != nil {
			return 0, err
		}
		defer c.close()
		c.web.keep = o.keep
		first, prepared := r.takePorts(times), 0
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

// rate measures how many operations per second are answered in total, when all clients
// send requests without pause.
func rate(times int, o operation) func(*round) (float64, error) {
	return func(r *round) (float64, error) {
		first := r.takePorts(clients * times)
		var answered atomic.Int64
		var busy errgroup.Group
		begin := time.Now()
		for i := range clients {
			c, err := newClient(i, r.present, r.service, answerTime)
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

// undo deletes the mappings that remain after a number of operations was prepared and
// a number done, from a first port on.
func (o operation) undo(c *client, first uint16, prepared, done int) {
	from, to := done, prepared
	if o.leaves {
		from, to = 0, max(prepared, done)
	}
	c.web.keep = true
	for i := from; i < to; i++ {
		c.granted = first + uint16(i)
		if err := c.deleteLast(c.granted); err != nil {
			fmt.Fprintf(os.Stderr, "cannot delete the mapping of port %d: %v\n", first+uint16(i), err)
			return
		}
	}
}

func (r *round) startTime() (float64, error) { return 1e3 * r.process.startTime.Seconds(), nil }

func (r *round) memory() (float64, error) { return resident(r.process.pids()[:1]), nil }

func (r *round) childMemory() (float64, error) { return resident(r.process.pids()[1:]), nil }

// expire measures the time from the expiry of 100 mappings until the last of them is
// gone from the firewall. It restarts the daemon.
func (r *round) expire() (float64, error) {
	const expiring = 100
	r.process.stop()
	due := time.Now().Add(2*r.process.startTime + 3*time.Second).Truncate(time.Second)
	p, err := r.lab.start(r.program, leases{present: r.present, expiring: expiring, soon: due})
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
	return 1e3 * time.Since(due).Seconds(), err
}

// forward measures how many connections per second are forwarded, one after another,
// to mappings from all over the table.
func (r *round) forward() (float64, error) {
	const connects, targets = 1000, 20
	for i := range targets {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", r.target(i, targets).internal()))
		if err != nil {
			return 0, err
		}
		defer l.Close()
		go acceptAndClose(l)
	}
	var took time.Duration
	err := r.lab.wan.Do(func() error {
		begin := time.Now()
		for i := range connects {
			to := netip.AddrPortFrom(routerWAN, r.target(i%targets, targets).external())
			if err := connectOnce(to); err != nil {
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

// connectOnce connects and reads one byte.
func connectOnce(to netip.AddrPort) error {
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

// acceptAndClose sends one byte on every connection and closes it.
func acceptAndClose(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write([]byte("!"))
		c.Close()
	}
}

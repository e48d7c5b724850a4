package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
)

// reopenAfter is how long a server that could not listen, or fell over, waits
// for its next try.
const reopenAfter = 5 * time.Second

// lan is one listening interface as the servers see it.
type lan struct {
	name  string
	index int
	watch *netif.Watcher
}

// Name returns the name of the interface.
func (l *lan) Name() string { return l.name }

// Index returns the kernel's number of the interface.
func (l *lan) Index() int { return l.index }

// Prefixes returns the router's own addresses there, each with its network,
// as they are now.
func (l *lan) Prefixes() []netip.Prefix {
	link, _ := l.watch.Link(l.name)
	return link.Addrs
}

// listener is a server that holds its sockets on one interface.
type listener interface {
	// Serve answers until ctx ends, then closes the sockets.
	Serve(ctx context.Context) error
}

// server is what can listen on interfaces.
type server struct {
	open func(*lan) (listener, error) // opens its sockets on one of them
	says string                       // in the log, when it has
}

// follower keeps the servers of the LAN interfaces running while these exist:
// a new one gets its sockets, one that is gone or came back as another loses
// them.
type follower struct {
	watch   *netif.Watcher
	lans    []config.LAN
	servers map[string]server // by their names
	log     *slog.Logger
	ready   func(error) // told once how opening on the interfaces that exist went

	serving map[station]*service
	ended   chan ending
	wg      sync.WaitGroup
}

// station is one server's place on one interface.
type station struct {
	server string
	name   string
}

// compare puts stations in the order of opening: server by server, and HTTP
// before SSDP, whose announcements lead there.
func (s station) compare(o station) int {
	return cmp.Or(cmp.Compare(s.server, o.server), cmp.Compare(s.name, o.name))
}

// service is one server at work, or one that fell over and waits.
type service struct {
	station
	index  int
	cancel context.CancelFunc
	fallen bool // it ended with an error and waits to be opened again
}

// ending is what a service came to, as its own goroutine tells the follower.
type ending struct {
	*service
	err error
}

// Run follows the interfaces until ctx ends and all sockets are closed.
func (f *follower) Run(ctx context.Context) error {
	f.serving = make(map[station]*service)
	f.ended = make(chan ending)
	defer f.stop()
	var again <-chan time.Time
	for {
		links, changed := f.watch.Now()
		if err := f.arrange(ctx, links); err != nil {
			again = time.After(reopenAfter)
			f.log.Error("cannot listen, will try again", "err", err)
			f.tell(err)
		}
		f.tell(nil)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again:
			maps.DeleteFunc(f.serving, func(_ station, s *service) bool { return s.fallen })
		case e := <-f.ended:
			if e.err != nil {
				e.fallen = true
				f.log.Error("server fell over, will open again", "server", e.server, "interface", e.name, "err", e.err)
				again = time.After(reopenAfter)
			}
		}
	}
}

// tell reports the outcome of the first round.
func (f *follower) tell(err error) {
	if f.ready != nil {
		f.ready(err)
		f.ready = nil
	}
}

// stop ends all servers and waits for them.
func (f *follower) stop() {
	for _, s := range f.serving {
		s.cancel()
	}
	go func() { f.wg.Wait(); close(f.ended) }()
	for range f.ended {
	}
}

// arrange starts and stops servers until they match the interfaces. The error
// names all that could not be opened.
func (f *follower) arrange(ctx context.Context, links map[string]netif.Link) error {
	wanted := make(map[station]int)
	for _, l := range f.lans {
		if link, ok := locate(l, links); ok && link.Up && len(link.Addrs) > 0 {
			for server := range f.servers {
				wanted[station{server, link.Name}] = link.Index
			}
		}
	}
	for at, s := range f.serving {
		if wanted[at] != s.index {
			s.cancel()
			f.log.Info("interface is gone", "server", at.server, "interface", at.name)
			delete(f.serving, at)
		}
	}
	var errs []error
	for _, at := range slices.SortedFunc(maps.Keys(wanted), station.compare) {
		if f.serving[at] == nil {
			errs = append(errs, f.start(ctx, at, wanted[at]))
		}
	}
	return errors.Join(errs...)
}

// start opens one server on one interface and lets it serve.
func (f *follower) start(ctx context.Context, at station, index int) error {
	l, err := f.servers[at.server].open(&lan{name: at.name, index: index, watch: f.watch})
	if err != nil {
		return fmt.Errorf("%s on %s: %w", at.server, at.name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &service{station: at, index: index, cancel: cancel}
	f.serving[at] = s
	f.wg.Go(func() {
		err := l.Serve(ctx)
		cancel()
		f.ended <- ending{s, err}
	})
	f.log.Log(ctx, portmap.LevelNotice, f.servers[at.server].says, "interface", at.name)
	return nil
}

// locate finds the interface of a LAN: by its name, or by the address that it
// was configured with.
func locate(l config.LAN, links map[string]netif.Link) (netif.Link, bool) {
	if l.Interface != "" {
		link, ok := links[l.Interface]
		return link, ok
	}
	for _, link := range links {
		for _, a := range link.Addrs {
			if a.Addr() == l.Prefix.Addr() {
				return link, true
			}
		}
	}
	return netif.Link{}, false
}

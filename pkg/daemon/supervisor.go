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
	"sort"
	"sync"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/netif"
	"igdd/pkg/portmap"
)

// restartDelay is the pause before a server that could not listen, or failed, is
// started again.
const restartDelay = 5 * time.Second

// lanInterface is a listening interface as the servers see it.
type lanInterface struct {
	name   string
	index  int
	config config.LAN
	watch  *netif.Watcher
}

// Name returns the name of the interface.
func (l *lanInterface) Name() string { return l.name }

// Index returns the kernel's index of the interface.
func (l *lanInterface) Index() int { return l.index }

// Prefixes returns the router's current addresses on the interface, the announced one
// first, each with its network.
func (l *lanInterface) Prefixes() []netip.Prefix {
	link, _ := l.watch.Link(l.name)
	return ownPrefixes(l.config, link)
}

// listener is a server with its sockets on one interface.
type listener interface {
	// Serve answers requests until ctx ends, then closes the sockets.
	Serve(ctx context.Context) error
}

// server is a server that can listen on interfaces.
type server struct {
	open    func(*lanInterface) (listener, error) // opens the sockets on one of them
	logText string                                // logged when it listens
}

// supervisor runs the servers of the LAN interfaces: it starts them on an interface
// that appears, and stops them on one that is gone or was made anew.
type supervisor struct {
	watch   *netif.Watcher
	lans    []config.LAN
	uplinks []string
	routes  func(map[string]netif.Link) map[string]string // what is wrong with routed networks, by network
	servers map[string]server                             // by name
	log     *slog.Logger
	ready   func(error) // called once, after the first attempt to listen

	missing map[string]string // missing interfaces that have been logged, and what is missing
	serving map[binding]*boundServer
	exits   chan serverExit
	wg      sync.WaitGroup
}

// binding is one server on one interface.
type binding struct {
	server string
	name   string
}

// compare sorts bindings in the order of starting: server by server, and HTTP before
// SSDP, whose announcements point to it.
func (b binding) compare(o binding) int {
	return cmp.Or(cmp.Compare(b.server, o.server), cmp.Compare(b.name, o.name))
}

// boundServer is a server that runs on an interface, or has failed there.
type boundServer struct {
	binding
	index  int
	cancel context.CancelFunc
	failed bool // it ended with an error and will be started again
}

// serverExit is the end of a server, which its goroutine sends to the supervisor.
type serverExit struct {
	*boundServer
	err error
}

// Run runs the servers until ctx ends and all sockets are closed.
func (s *supervisor) Run(ctx context.Context) error {
	s.missing = make(map[string]string)
	s.serving = make(map[binding]*boundServer)
	s.exits = make(chan serverExit)
	defer s.stop()
	var restart <-chan time.Time
	for {
		links, changed := s.watch.Now()
		s.logMissing(links)
		if err := s.update(ctx, links); err != nil {
			restart = time.After(restartDelay)
			s.log.Error("cannot listen, will retry", "err", err)
			s.reportReady(err)
		}
		s.reportReady(nil)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-restart:
			maps.DeleteFunc(s.serving, func(_ binding, b *boundServer) bool { return b.failed })
		case e := <-s.exits:
			if e.err != nil {
				e.failed = true
				s.log.Error("server failed, will restart it", "server", e.server, "interface", e.name, "err", e.err)
				restart = time.After(restartDelay)
			}
		}
	}
}

// reportReady reports the result of the first attempt.
func (s *supervisor) reportReady(err error) {
	if s.ready != nil {
		s.ready(err)
		s.ready = nil
	}
}

// stop stops all servers and waits for them.
func (s *supervisor) stop() {
	for _, b := range s.serving {
		b.cancel()
	}
	go func() { s.wg.Wait(); close(s.exits) }()
	for range s.exits {
	}
}

// update starts and stops servers to match the interfaces. The error names all that
// could not be started.
func (s *supervisor) update(ctx context.Context, links map[string]netif.Link) error {
	wanted := s.wanted(links)
	for at, b := range s.serving {
		if l := wanted[at]; l == nil || l.index != b.index {
			b.cancel()
			s.log.Info("interface is gone", "server", at.server, "interface", at.name)
			delete(s.serving, at)
		}
	}
	var errs []error
	order := slices.Collect(maps.Keys(wanted))
	sort.Slice(order, func(i, j int) bool { return order[i].compare(order[j]) < 0 })
	for _, at := range order {
		if s.serving[at] == nil {
			errs = append(errs, s.start(ctx, at, wanted[at]))
		}
	}
	return errors.Join(errs...)
}

// wanted returns the interface of each binding that should be served. If two LANs
// have the same interface the first one counts.
func (s *supervisor) wanted(links map[string]netif.Link) map[binding]*lanInterface {
	wanted := make(map[binding]*lanInterface)
	for _, l := range s.lans {
		for _, link := range linksOf(l, s.uplinks, links) {
			if !link.Up || len(link.Addrs) == 0 {
				continue
			}
			for server := range s.servers {
				if at := (binding{server, link.Name}); wanted[at] == nil {
					wanted[at] = &lanInterface{name: link.Name, index: link.Index, config: l, watch: s.watch}
				}
			}
		}
	}
	return wanted
}

// logMissing logs once which interfaces and routed networks of the settings are missing,
// and once when they appear.
func (s *supervisor) logMissing(links map[string]netif.Link) {
	missing := s.routes(links)
	for _, l := range s.lans {
		if len(linksOf(l, s.uplinks, links)) == 0 {
			missing["listening_ip="+l.String()] = missingText(l, links)
		}
	}
	for _, pattern := range s.uplinks {
		if len(matchingLinks(pattern, links)) == 0 {
			missing["ext interface "+pattern] = "there is no interface " + pattern
		}
	}
	for _, what := range slices.Sorted(maps.Keys(missing)) {
		if s.missing[what] == "" {
			s.log.Warn(what + " is not available: " + missing[what])
		}
	}
	for _, what := range slices.Sorted(maps.Keys(s.missing)) {
		if missing[what] == "" {
			s.log.Log(context.Background(), portmap.LevelNotice, what+" is available now")
		}
	}
	s.missing = missing
}

// start starts one server on one interface.
func (s *supervisor) start(ctx context.Context, at binding, on *lanInterface) error {
	l, err := s.servers[at.server].open(on)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", at.server, at.name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &boundServer{binding: at, index: on.index, cancel: cancel}
	s.serving[at] = b
	s.wg.Go(func() {
		err := l.Serve(ctx)
		cancel()
		s.exits <- serverExit{b, err}
	})
	s.log.Log(ctx, portmap.LevelNotice, s.servers[at.server].logText, "interface", at.name)
	return nil
}

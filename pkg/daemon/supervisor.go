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

// restartDelay is how long a server that could not listen, or fell over, waits
// for its next try.
const restartDelay = 5 * time.Second

// lan is one listening interface as the servers see it.
type lan struct {
	name   string
	index  int
	config config.LAN
	watch  *netif.Watcher
}

// Name returns the name of the interface.
func (l *lan) Name() string { return l.name }

// Index returns the kernel's number of the interface.
func (l *lan) Index() int { return l.index }

// Prefixes returns the router's own addresses there, each with its network,
// as they are now.
func (l *lan) Prefixes() []netip.Prefix {
	link, _ := l.watch.Link(l.name)
	return limitPrefixes(l.config, link).Addrs
}

// listener is a server that holds its sockets on one interface.
type listener interface {
	// Serve answers until ctx ends, then closes the sockets.
	Serve(ctx context.Context) error
}

// server is what can listen on interfaces.
type server struct {
	open    func(*lan) (listener, error) // opens its sockets on one of them
	logText string                       // in the log, when it has
}

// supervisor keeps the servers of the LAN interfaces running while these exist:
// a new one gets its sockets, one that is gone or came back as another loses
// them.
type supervisor struct {
	watch   *netif.Watcher
	lans    []config.LAN
	uplinks []string
	servers map[string]server // by their names
	log     *slog.Logger
	ready   func(error) // told once how opening on the interfaces that exist went

	missing map[string]string // what is not there, as the log has said, and why
	serving map[binding]*boundServer
	exits   chan serverExit
	wg      sync.WaitGroup
}

// binding is one server's place on one interface.
type binding struct {
	server string
	name   string
}

// compare puts stations in the order of opening: server by server, and HTTP
// before SSDP, whose announcements lead there.
func (s binding) compare(o binding) int {
	return cmp.Or(cmp.Compare(s.server, o.server), cmp.Compare(s.name, o.name))
}

// boundServer is one server at work, or one that fell over and waits.
type boundServer struct {
	binding
	index  int
	cancel context.CancelFunc
	failed bool // it ended with an error and waits to be opened again
}

// serverExit is what a service came to, as its own goroutine tells the follower.
type serverExit struct {
	*boundServer
	err error
}

// Run follows the interfaces until ctx ends and all sockets are closed.
func (f *supervisor) Run(ctx context.Context) error {
	f.missing = make(map[string]string)
	f.serving = make(map[binding]*boundServer)
	f.exits = make(chan serverExit)
	defer f.stop()
	var again <-chan time.Time
	for {
		links, changed := f.watch.Now()
		f.logMissing(links)
		if err := f.update(ctx, links); err != nil {
			again = time.After(restartDelay)
			f.log.Error("cannot listen, will try again", "err", err)
			f.reportReady(err)
		}
		f.reportReady(nil)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again:
			maps.DeleteFunc(f.serving, func(_ binding, s *boundServer) bool { return s.failed })
		case e := <-f.exits:
			if e.err != nil {
				e.failed = true
				f.log.Error("server fell over, will open again", "server", e.server, "interface", e.name, "err", e.err)
				again = time.After(restartDelay)
			}
		}
	}
}

// reportReady reports the outcome of the first round.
func (f *supervisor) reportReady(err error) {
	if f.ready != nil {
		f.ready(err)
		f.ready = nil
	}
}

// stop ends all servers and waits for them.
func (f *supervisor) stop() {
	for _, s := range f.serving {
		s.cancel()
	}
	go func() { f.wg.Wait(); close(f.exits) }()
	for range f.exits {
	}
}

// update starts and stops servers until they match the interfaces. The error
// names all that could not be opened.
func (f *supervisor) update(ctx context.Context, links map[string]netif.Link) error {
	wanted := f.wanted(links)
	for at, s := range f.serving {
		if l := wanted[at]; l == nil || l.index != s.index {
			s.cancel()
			f.log.Info("interface is gone", "server", at.server, "interface", at.name)
			delete(f.serving, at)
		}
	}
	var errs []error
	for _, at := range slices.SortedFunc(maps.Keys(wanted), binding.compare) {
		if f.serving[at] == nil {
			errs = append(errs, f.start(ctx, at, wanted[at]))
		}
	}
	return errors.Join(errs...)
}

// wanted returns where servers belong. Of two LANs that have one interface the
// first counts.
func (f *supervisor) wanted(links map[string]netif.Link) map[binding]*lan {
	wanted := make(map[binding]*lan)
	for _, l := range f.lans {
		for _, link := range linksOf(l, f.uplinks, links) {
			if !link.Up || len(link.Addrs) == 0 {
				continue
			}
			for server := range f.servers {
				if at := (binding{server, link.Name}); wanted[at] == nil {
					wanted[at] = &lan{name: link.Name, index: link.Index, config: l, watch: f.watch}
				}
			}
		}
	}
	return wanted
}

// logMissing logs once what the settings name and there is not, and once that it
// is there.
func (f *supervisor) logMissing(links map[string]netif.Link) {
	missing := make(map[string]string)
	for _, l := range f.lans {
		if len(linksOf(l, f.uplinks, links)) == 0 {
			missing["listening_ip="+l.String()] = missingText(l, links)
		}
	}
	for _, pattern := range f.uplinks {
		if len(matchingLinks(pattern, links)) == 0 {
			missing["ext interface "+pattern] = "there is no interface " + pattern
		}
	}
	for _, what := range slices.Sorted(maps.Keys(missing)) {
		if f.missing[what] == "" {
			f.log.Warn(what + " waits: " + missing[what])
		}
	}
	for _, what := range slices.Sorted(maps.Keys(f.missing)) {
		if missing[what] == "" {
			f.log.Log(context.Background(), portmap.LevelNotice, what+" is there now")
		}
	}
	f.missing = missing
}

// start opens one server on one interface and lets it serve.
func (f *supervisor) start(ctx context.Context, at binding, on *lan) error {
	l, err := f.servers[at.server].open(on)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", at.server, at.name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &boundServer{binding: at, index: on.index, cancel: cancel}
	f.serving[at] = s
	f.wg.Go(func() {
		err := l.Serve(ctx)
		cancel()
		f.exits <- serverExit{s, err}
	})
	f.log.Log(ctx, portmap.LevelNotice, f.servers[at.server].logText, "interface", at.name)
	return nil
}

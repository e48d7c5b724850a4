package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"igdd/pkg/event"
	"igdd/pkg/hosts"
)

const (
	maxWatchers = 64 // each takes an open file
	watchBatch  = 64 // events that are sent at once
)

// namesFor is how long the names of hosts are used before they are read again.
const namesFor = 5 * time.Second

var errWatchers = fmt.Errorf("%d watchers are connected already: end one of them", maxWatchers)

// watch sends the serial after which it begins, and events as they come, until ctx ends
// or the tool goes. It waits for a slow tool as long as that takes: no other part of the
// service does. The error is for the tool.
func (s *Server) watch(ctx context.Context, c *net.UnixConn, after uint64) error {
	if after == 0 {
		after = s.opts.Events.Last()
	}
	select {
	case s.watchers <- struct{}{}:
		defer func() { <-s.watchers }()
	default:
		return errWatchers
	}
	c.SetDeadline(time.Time{})
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	go func() { io.Copy(io.Discard, c); gone() }() // ends with the connection
	if json.NewEncoder(c).Encode(reply{After: after}) != nil {
		return nil
	}
	names := hostNames{read: s.opts.Hosts}
	for out := bufio.NewWriter(c); ; {
		list, lost, added := s.opts.Events.After(after, watchBatch)
		if len(list) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-added:
				continue
			}
		}
		after = list[len(list)-1].Serial
		names.complete(list)
		if sendEvents(out, list, lost) != nil {
			return nil
		}
	}
}

// sendEvents sends events, after the number of those that are lost.
func sendEvents(out *bufio.Writer, list []event.Event, lost uint64) error {
	encoder := json.NewEncoder(out)
	if lost > 0 {
		encoder.Encode(reply{Lost: lost})
	}
	for i := range list {
		encoder.Encode(reply{Event: &list[i]})
	}
	return out.Flush() // has the error of the others too
}

// history sends the last events.
func (s *Server) history(r request, send func(reply) error) error {
	if r.Count < 0 {
		return errors.New("the number of events cannot be negative")
	}
	list := s.opts.Events.History(r.Count)
	(&hostNames{read: s.opts.Hosts}).complete(list)
	for i := range list {
		if err := send(reply{Event: &list[i]}); err != nil {
			return err
		}
	}
	return nil
}

// hostNames adds the names of hosts to events.
type hostNames struct {
	read   func() (map[netip.Addr]hosts.Host, error)
	known  map[netip.Addr]hosts.Host
	readAt time.Time
}

// complete adds what is known of the internal hosts of events. If that cannot be read
// they stay as they are.
func (n *hostNames) complete(list []event.Event) {
	if time.Since(n.readAt) >= namesFor {
		n.known, _ = n.read()
		n.readAt = time.Now()
	}
	for i := range list {
		h, ok := n.known[list[i].Internal]
		if !ok {
			continue
		}
		list[i].HostName = h.Name
		if list[i].MAC == "" {
			list[i].MAC = h.Hardware.String()
		}
	}
}

package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/event"
)

// How long watch tries to connect again when the daemon has ended, and how often.
const (
	reconnectFor   = time.Minute
	reconnectEvery = time.Second
)

// watch prints events as they come, until a signal ends it.
func (t *tool) watch(args []string) (exitStatus, error) {
	if err := noArgs(args); err != nil {
		return 0, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	return exitDone, t.watchUntil(ctx)
}

// watchUntil prints events until ctx ends. When the daemon restarts it goes on with the
// next one.
func (t *tool) watchUntil(ctx context.Context) error {
	w := watcher{tool: t}
	err := w.follow(ctx)
	for end := time.Now().Add(reconnectFor); ctx.Err() == nil && w.connected && time.Now().Before(end); {
		if !errors.Is(err, errIncomplete) && !errors.Is(err, errNoDaemon) {
			return err
		}
		pause(ctx, reconnectEvery)
		last := w.last
		if err = w.follow(ctx); w.last != last {
			end = time.Now().Add(reconnectFor)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watcher prints the events of one daemon after another.
type watcher struct {
	*tool
	last      uint64 // serial of the last event
	connected bool   // once it was
}

// follow prints the events of one daemon until it ends.
func (w *watcher) follow(ctx context.Context) error {
	c, err := w.dial()
	if err != nil {
		return err
	}
	w.connected = true
	defer context.AfterFunc(ctx, func() { c.Close() })()
	return exchange(c, request{Do: doWatch, After: w.last}, func(a reply) error {
		switch {
		case a.After > 0:
			w.last = cmp.Or(w.last, a.After)
		case a.Lost > 0:
			return w.printLost(a.Lost)
		case a.Event != nil:
			w.last = a.Event.Serial
			return w.printEvent(a.Event)
		}
		return nil
	})
}

// printLost says that this reader was too slow.
func (t *tool) printLost(n uint64) (err error) {
	if t.json {
		_, err = fmt.Fprintf(t.stdout, `{"schema":%d,"event":"lost","lost":%d}`+"\n", schemaVersion, n)
	} else {
		_, err = fmt.Fprintf(t.stdout, "%s  %-9s  %s: the output is read too slowly\n", timeText(time.Now()), "lost", plural(int(n), "event"))
	}
	return err
}

// printEvent prints an event as a line.
func (t *tool) printEvent(e *event.Event) error {
	if t.json {
		return json.NewEncoder(t.stdout).Encode(printedEvent{schemaVersion, e})
	}
	_, err := fmt.Fprintf(t.stdout, "%s  %-9s  %s\n", timeText(e.Time), e.Kind, printable(eventText(e)))
	return err
}

// history prints the last events.
func (t *tool) history(args []string) (exitStatus, error) {
	r := request{Do: doHistory, Count: event.HistoryLength}
	if len(args) > 0 {
		n, err := strconv.ParseUint(args[0], 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("%w: invalid number of events %q", errUsage, args[0])
		}
		r.Count, args = int(n), args[1:]
	}
	if err := noArgs(args); err != nil {
		return 0, err
	}
	return exitDone, t.call(r, func(a reply) error {
		if a.Event == nil {
			return nil
		}
		return t.printEvent(a.Event)
	})
}

// eventText returns what an event says beside its time and kind.
func eventText(e *event.Event) string {
	switch e.Kind {
	case event.Deleted, event.Blocked, event.Unblocked:
		return actText(e)
	case event.Repaired:
		return e.Family + ": missing chains or rules were restored"
	case event.Uplink:
		return uplinkText(e)
	}
	return mappingText(e)
}

// mappingText is the text of an event about a mapping: "40000/UDP ->
// 192.168.50.10:4000 (laptop) by PCP for 1h0m0s: game".
func mappingText(e *event.Event) string {
	parts := []string{portText(e)}
	if e.Internal.IsValid() {
		parts = append(parts, "->", netip.AddrPortFrom(e.Internal, e.InternalPort).String())
	}
	if e.HostName != "" {
		parts = append(parts, "("+e.HostName+")")
	}
	parts = append(parts, "by "+strings.Join(e.Origins, ","))
	if e.Lifetime != nil {
		parts = append(parts, "for "+leftText(*e.Lifetime))
	}
	if e.Client.IsValid() && e.Client != e.Internal {
		parts = append(parts, "asked from "+e.Client.String())
	}
	text := strings.Join(parts, " ")
	if e.Description != "" {
		text += ": " + e.Description
	}
	return text + reasons(e)
}

// portText is the external port of an event about a mapping, "40000/UDP", or
// "pinhole/UDP". A request to delete need not name the protocol.
func portText(e *event.Event) string {
	text := strconv.Itoa(int(e.ExternalPort))
	if e.Pinhole {
		text = "pinhole"
	}
	if e.Protocol != "" {
		text += "/" + e.Protocol
	}
	if e.Delete {
		text = "to delete " + text
	}
	return text
}

// reasons returns why, in brackets: "" if nothing is known.
func reasons(e *event.Event) string {
	var list []string
	for _, r := range []struct {
		name, value string
	}{{"", e.Reason}, {"rule ", e.Rule}, {"port of ", e.Holder}, {"outside ", e.Outer()}, {"only from ", strings.Join(e.Remote, ", ")}} {
		if r.value != "" {
			list = append(list, r.name+r.value)
		}
	}
	if e.Block != 0 {
		list = append(list, "block "+strconv.Itoa(e.Block))
	}
	if len(list) == 0 {
		return ""
	}
	return " [" + strings.Join(list, "; ") + "]"
}

// actText is the text of an act of the operator, or of the end of a block.
func actText(e *event.Event) string {
	text := e.Subject
	if e.Kind != event.Unblocked {
		text += ": " + plural(e.Closed, "mapping") + " closed"
	}
	if !e.Until.IsZero() {
		text += ", until " + timeText(e.Until)
	}
	return text + reasons(&event.Event{Block: e.Block, Reason: e.Reason})
}

func uplinkText(e *event.Event) string {
	if !e.Address.IsValid() {
		return e.Interface + ": no IPv4 address"
	}
	return e.Interface + ": " + e.Address.String() + reasons(&event.Event{Reason: e.Reason})
}

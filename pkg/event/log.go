package event

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// levelNotice lies between slog's Info and Warn, as in syslog.
const levelNotice = slog.LevelInfo + 2

// PrivateUplink is the reason of an Uplink or Reachable event whose address is private or
// shared.
const PrivateUplink = "a router upstream must forward the ports too"

// Log writes the line of an event. The attributes "kind", "host" and "client" of the
// logger say what it is about, so that lines can be limited for each host.
func (e *Event) Log(log *slog.Logger) {
	level, message := e.headline()
	if !log.Enabled(context.Background(), level) {
		return
	}
	log = log.With("kind", string(e.Kind))
	if e.Host != "" {
		log = log.With("host", e.Host)
	}
	if e.Client.IsValid() {
		log = log.With("client", e.Client)
	}
	log.Log(context.Background(), level, message, e.attributes()...)
}

// headline returns the level of an event's line, and its text. Lines that miniupnpd
// has too have its wording.
func (e *Event) headline() (slog.Level, string) {
	switch e.Kind {
	case Opened:
		return levelNotice, "redirecting port " + e.port()
	case Renewed:
		return slog.LevelInfo, "renewing port " + e.port()
	case Closed:
		return levelNotice, "remove port mapping " + e.port() + " because " + e.Reason
	case Dormant:
		return slog.LevelInfo, "suspending port mapping " + e.port() + " because " + e.Reason
	case Active:
		return slog.LevelInfo, "resuming port mapping " + e.port()
	case Refused:
		return e.refusalHeadline()
	case Reachable, Unreachable:
		return e.reachHeadline()
	case Repaired:
		return slog.LevelWarn, "restored missing chains or rules"
	case Uplink:
		return e.uplinkHeadline()
	}
	return e.actHeadline()
}

// actHeadline is the headline of an act of the operator. The reason of one that deletes
// mappings is what is still missing.
func (e *Event) actHeadline() (slog.Level, string) {
	headline := "operator: " + string(e.Kind) + " " + e.Subject
	switch {
	case e.Reason == "":
		return levelNotice, headline
	case e.Kind == Unblocked:
		return levelNotice, headline + " because " + e.Reason
	}
	return slog.LevelWarn, headline + ", but " + e.Reason
}

// refusalHeadline is the headline of a refusal. Some clients delete what they have not
// got before they ask for it.
func (e *Event) refusalHeadline() (slog.Level, string) {
	if e.Delete {
		return slog.LevelInfo, "refusing to delete port " + e.port() + " because " + e.Reason
	}
	return levelNotice, "refusing port " + e.port() + " because " + e.Reason
}

// reachHeadline is the headline of what the router in front does.
func (e *Event) reachHeadline() (slog.Level, string) {
	level, headline := slog.LevelInfo, "port "+e.port()+" is reachable from outside"
	switch {
	case e.Kind == Unreachable:
		level, headline = levelNotice, "port "+e.port()+" is not reachable from outside because "+e.Reason
	case e.Reason != "":
		headline += ", but " + e.Reason
	}
	if e.Shared {
		level = slog.LevelDebug
	}
	return level, headline
}

func (e *Event) uplinkHeadline() (slog.Level, string) {
	switch {
	case !e.Address.IsValid():
		return slog.LevelWarn, fmt.Sprintf("ext interface %s has no IPv4 address. Network is down", e.Interface)
	case e.Reason != "":
		return slog.LevelWarn, fmt.Sprintf("Reserved / private IP address %v on ext interface %s: ports are forwarded, but a router upstream must forward them too", e.Address, e.Interface)
	}
	return slog.LevelInfo, fmt.Sprintf("Public IP address %v on ext interface %s: Port forwarding is enabled", e.Address, e.Interface)
}

// port returns the external port and the protocol, as "3001 TCP"; of a pinhole the
// address too. A request to delete need not name them.
func (e *Event) port() string {
	port := strconv.Itoa(int(e.ExternalPort))
	if e.Pinhole && e.Internal.IsValid() {
		port = netip.AddrPortFrom(e.Internal, e.InternalPort).String()
	}
	return port + " " + cmp.Or(e.Protocol, "TCP/UDP")
}

// Outer returns the address and port that remote hosts connect to; empty: the router in
// front forwards nothing, or is not asked.
func (e *Event) Outer() string {
	if e.OuterPort == 0 {
		return ""
	}
	return netip.AddrPortFrom(e.OuterAddress, e.OuterPort).String()
}

// attributes returns what a line says beside its text, in this order for all kinds.
func (e *Event) attributes() (list []any) {
	add := func(name string, value any, known bool) {
		if known {
			list = append(list, name, value)
		}
	}
	if e.Kind.isOfMapping() {
		add("to", netip.AddrPortFrom(e.Internal, e.InternalPort), e.Internal.IsValid())
		add("by", strings.Join(e.Origins, ","), len(e.Origins) > 0)
		add("mac", e.MAC, e.MAC != "")
		add("for", e.Description, e.Description != "")
		add("from", strings.Join(e.Remote, ","), len(e.Remote) > 0)
		add("outer", e.Outer(), e.OuterPort != 0)
	}
	add("disabled", true, e.Disabled)
	if e.Lifetime != nil {
		add("lifetime", time.Duration(*e.Lifetime)*time.Second, true)
	}
	add("rule", e.Rule, e.Rule != "")
	add("holder", e.Holder, e.Holder != "")
	add("block", e.Block, e.Block != 0)
	add("until", e.Until.Format(time.DateTime), !e.Until.IsZero())
	add("closed", e.Closed, e.Kind == Deleted || e.Kind == Blocked)
	add("family", e.Family, e.Family != "")
	return list
}

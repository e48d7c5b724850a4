// Package netfilter keeps the rules of port mappings in the kernel, in chains
// of their own beside the router's firewall.
package netfilter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"

	"igdd/pkg/portmap"
)

// ErrStopped is the error while the router's firewall is stopped: its chains
// that call the daemon's are gone. No ports are opened until it starts again.
var ErrStopped = errors.New("the firewall is stopped; no ports are opened until it starts again")

// Options configure a Firewall. The names are those in the settings.
type Options struct {
	WAN              []string // external interfaces, "eth0" or "ppp+"
	WAN6             []string // those of IPv6
	NATChain         string   // in table nat, for DNAT
	ForwardChain     string   // in table filter, of both families
	PostroutingChain string   // in table nat; used if it exists
	IPv6             bool     // enable pinholes
	// OwnershipFile is the path of the ownership record: it names the chains,
	// rules and jumps that the daemon created, so that a later process can
	// remove them if this one ends without doing so. Empty: no record.
	OwnershipFile string
	Log           *slog.Logger
}

// Firewall implements portmap.Firewall by iptables, legacy or nft. Its methods
// run one at a time.
type Firewall struct {
	ipv4    *family
	ipv6    *family // nil: no pinholes
	ipv6Err error   // why there are none although they are enabled
	log     *slog.Logger

	ctx    context.Context // for listing tables; Teardown cancels it
	cancel context.CancelFunc

	mu          lock      // taken by begin, released by end
	notifier    *notifier // nil: Watch is not running
	ownership   ownership
	leftover    []inventory // of an earlier process with other settings
	nat         *chain
	postrouting *chain
	peer        *chain // for outbound mappings if postrouting does not exist
	forward     *chain
	forward6    *chain // nil: no pinholes
}

// peerChain is a chain that only the daemon creates, when outbound mappings
// need it.
const peerChain = "MINIUPNPD-PEER"

// validName matches the names that can be used in a line for iptables-restore:
// at most 28 bytes (XT_EXTENSION_MAXNAMELEN less the final NUL), and nothing
// that has to be quoted.
var validName = regexp.MustCompile(`^[A-Za-z0-9_.:@][A-Za-z0-9_.:@+-]{0,27}$`)

// New finds the iptables programs. If those of IPv6 are missing or fail there
// are no pinholes, and Healthy returns the reason.
func New(o Options) (*Firewall, error) {
	for _, name := range slices.Concat([]string{o.NATChain, o.ForwardChain, o.PostroutingChain}, o.WAN, o.WAN6) {
		if !validName.MatchString(name) {
			return nil, fmt.Errorf("netfilter: invalid name of a chain or interface %q: use up to 28 letters, digits, - and _", name)
		}
	}
	f := &Firewall{log: o.Log, mu: make(lock, 1), ownership: ownership{path: o.OwnershipFile}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	var err error
	if f.ipv4, err = newFamily("iptables", o.Log); err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	f.initChains(o)
	if o.IPv6 {
		if f.ipv6, err = newFamily("ip6tables", o.Log); err != nil {
			f.ipv6, f.ipv6Err = nil, fmt.Errorf("no IPv6 pinholes: ip6tables does not work: %w", err)
			return f, f.loadOwnership()
		}
		forward6 := *f.forward
		forward6.family, forward6.wan = f.ipv6, o.WAN6
		f.forward6 = &forward6
	}
	return f, f.loadOwnership()
}

// initChains sets the IPv4 chains and the rules that jump to them.
func (f *Firewall) initChains(o Options) {
	f.nat = &chain{
		family: f.ipv4, table: "nat", name: o.NATChain, hooks: natHooks[:], wan: o.WAN, side: "-i",
		jumpRule: func(wan string) string { return fmt.Sprintf("-i %s -j %s", wan, o.NATChain) },
	}
	f.postrouting = &chain{family: f.ipv4, table: "nat", name: o.PostroutingChain}
	f.peer = &chain{
		family: f.ipv4, table: "nat", name: peerChain, hooks: peerHooks[:], wan: o.WAN, side: "-o", onDemand: true,
		jumpRule: func(wan string) string { return fmt.Sprintf("-o %s -j %s", wan, peerChain) },
	}
	f.forward = &chain{
		family: f.ipv4, table: "filter", name: o.ForwardChain, hooks: filterHooks[:], wan: o.WAN, side: "-i",
		jumpRule: func(wan string) string { return fmt.Sprintf("-i %s ! -o %s -j %s", wan, wan, o.ForwardChain) },
	}
}

// families returns the families that have programs.
func (f *Firewall) families() []*family {
	if f.ipv6 == nil {
		return []*family{f.ipv4}
	}
	return []*family{f.ipv4, f.ipv6}
}

// family returns the programs of a family, nil if there are none.
func (f *Firewall) family(v portmap.Family) *family {
	if v == portmap.IPv6 {
		return f.ipv6
	}
	return f.ipv4
}

// Pinholes reports whether ip6tables can be used.
func (f *Firewall) Pinholes() bool { return f.ipv6 != nil }

// chains returns the daemon's chains, in the order in which transactions list
// them.
func (f *Firewall) chains() []*chain {
	list := []*chain{f.nat, f.postrouting, f.peer, f.forward}
	if f.forward6 != nil {
		list = append(list, f.forward6)
	}
	return list
}

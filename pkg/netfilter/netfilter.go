// Package netfilter keeps the rules of port mappings in the kernel, in chains
// of their own beside whatever firewall the router has.
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

// ErrStopped tells that the router's firewall has been stopped: the chains in
// which it keeps room for ours are gone. Nothing is opened until it comes back.
var ErrStopped = errors.New("the firewall is stopped, nothing is opened until it is started again")

// Options are what a Firewall is made of. The names are the administrator's.
type Options struct {
	WAN              []string // external interfaces, "eth0" or "ppp+"
	WAN6             []string // those of IPv6
	NATChain         string   // in table nat, for DNAT
	ForwardChain     string   // in table filter, of both families
	PostroutingChain string   // in table nat; used if somebody made it
	IPv6             bool     // make pinholes
	// OwnershipFile is the path of the ownership record: a file that remembers which
	// chains, rules and jumps are ours, should the process end without removing
	// them. Empty: there is none.
	OwnershipFile string
	Log           *slog.Logger
}

// Firewall is the portmap.Firewall of iptables, legacy or nft. Its methods
// wait for each other.
type Firewall struct {
	ipv4 *family
	ipv6 *family // nil: no pinholes
	no6  error   // why there are none although there should be
	log  *slog.Logger

	open  context.Context // until Teardown, which ends whatever lists tables
	close context.CancelFunc

	mu          lock      // held by begin and end around every piece of work
	notifier    *notifier // nil: nobody watches
	ownership   ownership
	leftover    []holding // of an earlier process, with other settings
	nat         *chain
	postrouting *chain
	peer        *chain // for outbound mappings where there is no postrouting
	forward     *chain
	forward6    *chain // nil: no pinholes
}

// peerChain is a chain that nobody but us makes, if outbound mappings need it.
const peerChain = "MINIUPNPD-PEER"

// validName is what may stand in a line for iptables-restore: shorter than the
// kernel's 29 octets for a chain's name, and nothing that has to be quoted.
var validName = regexp.MustCompile(`^[A-Za-z0-9_.:@][A-Za-z0-9_.:@+-]{0,27}$`)

// New finds the iptables programs. Where those of IPv6 are missing or fail there
// are no pinholes, and Healthy says why.
func New(o Options) (*Firewall, error) {
	for _, name := range slices.Concat([]string{o.NATChain, o.ForwardChain, o.PostroutingChain}, o.WAN, o.WAN6) {
		if !validName.MatchString(name) {
			return nil, fmt.Errorf("netfilter: %q is no name of a chain or an interface: give it up to 28 letters, digits, - and _", name)
		}
	}
	f := &Firewall{log: o.Log, mu: make(lock, 1), ownership: ownership{path: o.OwnershipFile}}
	f.open, f.close = context.WithCancel(context.Background())
	var err error
	if f.ipv4, err = newFamily("iptables", o.Log); err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	f.initChains(o)
	if o.IPv6 {
		if f.ipv6, err = newFamily("ip6tables", o.Log); err != nil {
			f.ipv6, f.no6 = nil, fmt.Errorf("no IPv6 pinholes, ip6tables does not work here: %w", err)
			return f, f.loadOwnership()
		}
		forward6 := *f.forward
		forward6.family, forward6.wan = f.ipv6, o.WAN6
		f.forward6 = &forward6
	}
	return f, f.loadOwnership()
}

// initChains says which chains there are for IPv4, and what leads to them.
func (f *Firewall) initChains(o Options) {
	f.nat = &chain{
		family: f.ipv4, table: "nat", name: o.NATChain, hooks: natHooks[:], wan: o.WAN, side: "-i",
		jump: func(wan string) string { return fmt.Sprintf("-i %s -j %s", wan, o.NATChain) },
	}
	f.postrouting = &chain{family: f.ipv4, table: "nat", name: o.PostroutingChain}
	f.peer = &chain{
		family: f.ipv4, table: "nat", name: peerChain, hooks: peerHooks[:], wan: o.WAN, side: "-o", lazy: true,
		jump: func(wan string) string { return fmt.Sprintf("-o %s -j %s", wan, peerChain) },
	}
	f.forward = &chain{
		family: f.ipv4, table: "filter", name: o.ForwardChain, hooks: filterHooks[:], wan: o.WAN, side: "-i",
		jump: func(wan string) string { return fmt.Sprintf("-i %s ! -o %s -j %s", wan, wan, o.ForwardChain) },
	}
}

// families returns those that there are.
func (f *Firewall) families() []*family {
	if f.ipv6 == nil {
		return []*family{f.ipv4}
	}
	return []*family{f.ipv4, f.ipv6}
}

// family returns the programs of a family; nil: there are none.
func (f *Firewall) family(v portmap.Family) *family {
	if v == portmap.IPv6 {
		return f.ipv6
	}
	return f.ipv4
}

// Pinholes reports whether there is a firewall of IPv6.
func (f *Firewall) Pinholes() bool { return f.ipv6 != nil }

// chains returns all of ours, in the order in which batches mention them.
func (f *Firewall) chains() []*chain {
	list := []*chain{f.nat, f.postrouting, f.peer, f.forward}
	if f.forward6 != nil {
		list = append(list, f.forward6)
	}
	return list
}

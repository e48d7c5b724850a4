// Package netfilter keeps the rules of port mappings in the kernel, in chains
// of their own beside the router's firewall.
package netfilter

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// ErrStopped is the error while the router's firewall is stopped: its chains
// that call the daemon's are gone. No ports are opened until it starts again.
var ErrStopped error = stopped{}

// stopped is the type of ErrStopped. It is a portmap.ErrUnavailable.
type stopped struct{}

func (stopped) Error() string {
	return "the firewall is stopped; no ports are opened until it starts again"
}

func (stopped) Unwrap() error { return portmap.ErrUnavailable }

// Options configure a Firewall. The names are those in the settings.
type Options struct {
	WAN              []string // external interfaces, "eth0" or "ppp+"
	WAN6             []string // those of IPv6
	NATChain         string   // in table nat, for DNAT
	ForwardChain     string   // in table filter, of both families
	PostroutingChain string   // in table nat; used if it exists
	Outbound         Outbound
	IPv6             bool // enable pinholes
	Hairpin          bool // hosts of a LAN reach mappings by the external address
	// IPv6Tables are those of IPv6 as they have just been listed; nil: they have
	// not been.
	IPv6Tables xtables.Snapshot
	// OwnershipFile is the path of the ownership record: it names the chains,
	// rules and jumps that the daemon created, so that a later process can
	// remove them if this one ends without doing so. Empty: no record.
	OwnershipFile string
	// Network returns the interfaces as they are now; nil: they are not known.
	Network func() Network
	// Looked is called after each look at a family's tables that succeeded. It
	// returns after what time to look again though nothing changes; 0: never. It
	// may be nil.
	Looked func(Look) (again time.Duration)
	// Repaired is called when missing chains or rules of a family have been restored.
	// It must not wait; it may be nil.
	Repaired func(portmap.Family)
	Log      *slog.Logger
}

// Network is the router's interfaces as far as the rules depend on them.
type Network struct {
	Uplink Uplink
	LANs   []string // the interfaces of the LANs
	// Networks are the IPv4 networks of the LANs; none: they are not known.
	Networks []netip.Prefix
	// Sources are the IPv4 addresses that MASQUERADE gives packets by the uplinks'
	// links, by device; the zero Addr: not the same one to all packets.
	Sources map[string]netip.Addr
	// Hairpin is used if Options.Hairpin is set.
	Hairpin Hairpin
}

// HasSameLinks reports whether both have the same LANs, networks, sources and hairpin.
func (n Network) HasSameLinks(o Network) bool {
	return slices.Equal(n.LANs, o.LANs) && slices.Equal(n.Networks, o.Networks) && maps.Equal(n.Sources, o.Sources) && n.Hairpin.Equal(o.Hairpin)
}

// Uplink is the way in for the connections that are forwarded.
type Uplink struct {
	Device string // the interface whose address is announced to clients; "": not known
	// Addrs are the IPv4 addresses of the uplinks: first the destination of
	// packets to the announced address.
	Addrs []netip.Addr
}

// Look is what a look at the tables of a family has found.
type Look struct {
	Family  portmap.Family
	Changed time.Time // when another program last used the firewall; zero: not since the start
	// Forwards are the static port forwards, of IPv4.
	Forwards Forwards
	// Passes reports whether the router forwards any new connections but those of
	// mappings, of IPv6.
	Passes bool
}

// Firewall implements portmap.Firewall by iptables, legacy or nft. The families
// do not wait for each other.
type Firewall struct {
	ipv4      *family
	ipv6      *family // nil: IPv6 is disabled
	network   func() Network
	looked    func(Look) time.Duration
	repaired  func(portmap.Family)
	ownership *ownership
	watch     *xtables.Watch
	log       *slog.Logger

	ctx    context.Context // for listing tables; Teardown cancels it
	cancel context.CancelFunc

	nat         *chain
	postrouting *chain
	peer        *chain // for outbound mappings if postrouting does not exist
	outbound    *chain // for other mappings if postrouting does not exist
	choice      Outbound
	forward     *chain
	forward6    *chain
}

// peerChain is a chain that only the daemon creates, when outbound mappings
// need it.
const peerChain = "MINIUPNPD-PEER"

// maxName is the maximum length of a chain's name, in bytes: XT_EXTENSION_MAXNAMELEN
// less the final NUL.
const maxName = 28

// isValidName reports whether a name can be used in a line for iptables-restore: it has
// nothing that has to be quoted, and does not begin like an option.
func isValidName(name string) bool {
	isForeign := func(c rune) bool {
		return (c < '0' || '9' < c) && (c < 'A' || 'Z' < c) && (c < 'a' || 'z' < c) && !strings.ContainsRune("_.:@+-", c)
	}
	return name != "" && len(name) <= maxName && !strings.ContainsRune("+-", rune(name[0])) && !strings.ContainsFunc(name, isForeign)
}

// New finds the iptables programs. While those of IPv6 are missing or fail there
// are no pinholes.
func New(o Options) (*Firewall, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	f := &Firewall{log: o.Log, network: o.Network, looked: o.Looked, repaired: o.Repaired, ownership: newOwnership(o.OwnershipFile, o.Log)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.ipv4 = newFamily(portmap.IPv4, "iptables", o.Log)
	err := f.ipv4.find()
	if err == nil {
		err = f.ipv4.programs.Probe()
	}
	if err != nil {
		return nil, fmt.Errorf("netfilter: %w", err)
	}
	f.watch = f.ipv4.programs.NewWatch()
	if o.IPv6 {
		f.ipv6 = newFamily(portmap.IPv6, "ip6tables", o.Log)
		f.ipv6.fresh = o.IPv6Tables
	}
	f.findOthers()
	f.initChains(o)
	return f, f.loadOwnership()
}

// check returns an error for names that no rule can have.
func (o *Options) check() error {
	for _, name := range slices.Concat([]string{o.NATChain, o.ForwardChain, o.PostroutingChain}, o.WAN, o.WAN6) {
		if !isValidName(name) {
			return fmt.Errorf("netfilter: invalid name of a chain or interface %q: use up to 28 letters, digits, - and _", name)
		}
	}
	return nil
}

// Check returns why a Firewall with these options would not work now, nil if it
// would. It changes nothing.
func Check(ctx context.Context, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	programs, err := xtables.Find("iptables", o.Log)
	if err == nil {
		err = programs.Probe()
	}
	if err == nil {
		_, err = programs.Snapshot(ctx)
	}
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	return nil
}

// initChains sets the chains and the rules that jump to them.
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
	f.ipv4.chains = []*chain{f.nat, f.postrouting, f.peer, f.forward}
	f.outbound = newOutboundChain(f.postrouting, o.WAN, f.currentNetwork)
	if f.choice = o.Outbound; f.choice != OutboundNever {
		f.ipv4.chains = append(f.ipv4.chains, f.outbound)
	}
	if o.Hairpin {
		h := newHairpin(f.nat, f.forward)
		h.follow(f.currentNetwork())
		f.ipv4.hairpin, f.ipv4.chains = h, append(f.ipv4.chains, h.nat, h.forward, h.masquerade)
	}
	if f.ipv6 != nil {
		forward6 := *f.forward
		forward6.family, forward6.wan = f.ipv6, o.WAN6
		f.forward6 = &forward6
		f.ipv6.chains = []*chain{f.forward6}
	}
}

// families returns the families that are enabled.
func (f *Firewall) families() []*family {
	if f.ipv6 == nil {
		return []*family{f.ipv4}
	}
	return []*family{f.ipv4, f.ipv6}
}

// family returns a family, nil if it is disabled.
func (f *Firewall) family(v portmap.Family) *family {
	if v == portmap.IPv6 {
		return f.ipv6
	}
	return f.ipv4
}

// currentNetwork returns the interfaces as they are now.
func (f *Firewall) currentNetwork() Network {
	if f.network == nil {
		return Network{}
	}
	return f.network()
}

// Pinholes reports whether ip6tables can be used: it has worked once.
func (f *Firewall) Pinholes() bool { return f.ipv6 != nil && f.ipv6.works() }

// Stopped reports whether the router's IPv4 firewall was stopped at the last
// look. A process that has not seen it running before cannot know.
func (f *Firewall) Stopped() bool {
	f.ipv4.status.Lock()
	defer f.ipv4.status.Unlock()
	return f.ipv4.health.stopped
}

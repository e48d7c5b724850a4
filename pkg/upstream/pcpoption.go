package upstream

import (
	"errors"
	"net/netip"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// maxFilters is how many filters fit into a packet beside a description of 257 octets. With
// more than that the router in front forwards what every remote peer sends.
const maxFilters = 30

// optionSet is a set of the kinds of options that a request for a forwarding may have.
type optionSet uint32

// The kinds, in the order in which they are left out if a server says of none in particular
// that it does not know it.
const (
	descriptions optionSet = 1 << iota
	filters
	preferFailure
)

// options returns the kinds of options of the first request for a forwarding.
func (a ask) options() optionSet {
	if len(a.filters) > 0 || a.filtered {
		return descriptions | filters | preferFailure
	}
	return descriptions | preferFailure
}

// refusedBy returns the kind of the set that a server has probably refused a request for;
// 0 if it was not because of its options. Options that a server does not know are filters
// rather than descriptions, which it may ignore (RFC 6887, section 7.3).
func (o optionSet) refusedBy(err error) optionSet {
	switch {
	case errors.Is(err, pcp.ExcessiveRemotePeers), errors.Is(err, pcp.UnsuppOption) && o&filters != 0:
		return o & filters
	case errors.Is(err, pcp.UnsuppOption), errors.Is(err, pcp.MalformedOption):
		return o & -o
	}
	return 0
}

// list returns the options of those kinds for a. Filters add to those of an earlier request,
// unless they are removed first (section 13.3).
func (o optionSet) list(a ask) (list []pcp.Option) {
	if o&preferFailure != 0 {
		list = append(list, pcp.PreferFailure{})
	}
	if o&filters != 0 {
		list = append(list, pcp.Filter{Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)})
		if len(a.filters) <= maxFilters {
			for _, f := range a.filters {
				list = append(list, pcpFilter(f))
			}
		}
	}
	if o&descriptions != 0 {
		list = append(list, pcp.Description{Text: paddedText(a.label())})
	}
	return list
}

// paddedText returns a description that its option is padded for: so the first one already
// shows whether the server can read them all.
func paddedText(text string) string {
	if len(text)%4 == 0 {
		return text + " "
	}
	return text
}

// pcpFilter returns the option for a filter of an IPv4 mapping, whose address begins at
// bit 96 (section 5).
func pcpFilter(f portmap.Filter) pcp.Filter {
	return pcp.Filter{
		PrefixLength: uint8(96 + f.Prefix.Bits()),
		Remote:       netip.AddrPortFrom(f.Prefix.Addr(), f.Port),
	}
}

package xtables

import (
	"fmt"
	"strings"
	"testing"
)

// worded lists ports as "tcp 80 443 udp 5000-5010", in ascending order.
func worded(set PortSet) string {
	var b strings.Builder
	b.WriteString(wordedOf(set, "tcp", TCP) + wordedOf(set, "udp", UDP))
	return strings.TrimPrefix(b.String(), " ")
}

func wordedOf(set PortSet, name string, p Protocol) string {
	var b strings.Builder
	for i, r := range set.Ranges(p) {
		if i == 0 {
			b.WriteString(" " + name)
		}
		fmt.Fprintf(&b, " %d", r.First)
		if r.Last > r.First {
			fmt.Fprintf(&b, "-%d", r.Last)
		}
	}
	return b.String()
}

func TestPortSet(t *testing.T) {
	r := func(first, last uint16) PortSet {
		return PortsOf(PortRange{First: first, Last: last}, TCP)
	}
	set := r(10, 20).Or(r(30, 40)).Or(PortsOf(PortRange{First: 65535, Last: 65535}, TCP, UDP))
	for _, row := range []struct {
		name string
		got  PortSet
		want string
	}{
		{"or", set, "tcp 10-20 30-40 65535 udp 65535"},
		{"or that closes a gap", set.Or(r(21, 29)), "tcp 10-40 65535 udp 65535"},
		{"or of nothing", PortSet(nil).Or(nil), ""},
		{"and", set.And(r(15, 35)), "tcp 15-20 30-35"},
		{"minus", set.Minus(r(15, 35)), "tcp 10-14 36-40 65535 udp 65535"},
		{"minus everything", set.Minus(everyPort), ""},
		{"not", set.Not().Not(), "tcp 10-20 30-40 65535 udp 65535"},
		{"not of nothing", PortSet(nil).Not(), "tcp 0-65535 udp 0-65535"},
	} {
		if got := worded(row.got); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

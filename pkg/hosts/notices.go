package hosts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Watch calls resolved for each neighbour of which the kernel then finds out the
// hardware address, and with the zero Addr when notices were lost, until stop is
// called. The calls come one after another.
func (f *Finder) Watch(resolved func(index int, a netip.Addr)) (stop func(), err error) {
	socket, err := netlink.Subscribe(unix.NETLINK_ROUTE, unix.RTMGRP_NEIGH)
	if err != nil {
		return nil, fmt.Errorf("hosts: watch the neighbour table: %w", err)
	}
	if err := netlink.Filter(socket, noticeFilter()); err != nil {
		socket.Close()
		return nil, fmt.Errorf("hosts: watch the neighbour table: %w", err)
	}
	go readNotices(socket, resolved)
	return func() { socket.Close() }, nil
}

// noticeFilter returns the program that passes on the notices of neighbours that answer:
// those of others are many while invented addresses are resolved. ndm_state is at offset
// 8 of struct ndmsg.
func noticeFilter() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_ABS | unix.BPF_H, K: unix.SizeofNlMsghdr + 8},
		{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JSET, K: netlink.FilterOrder(answeringStates), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1}, // all of it
		{Code: unix.BPF_RET | unix.BPF_K},
	}
}

// noticeLen is the number of octets that are read of a notice: it takes some 100.
const noticeLen = 4096

// readNotices calls resolved until the socket is closed.
func readNotices(socket *os.File, resolved func(index int, a netip.Addr)) {
	for b := make([]byte, noticeLen); ; {
		n, err := socket.Read(b)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			resolved(0, netip.Addr{})
		case err != nil:
			return
		default:
			if h, ok := parseNotice(b[:n]); ok && h.Answers {
				resolved(h.Index, h.Addr)
			}
		}
	}
}

// parseNotice decodes the message of a notice: struct nlmsghdr and the neighbour.
func parseNotice(b []byte) (Host, bool) {
	if len(b) < unix.SizeofNlMsghdr {
		return Host{}, false
	}
	return parseNeighbour(netlink.Message{Type: binary.NativeEndian.Uint16(b[4:]), Data: b[unix.SizeofNlMsghdr:]})
}

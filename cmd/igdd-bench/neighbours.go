package main

import (
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// incompleteNeighbours counts the neighbours of this thread's namespace that have been
// asked for and have not answered (linux/neighbour.h).
func incompleteNeighbours() (n int, err error) {
	list, err := syscall.NetlinkRIB(unix.RTM_GETNEIGH, unix.AF_UNSPEC)
	if err != nil {
		return 0, err
	}
	messages, err := syscall.ParseNetlinkMessage(list)
	for _, m := range messages {
		if m.Header.Type == unix.RTM_NEWNEIGH && len(m.Data) >= unix.SizeofNdMsg && binary.NativeEndian.Uint16(m.Data[8:])&unix.NUD_INCOMPLETE != 0 {
			n++
		}
	}
	return n, err
}

// tableFulls returns how often there was no room in the kernel's neighbour tables, which
// only the first namespace tells.
func tableFulls() (sum int) {
	for _, name := range []string{"arp_cache", "ndisc_cache"} {
		text, _ := os.ReadFile("/proc/1/net/stat/" + name)
		at := -1
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if at < 0 { // the head, one field a column
				at = slices.Index(fields, "table_fulls")
			} else {
				n, _ := strconv.ParseInt(fields[at], 16, 64)
				sum += int(n)
			}
		}
	}
	return sum
}

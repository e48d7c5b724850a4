package main

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kernelStats is what a flood does to the router's kernel.
type kernelStats struct {
	incomplete     int // neighbours that it asked for, the most at once
	receive, write int // datagrams lost for want of buffers
	full           int // how often the neighbour table of all namespaces had no room
}

// kernelWatch watches the router's kernel.
type kernelWatch struct {
	lab    *lab
	before kernelStats
	most   int
	stop   chan struct{}
	done   chan error
}

// watchKernel starts a watch.
func (l *lab) watchKernel() (*kernelWatch, error) {
	w := &kernelWatch{lab: l, stop: make(chan struct{}), done: make(chan error, 1)}
	if err := l.router.Do(w.before.readErrors); err != nil {
		return nil, err
	}
	w.before.full = tableFulls()
	go func() { w.done <- l.router.Do(w.countNeighbours) }()
	return w, nil
}

// countNeighbours notes the greatest number of incomplete neighbours until the watch
// ends.
func (w *kernelWatch) countNeighbours() error {
	for {
		n, err := incompleteNeighbours()
		if err != nil {
			return err
		}
		w.most = max(w.most, n)
		select {
		case <-w.stop:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// end ends the watch.
func (w *kernelWatch) end() (kernelStats, error) {
	close(w.stop)
	var after kernelStats
	err := errors.Join(<-w.done, w.lab.router.Do(after.readErrors))
	return kernelStats{w.most, after.receive - w.before.receive, after.write - w.before.write, tableFulls() - w.before.full}, err
}

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

// readErrors reads the errors of UDP of both families, in this thread's namespace.
func (s *kernelStats) readErrors() error {
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		if names != nil {
			s.addErrors(names, fields)
		}
		names = fields
	}
	text, err = os.ReadFile("/proc/thread-self/net/snmp6")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "Udp6"); ok {
			fields := strings.Fields(name)
			s.addErrors(fields[:1], fields[1:])
		}
	}
	return err
}

// addErrors adds those of the values whose names are errors for want of buffers.
func (s *kernelStats) addErrors(names, values []string) {
	for i, name := range names {
		n, _ := strconv.Atoi(values[i])
		switch name {
		case "RcvbufErrors":
			s.receive += n
		case "SndbufErrors":
			s.write += n
		}
	}
}

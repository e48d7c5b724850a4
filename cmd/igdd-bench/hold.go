package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// holders is the number of HTTP connections that the attacker holds.
	holders = 64
	// holdTime is how long it holds one before it opens another.
	holdTime = 5 * time.Second
	// holdPause is its pause between two connections in the place of one.
	holdPause = 100 * time.Millisecond
	// holdWait is how long it waits for a connection.
	holdWait = time.Second
)

// hold is a number of connections that the attacker holds without reading.
type hold struct {
	to      netip.AddrPort
	from    sources
	text    string // sent on each
	opened  atomic.Int64
	begin   time.Time
	stopped chan struct{}
	working sync.WaitGroup
}

// startHold opens connections from the attacker, and others in the place of those that
// the server closes.
func (l *lab) startHold(to netip.AddrPort, from sources, text string) *hold {
	h := &hold{to: to, from: from, text: text, begin: time.Now(), stopped: make(chan struct{})}
	for i := range holders {
		h.working.Go(func() { l.attacker.Do(func() error { h.keep(from.at(i)); return nil }) })
	}
	return h
}

// stop closes all connections and returns how many were opened per second.
func (h *hold) stop() (float64, error) {
	close(h.stopped)
	h.working.Wait()
	if h.opened.Load() == 0 {
		return 0, errors.New("no connection could be opened")
	}
	return float64(h.opened.Load()) / time.Since(h.begin).Seconds(), nil
}

// keep holds one connection after the other.
func (h *hold) keep(from netip.Addr) {
	for {
		if c, err := dial(unix.SOCK_STREAM, from, h.to, holdWait); err == nil {
			h.opened.Add(1)
			c.WriteString(h.text)
			h.wait(c)
			c.Close()
		}
		select {
		case <-h.stopped:
			return
		case <-time.After(holdPause):
		}
	}
}

// wait waits until the server closes a connection, it has been held long enough, or the
// hold ends.
func (h *hold) wait(c *os.File) {
	for end := time.Now().Add(holdTime); time.Now().Before(end); {
		select {
		case <-h.stopped:
			return
		default:
		}
		watched := []unix.PollFd{{Fd: int32(c.Fd()), Events: unix.POLLRDHUP}}
		if n, _ := unix.Poll(watched, int(holdPause.Milliseconds())); n > 0 {
			return
		}
	}
}

// wanIP2 is the service type of version 2, which has lists.
const wanIP2 = "urn:schemas-upnp-org:service:WANIPConnection:2"

// listRequest asks for the list of all mappings.
func listRequest(s *service) string {
	header, body := soap(wanIP2, "GetListOfPortMappings", "NewStartPort", 0, "NewEndPort", 65535, "NewProtocol", "TCP",
		"NewManage", 0, "NewNumberOfPorts", 0)
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %v\r\n%sContent-Length: %d\r\n\r\n%s", s.control, s.host, header, len(body), body)
}

// What the table holds for the lists: as many mappings as one host may have, with
// descriptions that grow the most when they are escaped.
const (
	listMappings   = 384
	listCharacters = 250
)

// fillTable maps ports of the attacker for long lists.
func (l *lab) fillTable(s *service) error {
	return l.attacker.Do(func() error {
		w := &web{service: s, from: attackerAddr, keep: true}
		defer w.close()
		for i := range listMappings {
			arguments := mappingArguments(20000+uint16(i), attackerAddr, strings.Repeat("&amp;", listCharacters))
			if err := w.call("AddPortMapping", arguments...); err != nil {
				return fmt.Errorf("mapping %d: %w", i, err)
			}
		}
		return nil
	})
}

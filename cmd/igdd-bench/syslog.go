package main

import (
	"net"
	"strings"
	"sync"
)

// syslog is the syslogd of a router. It keeps the last three messages.
type syslog struct {
	path string

	mu   sync.Mutex // guards last
	last []string
}

// newSyslog listens at path until the process ends.
func newSyslog(path string) (*syslog, error) {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	s := &syslog{path: path}
	go s.listen(c)
	return s, nil
}

func (s *syslog) listen(c net.Conn) {
	message := make([]byte, 1<<16)
	for {
		n, err := c.Read(message)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.last = append(s.last[max(0, len(s.last)-2):], string(message[:n]))
		s.mu.Unlock()
	}
}

// clear removes the messages of an earlier daemon.
func (s *syslog) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = nil
}

// recent returns the last messages.
func (s *syslog) recent() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.last, "; ")
}

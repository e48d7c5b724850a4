package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// serve answers the one request of a connection.
func (s *Server) serve(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	release := sync.OnceFunc(func() { <-s.clients })
	defer release()
	if err := checkRoot(c); err != nil {
		s.opts.Log.Warn("control socket: rejected a request that is not from root", "err", err)
		return
	}
	c.SetDeadline(time.Now().Add(requestTimeout))
	req, err := readRequest(c)
	if err == nil && req.Do == doWatch {
		release()
		if err = s.watch(ctx, c, req.After); err == nil {
			return
		}
	}
	s.answer(ctx, c, req, err)
}

// answer answers a request, unless it has failed already.
func (s *Server) answer(ctx context.Context, c *net.UnixConn, req request, err error) {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	c.SetDeadline(time.Now().Add(replyTimeout))
	out := bufio.NewWriter(c)
	encoder := json.NewEncoder(out)
	if err == nil {
		err = s.handle(ctx, req, func(a reply) error { return encoder.Encode(a) })
	}
	last := reply{End: true}
	if err != nil {
		last.Error = err.Error()
	}
	encoder.Encode(last)
	out.Flush() // an error means that the tool has gone
}

// checkRoot returns an error unless the other end is a process of root.
func checkRoot(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(controlErr, err); err != nil {
		return err
	}
	if peer.Uid != 0 {
		return fmt.Errorf("process %d of user %d", peer.Pid, peer.Uid)
	}
	return nil
}

// readRequest reads one line of JSON.
func readRequest(r io.Reader) (request, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxRequest)).ReadSlice('\n')
	if err != nil {
		return request{}, fmt.Errorf("a request is a line of at most %d bytes: %w", maxRequest, err)
	}
	var req request
	strict := json.NewDecoder(bytes.NewReader(line))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&req); err != nil {
		return request{}, fmt.Errorf("invalid request: %w", err)
	}
	return req, nil
}

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
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// serve answers the one request of a connection.
func (s *Server) serve(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	release := sync.OnceFunc(func() { <-s.connections })
	defer release()
	if err := checkRoot(c); err != nil {
		s.opts.Log.Warn("control socket: rejected a request that is not from root", "err", err)
		return
	}
	req, err := s.readers.read(c)
	if err == nil && req.Do == doWatch {
		release()
		if err = s.watch(ctx, c, req.After); err == nil {
			return
		}
	}
	s.answer(ctx, c, req, err)
}

// answer answers a request when it is its turn, or at once if it has failed already.
func (s *Server) answer(ctx context.Context, c *net.UnixConn, req request, err error) {
	if err == nil {
		s.clients <- struct{}{}
		defer func() { <-s.clients }()
	}
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

// readers are the connections whose request is read, the oldest first. An idle one
// delays no other: when there are too many, the oldest is closed.
type readers struct {
	mu   sync.Mutex
	list []*net.UnixConn
}

// read reads the request of a connection.
func (r *readers) read(c *net.UnixConn) (request, error) {
	r.add(c)
	defer r.remove(c)
	c.SetDeadline(time.Now().Add(requestTimeout))
	return readRequest(c)
}

func (r *readers) add(c *net.UnixConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == maxReaders {
		r.list[0].Close()
		r.list = slices.Delete(r.list, 0, 1)
	}
	r.list = append(r.list, c)
}

func (r *readers) remove(c *net.UnixConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(other *net.UnixConn) bool { return other == c })
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

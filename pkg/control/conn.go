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
	"time"

	"golang.org/x/sys/unix"
)

// serve answers the one question of a connection.
func (s *Server) serve(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := isRoot(c); err != nil {
		s.Log.Warn("the operator's socket is for root alone", "err", err)
		return
	}
	c.SetDeadline(time.Now().Add(askTime))
	q, err := readQuestion(c)
	out := bufio.NewWriter(c)
	encoder := json.NewEncoder(out)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		c.SetDeadline(time.Now().Add(answerTime))
		err = s.answer(ctx, q, func(a answer) error { return encoder.Encode(a) })
	}
	last := answer{End: true}
	if err != nil {
		last.Error = err.Error()
	}
	encoder.Encode(last)
	out.Flush() // whoever does not read it is gone
}

// isRoot demands that the other end is a process of root.
func isRoot(c *net.UnixConn) error {
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
		return fmt.Errorf("process %d of user %d asks", peer.Pid, peer.Uid)
	}
	return nil
}

// readQuestion reads one line of JSON.
func readQuestion(r io.Reader) (question, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxQuestion)).ReadSlice('\n')
	if err != nil {
		return question{}, fmt.Errorf("a question is a line of at most %d octets: %w", maxQuestion, err)
	}
	var q question
	strict := json.NewDecoder(bytes.NewReader(line))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&q); err != nil {
		return question{}, fmt.Errorf("question is not understood: %w", err)
	}
	return q, nil
}

package leasefile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// lines reads any text line by line in bounded memory.
type lines struct {
	r *bufio.Reader

	line      []byte // without its newline; valid until the next call
	number    int    // counted from 1
	tooLong   bool   // line is nil, since it was skipped
	truncated bool   // the text ends without a newline
	bytesRead int64  // bytes read so far
	err       error  // read error; nil at the end of the text
}

// newLines reads lines of at most longest bytes, newline included.
func newLines(r io.Reader, longest int) *lines {
	return &lines{r: bufio.NewReaderSize(r, longest)}
}

// next reads a line and reports whether there was one.
func (l *lines) next() bool {
	line, err := l.r.ReadSlice('\n')
	l.bytesRead += int64(len(line))
	if l.tooLong = errors.Is(err, bufio.ErrBufferFull); l.tooLong {
		line, err = nil, l.skip()
	}
	switch {
	case err != nil && err != io.EOF:
		l.err = err
		return false
	case len(line) == 0 && !l.tooLong:
		return false
	}
	l.number++
	l.truncated = err == io.EOF
	l.line = bytes.TrimSuffix(line, []byte("\n"))
	return true
}

// skip discards the rest of the line.
func (l *lines) skip() error {
	for {
		rest, err := l.r.ReadSlice('\n')
		l.bytesRead += int64(len(rest))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

package journal

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Lines reads any text line by line in bounded memory.
type Lines struct {
	r *bufio.Reader

	bytesRead int64

	Line      []byte // without its newline; valid until the next call
	Number    int    // counted from 1
	TooLong   bool   // Line is nil, since it was skipped
	Truncated bool   // the text ends without a newline
	Err       error  // read error; nil at the end of the text
}

// NewLines reads lines of at most longest bytes, newline included.
func NewLines(r io.Reader, longest int) *Lines {
	return &Lines{r: bufio.NewReaderSize(r, longest)}
}

// Next reads a line and reports whether there was one.
func (l *Lines) Next() bool {
	line, err := l.r.ReadSlice('\n')
	l.bytesRead += int64(len(line))
	if l.TooLong = errors.Is(err, bufio.ErrBufferFull); l.TooLong {
		line, err = nil, l.skip()
	}
	switch {
	case err != nil && err != io.EOF:
		l.Err = err
		return false
	case len(line) == 0 && !l.TooLong:
		return false
	}
	l.Number++
	l.Truncated = err == io.EOF
	l.Line = bytes.TrimSuffix(line, []byte("\n"))
	return true
}

// skip discards the rest of the line.
func (l *Lines) skip() error {
	for {
		rest, err := l.r.ReadSlice('\n')
		l.bytesRead += int64(len(rest))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

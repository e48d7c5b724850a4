package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
)

// Content describes what Read found.
type Content struct {
	Found bool
	// Damage says why not every line could be read; nil: all were.
	Damage error

	size      int64
	chain     chain
	isEarlier bool // an earlier version wrote it
	truncated bool // the last line is incomplete, as after a crash
}

// isWhole reports whether lines can be appended to the file as it is.
func (c *Content) isWhole() bool {
	return c.Found && c.Damage == nil && !c.truncated && !c.isEarlier
}

// Read reads the journal at path, if there is one, and calls each with the texts of its
// valid lines in turn. An error of each counts as damage of that line. Reading goes on
// after damaged lines. The error says why the file cannot be opened, and is its damage,
// too.
func Read(path string, each func(text []byte) error) (Content, error) {
	f, _, err := OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Content{}, nil
	}
	if err != nil {
		return Content{Found: true, Damage: err}, err
	}
	defer f.Close()
	return readFrom(f, each), nil
}

// readFrom is Read for an open file.
func readFrom(r io.Reader, each func(text []byte) error) Content {
	c := Content{Found: true}
	in := NewLines(io.LimitReader(r, maxSize), maxLine)
	for in.Next() && !in.Truncated {
		text, err := c.unframe(in)
		if err == nil {
			err = each(text)
		}
		if err != nil && c.Damage == nil {
			c.Damage = fmt.Errorf("line %d: %w", in.Number, err)
		}
	}
	c.size, c.truncated = in.bytesRead, in.Truncated
	switch {
	case in.Err != nil:
		c.Damage = in.Err
	case c.size == 0:
		c.Damage = errors.New("empty file")
	case c.size == maxSize:
		c.Damage = fmt.Errorf("larger than %d bytes", maxSize)
	}
	return c
}

// unframe checks a line and returns its text.
func (c *Content) unframe(in *Lines) ([]byte, error) {
	if in.TooLong {
		return nil, fmt.Errorf("longer than %d bytes", maxLine)
	}
	if len(in.Line) < frameHead || in.Line[frameHead-1] != ' ' {
		return nil, errors.New("no checksum")
	}
	parsed, err := strconv.ParseUint(string(in.Line[:frameHead-1]), 16, 32)
	if err != nil {
		return nil, errors.New("no checksum")
	}
	text, sum := in.Line[frameHead:], uint32(parsed)
	if want := c.expect(in.Number, sum, text); sum != want {
		return nil, fmt.Errorf("checksum is %08x, not %08x", sum, want)
	}
	return text, nil
}

// expect returns the checksum that a line must have, and counts the one that it has: so one
// damaged line does not spoil the others.
func (c *Content) expect(number int, sum uint32, text []byte) uint32 {
	want := c.chain.next(text)
	switch {
	case number == 1 && sum == checksum(0, text):
		c.isEarlier, want = true, sum
	case number == 1 && sum != want:
		return want // without the first line no other can be checked
	case c.isEarlier:
		return checksum(c.chain.first, text)
	}
	c.chain = c.chain.with(sum)
	return want
}

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
	seed      uint32
	truncated bool // the last line is incomplete, as after a crash
}

// isWhole reports whether lines can be appended to the file as it is.
func (c *Content) isWhole() bool { return c.Found && c.Damage == nil && !c.truncated }

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

// unframe checks a line and returns its text. The checksum of the first line is
// the seed of the others.
func (c *Content) unframe(in *Lines) ([]byte, error) {
	if in.TooLong {
		return nil, fmt.Errorf("longer than %d bytes", maxLine)
	}
	if len(in.Line) < frameHead || in.Line[frameHead-1] != ' ' {
		return nil, errors.New("no checksum")
	}
	want, err := strconv.ParseUint(string(in.Line[:frameHead-1]), 16, 32)
	if err != nil {
		return nil, errors.New("no checksum")
	}
	text := in.Line[frameHead:]
	sum := checksum(c.seed, text)
	if sum != uint32(want) {
		return nil, fmt.Errorf("checksum is %08x, not %08x", sum, want)
	}
	if in.Number == 1 {
		c.seed = sum
	}
	return text, nil
}

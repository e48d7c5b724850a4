package command

// limitedBuffer keeps the first bytes that are written to it.
type limitedBuffer struct {
	limit     int
	kept      []byte
	truncated bool // more than limit bytes were written
}

// Write never fails: a program that prints too much is not stopped by it.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	n := min(len(p), b.limit-len(b.kept))
	b.kept = append(b.kept, p[:n]...)
	b.truncated = b.truncated || n < len(p)
	return len(p), nil
}

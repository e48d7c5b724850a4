package leasefile

import (
	"hash"
	"hash/crc64"
	"io"
	"os"
)

// maxLeaseFile is how much of a lease file is read, in octets: a line for each
// of the 131,070 ports that there are, with the usual descriptions.
const maxLeaseFile = 16 << 20

// fingerprint tells whether the lease file still is what was last written. The
// zero value is that of an empty file, and of none.
type fingerprint struct {
	Size int64  `json:"size"`
	Sum  uint64 `json:"sum"` // CRC-64 of the first maxLeaseFile octets
}

// fingerprinter takes the fingerprint of what is written to it.
type fingerprinter struct {
	size int64
	sum  hash.Hash64
}

func newFingerprinter() *fingerprinter {
	return &fingerprinter{sum: crc64.New(crc64.MakeTable(crc64.ECMA))}
}

// Write never fails.
func (m *fingerprinter) Write(p []byte) (int, error) {
	room := max(maxLeaseFile-m.size, 0)
	m.sum.Write(p[:min(int64(len(p)), room)])
	m.size += int64(len(p))
	return len(p), nil
}

func (m *fingerprinter) fingerprint() fingerprint {
	return fingerprint{Size: m.size, Sum: m.sum.Sum64()}
}

// fingerprintOf measures a file of the given size, and goes back to its start.
func fingerprintOf(f *os.File, size int64) (fingerprint, error) {
	m := newFingerprinter()
	if _, err := io.CopyN(m, f, min(size, maxLeaseFile)); err != nil {
		return fingerprint{}, err
	}
	m.size = size
	_, err := f.Seek(0, io.SeekStart)
	return m.fingerprint(), err
}

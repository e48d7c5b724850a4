package leasefile

import (
	"hash"
	"hash/crc64"
	"io"
	"os"
)

// maxLeaseFile bounds how much of a lease file is read, in bytes: a line for
// each of the 131,070 ports, with the usual descriptions.
const maxLeaseFile = 16 << 20

// fingerprint identifies the content of the lease file, to find out whether
// another program has changed it. The zero value stands for an empty file and
// for none.
type fingerprint struct {
	Size int64  `json:"size"`
	Sum  uint64 `json:"sum"` // CRC-64 of the first maxLeaseFile bytes
}

// fingerprinter computes the fingerprint of what is written to it.
type fingerprinter struct {
	size int64
	sum  hash.Hash64
}

func newFingerprinter() *fingerprinter {
	return &fingerprinter{sum: crc64.New(crc64.MakeTable(crc64.ECMA))}
}

// Write never fails.
func (fp *fingerprinter) Write(p []byte) (int, error) {
	room := max(maxLeaseFile-fp.size, 0)
	fp.sum.Write(p[:min(int64(len(p)), room)])
	fp.size += int64(len(p))
	return len(p), nil
}

func (fp *fingerprinter) fingerprint() fingerprint {
	return fingerprint{Size: fp.size, Sum: fp.sum.Sum64()}
}

// fingerprintOf computes the fingerprint of a file of the given size, and seeks
// back to its start.
func fingerprintOf(f *os.File, size int64) (fingerprint, error) {
	fp := newFingerprinter()
	if _, err := io.CopyN(fp, f, min(size, maxLeaseFile)); err != nil {
		return fingerprint{}, err
	}
	fp.size = size
	_, err := f.Seek(0, io.SeekStart)
	return fp.fingerprint(), err
}

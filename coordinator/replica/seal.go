package replica

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

// A sealed snapshot is what the machine wrote, followed by 48 bytes:
//
//	body     as Machine's Snapshot.Persist wrote it
//	magic    8 bytes, "floesnp1"
//	length   8 bytes, big endian: length of the body
//	digest  32 bytes: SHA-256 of body ‖ magic ‖ length
//
// Raft's own checksum is a CRC-64 kept in another file; the seal travels with the
// bytes to the follower that installs them and is checked there again.
const (
	sealMagic = "floesnp1"
	sealSize  = len(sealMagic) + 8 + sha256.Size
)

// sealWriter passes a body through and can then seal it.
type sealWriter struct {
	w      io.Writer
	digest hash.Hash
	length uint64
}

func newSealWriter(w io.Writer) *sealWriter { return &sealWriter{w: w, digest: sha256.New()} }

// Write passes a part of the body through.
func (s *sealWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.digest.Write(p[:n])
	s.length += uint64(n)
	return n, err
}

// seal writes the trailer.
func (s *sealWriter) seal() error {
	trailer := binary.BigEndian.AppendUint64([]byte(sealMagic), s.length)
	s.digest.Write(trailer)
	_, err := s.w.Write(s.digest.Sum(trailer))
	return err
}

// sealReader reads the body of a sealed snapshot. Instead of io.EOF it returns
// ErrSnapshotDamaged if the trailer is missing or does not match.
type sealReader struct {
	r      *bufio.Reader
	digest hash.Hash
	length uint64
	err    error // sticky
}

func newSealReader(r io.Reader) *sealReader {
	return &sealReader{r: bufio.NewReaderSize(r, 64<<10), digest: sha256.New()}
}

// Read returns bytes that are certainly not part of the trailer.
func (s *sealReader) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	ahead, err := s.r.Peek(min(len(p)+sealSize, s.r.Size()))
	if len(ahead) > sealSize {
		n := copy(p, ahead[:len(ahead)-sealSize])
		s.digest.Write(p[:n])
		s.length += uint64(n)
		_, s.err = s.r.Discard(n)
		return n, s.err
	}
	if err != nil && err != io.EOF {
		s.err = err
		return 0, err
	}
	s.err = s.check(ahead)
	return 0, s.err
}

// check compares the last bytes with the seal of what was read.
func (s *sealReader) check(trailer []byte) error {
	if len(trailer) < sealSize {
		return fmt.Errorf("%w: %d bytes are left where a seal of %d was expected", ErrSnapshotDamaged, len(trailer), sealSize)
	}
	if string(trailer[:len(sealMagic)]) != sealMagic {
		return fmt.Errorf("%w: no seal at its end", ErrSnapshotDamaged)
	}
	if n := binary.BigEndian.Uint64(trailer[len(sealMagic):]); n != s.length {
		return fmt.Errorf("%w: %d bytes, sealed as %d", ErrSnapshotDamaged, s.length, n)
	}
	s.digest.Write(trailer[:len(sealMagic)+8])
	if string(s.digest.Sum(nil)) != string(trailer[len(sealMagic)+8:]) {
		return fmt.Errorf("%w: SHA-256 differs from its seal", ErrSnapshotDamaged)
	}
	return io.EOF
}

// verifySeal reads a sealed snapshot to its end.
func verifySeal(r io.Reader) error {
	_, err := io.Copy(io.Discard, newSealReader(r))
	return err
}

package stage

import (
	"crypto/md5" //nolint:gosec // sources publish MD5 (paper §3.8.3); a SHA-256 is recorded beside it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/adler32"
	"io"
	"strings"

	"floe/protocol"
)

// checker hashes what passes through it, always with SHA-256 and, where the
// source publishes another checksum, with that too.
type checker struct {
	w     io.Writer
	sum   hash.Hash
	other hash.Hash
	want  string // lower-case hexadecimal; empty for nothing to compare
	name  string
	size  protocol.ByteSize
}

// newChecker takes a checksum as steering files write it: sha256:…, sha512:…,
// md5:… or adler32:…, or nothing.
func newChecker(w io.Writer, checksum string) (*checker, error) {
	c := &checker{w: w, sum: sha256.New()}
	if checksum == "" {
		return c, nil
	}
	name, want, ok := strings.Cut(checksum, ":")
	if !ok {
		return nil, fmt.Errorf("%w: checksum %q: want sha256:, sha512:, md5: or adler32: before it", ErrUnsupported, checksum)
	}
	c.name, c.want = name, strings.ToLower(want)
	h, err := NewHash(name)
	if err != nil {
		return nil, fmt.Errorf("checksum %q: %w", checksum, err)
	}
	if c.other = h; name == "sha256" {
		c.other = c.sum
	}
	if len(c.want) != 2*c.other.Size() {
		return nil, fmt.Errorf("%w: checksum %q: %s has %d hexadecimal digits", ErrUnsupported, checksum, name, 2*c.other.Size())
	}
	return c, nil
}

// NewHash returns the hash that a checksum's name means, or ErrUnsupported.
func NewHash(name string) (hash.Hash, error) {
	switch name {
	case "sha256":
		return sha256.New(), nil
	case "sha512":
		return sha512.New(), nil
	case "md5":
		return md5.New(), nil //nolint:gosec // see the import
	case "adler32":
		return adler32.New(), nil
	}
	return nil, fmt.Errorf("%w: algorithm %q: want sha256, sha512, md5 or adler32", ErrUnsupported, name)
}

func (c *checker) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.size += protocol.ByteSize(n)
	c.sum.Write(b[:n])
	if c.other != nil && c.other != c.sum {
		c.other.Write(b[:n])
	}
	return n, err
}

// digest is the SHA-256 of all that passed.
func (c *checker) digest() protocol.Digest { return protocol.Digest(c.sum.Sum(nil)) }

// compare returns ErrInput when the wanted checksum differs.
func (c *checker) compare() error {
	if c.want == "" {
		return nil
	}
	if got := hex.EncodeToString(c.other.Sum(nil)); got != c.want {
		return fmt.Errorf("%w: %s is %s, want %s (%d bytes came)", ErrInput, c.name, got, c.want, c.size)
	}
	return nil
}

package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest is the SHA-256 of some bytes, and so the name of those bytes.
// The zero value names nothing.
type Digest [sha256.Size]byte

const digestPrefix = "sha256:"

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// IsZero reports whether the digest names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// Hex returns the 64 hexadecimal digits alone, for file names and URLs.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// String returns sha256: and the hexadecimal digits; the empty string for zero.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return digestPrefix + d.Hex()
}

// MarshalText writes String's form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the form ParseDigest reads; empty text is the zero digest.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	v, err := ParseDigest(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// ParseDigest reads 64 hexadecimal digits, with or without sha256: before them.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	text := strings.TrimPrefix(s, digestPrefix)
	if len(text) != 2*len(d) {
		return d, fmt.Errorf("digest %q: want sha256: and 64 hexadecimal digits, got %d", s, len(text))
	}
	if _, err := hex.Decode(d[:], []byte(text)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}

// MarshalCBOR writes the digest as a byte string; an empty one for zero.
func (d Digest) MarshalCBOR() ([]byte, error) {
	if d.IsZero() {
		return []byte{0x40}, nil
	}
	return append([]byte{0x58, sha256.Size}, d[:]...), nil
}

// UnmarshalCBOR reads what MarshalCBOR writes and nothing else.
func (d *Digest) UnmarshalCBOR(b []byte) error {
	switch {
	case len(b) == 1 && b[0] == 0x40:
		*d = Digest{}
	case len(b) == 2+sha256.Size && b[0] == 0x58 && b[1] == sha256.Size:
		copy(d[:], b[2:])
	default:
		return fmt.Errorf("digest: want a byte string of 0 or %d bytes", sha256.Size)
	}
	return nil
}

package cache

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"floe/protocol"

	"github.com/minio/sha256-simd"
)

// Manifest lists what a tree holds, sorted by path.
type Manifest struct {
	Files []ManifestFile `cbor:"1,keyasint"`
}

// ManifestFile is one file, link or directory of a tree.
type ManifestFile struct {
	// Path is relative to the root, in whatever encoding the archive has.
	Path []byte `cbor:"1,keyasint"`
	// Mode holds the type and permission bits of fs.FileMode.
	Mode uint32            `cbor:"2,keyasint"`
	Size protocol.ByteSize `cbor:"3,keyasint,omitempty"`
	// Sum is the XXH64 of a file. It finds what a disk or a careless program damages;
	// who could forge it could forge the manifest, too. What the files are was decided
	// by the SHA-256 of the tarball when they were written.
	Sum  uint64 `cbor:"4,keyasint,omitempty"`
	Link []byte `cbor:"5,keyasint,omitempty"`
}

// equal tells whether two entries say the same.
func (f *ManifestFile) equal(g *ManifestFile) bool {
	return string(f.Path) == string(g.Path) && f.Mode == g.Mode && f.Size == g.Size && f.Sum == g.Sum && string(f.Link) == string(g.Link)
}

// about is what there is to know of a tree without reading its manifest.
type about struct {
	Tarball protocol.Digest `cbor:"1,keyasint"`
	// Manifest is the digest of the manifest's file.
	Manifest protocol.Digest `cbor:"2,keyasint"`
	// Bytes are those of the files, Disk what the tree takes.
	Bytes protocol.ByteSize `cbor:"3,keyasint"`
	Disk  protocol.ByteSize `cbor:"4,keyasint"`
	Files int               `cbor:"5,keyasint"`
}

// checked says that all of a tree was hashed under a boot of a node, and what stat
// said of its files then.
type checked struct {
	Boot string          `cbor:"1,keyasint"`
	Stat protocol.Digest `cbor:"2,keyasint"`
}

const (
	aboutName    = "about"
	manifestName = "manifest"
	rootName     = "root"
	scrubbedName = "scrubbed"
)

// writeSealed writes deterministic CBOR followed by its own SHA-256 (32 bytes).
func writeSealed(path string, v any) (protocol.Digest, error) {
	b, err := protocol.Marshal(v)
	if err != nil {
		return protocol.Digest{}, err
	}
	sum := protocol.Digest(sha256.Sum256(b))
	// Beside and renamed: others may be reading what was there.
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, append(b, sum[:]...), 0o600); err != nil {
		return sum, err
	}
	return sum, os.Rename(temporary, path)
}

// readSealed reads what writeSealed wrote; anything else is ErrMismatch.
func readSealed(path string, v any) (protocol.Digest, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return protocol.Digest{}, err
	}
	return unseal(b, v)
}

func unseal(b []byte, v any) (protocol.Digest, error) {
	n := len(b) - sha256.Size
	if n < 0 {
		return protocol.Digest{}, fmt.Errorf("%w: %d bytes", ErrMismatch, len(b))
	}
	sum := protocol.Digest(sha256.Sum256(b[:n]))
	if sum != protocol.Digest(b[n:]) {
		return sum, fmt.Errorf("%w: its seal is broken", ErrMismatch)
	}
	if err := protocol.Unmarshal(b[:n], v); err != nil {
		return sum, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	return sum, nil
}

func readAbout(path string) (*about, fs.FileInfo, error) {
	a := new(about)
	if _, err := readSealed(path, a); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", aboutName, err)
	}
	info, err := os.Stat(path)
	return a, info, err
}

// readManifest reads the manifest that about names.
func readManifest(tree string, a *about) (*Manifest, error) {
	m := new(Manifest)
	sum, err := readSealed(filepath.Join(tree, manifestName), m)
	if err == nil && (sum != a.Manifest || len(m.Files) != a.Files) {
		err = fmt.Errorf("%w: it is another tree's", ErrMismatch)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

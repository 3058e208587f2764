package cache

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"floe/protocol"

	"github.com/minio/sha256-simd"
)

// Manifest lists what a tree holds. On disk it is deterministic CBOR followed by
// its own SHA-256 (32 bytes).
type Manifest struct {
	Tarball protocol.Digest   `cbor:"1,keyasint"`
	Bytes   protocol.ByteSize `cbor:"2,keyasint"`
	Files   []ManifestFile    `cbor:"3,keyasint"`
}

// ManifestFile is one file, link or directory of a tree.
type ManifestFile struct {
	Path string `cbor:"1,keyasint"`
	// Mode holds the type and permission bits of fs.FileMode.
	Mode   uint32            `cbor:"2,keyasint"`
	Size   protocol.ByteSize `cbor:"3,keyasint,omitempty"`
	Digest protocol.Digest   `cbor:"4,keyasint,omitempty"`
	Link   string            `cbor:"5,keyasint,omitempty"`
}

const manifestName = "manifest"

// writeManifest seals a manifest beside the tree's root.
func writeManifest(tree string, m *Manifest) error {
	b, err := protocol.Marshal(m)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	f, err := os.OpenFile(filepath.Join(tree, manifestName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(b, sum[:]...)); err != nil {
		return err
	}
	return f.Sync()
}

// readManifest reads a sealed manifest; a damaged one is ErrMismatch.
func readManifest(tree string) (*Manifest, error) {
	b, err := os.ReadFile(filepath.Join(tree, manifestName))
	if err != nil {
		return nil, err
	}
	return decodeManifest(b)
}

func decodeManifest(b []byte) (*Manifest, error) {
	n := len(b) - sha256.Size
	if n < 0 || sha256.Sum256(b[:n]) != [sha256.Size]byte(b[n:]) {
		return nil, fmt.Errorf("manifest: %w", ErrMismatch)
	}
	m := new(Manifest)
	if err := protocol.Unmarshal(b[:n], m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// scan lists a tree's root as a manifest would, hashing every file.
func scan(root string) ([]ManifestFile, protocol.ByteSize, error) {
	var files []ManifestFile
	var total protocol.ByteSize
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := ManifestFile{Path: filepath.ToSlash(rel), Mode: uint32(info.Mode())}
		switch {
		case info.Mode().IsRegular():
			f.Size = protocol.ByteSize(info.Size())
			if f.Digest, err = hashFile(path); err != nil {
				return err
			}
			total += f.Size
		case info.Mode()&fs.ModeSymlink != 0:
			if f.Link, err = os.Readlink(path); err != nil {
				return err
			}
		case !info.IsDir():
			return fmt.Errorf("%s: neither file, directory nor link", rel)
		}
		files = append(files, f)
		return nil
	})
	slices.SortFunc(files, func(a, b ManifestFile) int { return strings.Compare(a.Path, b.Path) })
	return files, total, err
}

func hashFile(path string) (protocol.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return protocol.Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return protocol.Digest{}, err
	}
	return protocol.Digest(h.Sum(nil)), nil
}

// verify compares a tree with its manifest, every byte of it.
func (m *Manifest) verify(root string) error {
	found, _, err := scan(root)
	if err != nil {
		return err
	}
	if len(found) != len(m.Files) {
		return fmt.Errorf("%w: %d files instead of %d", ErrMismatch, len(found), len(m.Files))
	}
	for i, f := range found {
		if f != m.Files[i] {
			return fmt.Errorf("%w: %s differs from the manifest", ErrMismatch, f.Path)
		}
	}
	return nil
}

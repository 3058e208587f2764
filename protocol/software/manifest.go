package software

import (
	"fmt"
	"path/filepath"

	"floe/protocol"
)

// FileKind is what a member of a tarball is.
type FileKind uint8

// The kinds. The numbers are part of manifests.
const (
	Plain   FileKind = iota + 1 // a file
	Program                     // a file that may be executed
	Folder
	Link
)

var fileKinds = [...]string{"", "file", "program", "directory", "link"}

func (k FileKind) String() string {
	if k == 0 || int(k) >= len(fileKinds) {
		return fmt.Sprintf("invalid kind %d", uint8(k))
	}
	return fileKinds[k]
}

// MarshalText writes the kind's word.
func (k FileKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Manifest lists what a tarball unpacks to, sorted by path. Its form, whose digest
// the publisher signs, is deterministic CBOR.
type Manifest struct {
	Files []File `cbor:"1,keyasint" json:"files"`
}

// File is one member.
type File struct {
	Path   string            `cbor:"1,keyasint" json:"path"`
	Kind   FileKind          `cbor:"2,keyasint" json:"kind"`
	Size   protocol.ByteSize `cbor:"3,keyasint,omitempty" json:"size,omitempty"`
	Digest protocol.Digest   `cbor:"4,keyasint" json:"digest,omitzero"`
	Target string            `cbor:"5,keyasint,omitempty" json:"target,omitempty"`
}

// MaxManifest is the largest manifest, in bytes: that of as many files as a tarball
// may hold.
const MaxManifest = 64 << 20

// Encode writes a manifest.
func (m *Manifest) Encode() ([]byte, error) { return protocol.Marshal(m) }

// DecodeManifest reads a manifest and refuses one that no tarball has.
func DecodeManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("manifest: %d bytes, at most %d", len(b), MaxManifest)
	}
	m := new(Manifest)
	if err := protocol.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	last := ""
	for i := range m.Files {
		f := &m.Files[i]
		switch {
		case f.Path <= last || !filepath.IsLocal(f.Path):
			return nil, fmt.Errorf("manifest: %.100q: paths must be sorted and stay inside", f.Path)
		case f.Kind == 0 || int(f.Kind) >= len(fileKinds) || f.Size < 0:
			return nil, fmt.Errorf("manifest: %.100q: %v of %d bytes", f.Path, f.Kind, f.Size)
		}
		last = f.Path
	}
	return m, nil
}

// Totals counts what is not a directory, and the bytes of all files.
func (m *Manifest) Totals() (files uint32, unpacked protocol.ByteSize) {
	for i := range m.Files {
		if f := &m.Files[i]; f.Kind != Folder {
			files++
			unpacked += f.Size
		}
	}
	return files, unpacked
}

// Differences lists where what was found is not what a manifest says, at most limit
// of them.
func (m *Manifest) Differences(found *Manifest, limit int) (lines []string) {
	say := func(f *File, what string) {
		if len(lines) < limit {
			lines = append(lines, fmt.Sprintf("%s: %s", f.Path, what))
		}
	}
	i, k := 0, 0
	for i < len(m.Files) || k < len(found.Files) {
		switch {
		case k == len(found.Files) || i < len(m.Files) && m.Files[i].Path < found.Files[k].Path:
			say(&m.Files[i], "is missing")
			i++
		case i == len(m.Files) || found.Files[k].Path < m.Files[i].Path:
			say(&found.Files[k], "is not in the manifest")
			k++
		default:
			if m.Files[i] != found.Files[k] {
				say(&found.Files[k], "differs from the manifest")
			}
			i, k = i+1, k+1
		}
	}
	return lines
}

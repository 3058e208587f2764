package coordinator

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"floe/coordinator/blob"
	"floe/coordinator/history"
	"floe/coordinator/state"
	"floe/protocol"
)

// A backup is a tar stream:
//
//	record/state            the chain, then the record as snapshots hold it
//	history/journal.db      the newest history
//	history/sealed/HEX      older history
//	blobs/HEX               durable files, and outputs that the coordinators store
//	keys/root.pem           the cluster's root certificate
//	manifest.json           Manifest; last, so that a stream that was cut has none
//
// Record and history are those of one log index. No secret is in it: a backup may lie
// where the coordinators' keys may not. Nor are logs and files between tasks.
const (
	backupFormat   = 1
	backupState    = "record/state"
	backupJournal  = "history/journal.db"
	backupSealed   = "history/sealed/"
	backupBlobs    = "blobs/"
	backupRoot     = "keys/root.pem"
	backupManifest = "manifest.json"
)

// Manifest says what a backup holds.
type Manifest struct {
	Format  int             `json:"format"`
	Cluster string          `json:"cluster"`
	Node    protocol.NodeID `json:"node"` // whose copy it is
	Version string          `json:"version"`
	Made    time.Time       `json:"made"`
	// Index is the log index of record and history.
	Index uint64 `json:"index"`
	// Record is the digest of the record, History that of the ledger's contents.
	Record  protocol.Digest `json:"record"`
	History protocol.Digest `json:"history"`
	Files   []ManifestFile  `json:"files"`
	Blobs   []ManifestBlob  `json:"blobs"`
}

// ManifestFile is one file of a backup.
type ManifestFile struct {
	Name   string            `json:"name"`
	Size   protocol.ByteSize `json:"size"`
	Digest protocol.Digest   `json:"digest"`
}

// ManifestBlob is one reference to a stored file.
type ManifestBlob struct {
	Digest protocol.Digest `json:"digest"`
	Class  string          `json:"class"`
	Owner  string          `json:"owner"`
	Added  time.Time       `json:"added"`
}

// backup writes a backup of this coordinator to w.
func (n *node) backup(ctx context.Context, w io.Writer) error {
	dir, err := os.MkdirTemp(n.config.Dir, "backup-*")
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &backupWriter{tar: tar.NewWriter(w), manifest: Manifest{
		Format: backupFormat, Cluster: n.cluster.Name(), Node: n.cluster.Node(), Version: protocol.Version, Made: time.Now().UTC(),
	}}
	seals, err := n.stage(ctx, dir, &b.manifest)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	for _, f := range []struct{ name, path string }{
		{backupState, filepath.Join(dir, "state")},
		{backupJournal, filepath.Join(dir, "journal")},
		{backupRoot, filepath.Join(KeysDir(n.config.Dir), "root.pem")},
	} {
		if err := b.path(f.name, f.path); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
	}
	for _, s := range seals {
		f, err := n.ledger.OpenSeal(s)
		if err == nil {
			err = errors.Join(b.file(backupSealed+s.Digest.Hex(), f), f.Close())
		}
		if err != nil {
			return fmt.Errorf("backup: history file %v: %w", s.Digest, err)
		}
	}
	for _, class := range []blob.Class{blob.Durable, blob.Output} {
		if err := n.backupBlobs(ctx, b, class); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
	}
	text, err := json.MarshalIndent(&b.manifest, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(b.put(backupManifest, int64(len(text)), bytes.NewReader(text)), b.tar.Close())
}

// stage writes record and journal, of one log index, to files in dir. Entries wait
// while the ledger catches up with the record, for as long as one of its commits
// takes; copying is done while they go on.
func (n *node) stage(ctx context.Context, dir string, m *Manifest) ([]history.Seal, error) {
	n.machine.mu.Lock()
	frozen, c := n.machine.state.Snapshot(), n.machine.chain
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	still, err := n.ledger.Still(limited, frozen.Index())
	cancel()
	n.machine.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer still.Close()
	m.Index = frozen.Index()
	if still.Applied != m.Index {
		return nil, fmt.Errorf("history is at %d, the record at %d", still.Applied, m.Index)
	}
	if m.History, err = still.Digest(); err != nil {
		return nil, err
	}
	if err := writeTo(filepath.Join(dir, "journal"), func(w io.Writer) error {
		_, err := still.WriteTo(w)
		return err
	}); err != nil {
		return nil, err
	}
	m.Record = frozen.Digest()
	return still.Seals, writeTo(filepath.Join(dir, "state"), func(w io.Writer) error {
		if _, err := w.Write(c[:]); err != nil {
			return err
		}
		return frozen.Persist(w)
	})
}

func writeTo(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Sync(), f.Close())
}

// backupBlobs writes the files of a class, each once, and its references.
func (n *node) backupBlobs(ctx context.Context, b *backupWriter, class blob.Class) error {
	cursor := ""
	for {
		infos, next, err := n.blobs.List(class, cursor, 1000)
		if err != nil {
			return err
		}
		for _, i := range infos {
			if err := ctx.Err(); err != nil {
				return err
			}
			b.manifest.Blobs = append(b.manifest.Blobs, ManifestBlob{Digest: i.Digest, Class: class.String(), Owner: i.Owner, Added: i.Added.UTC()})
			if b.has(backupBlobs + i.Digest.Hex()) {
				continue
			}
			body, _, err := n.server.OpenBlob(ctx, i.Digest)
			if err != nil {
				return fmt.Errorf("file %v of %s: %w", i.Digest, i.Owner, err)
			}
			err = errors.Join(b.put(backupBlobs+i.Digest.Hex(), int64(i.Size), body), body.Close())
			if err != nil {
				return err
			}
		}
		if cursor = next; cursor == "" {
			return nil
		}
	}
}

// backupWriter writes the files of a backup and notes them.
type backupWriter struct {
	tar      *tar.Writer
	manifest Manifest
	names    map[string]bool
}

func (b *backupWriter) has(name string) bool { return b.names[name] }

func (b *backupWriter) path(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(b.file(name, f), f.Close())
}

func (b *backupWriter) file(name string, f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	return b.put(name, fi.Size(), f)
}

func (b *backupWriter) put(name string, size int64, r io.Reader) error {
	if err := b.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, Format: tar.FormatPAX}); err != nil {
		return err
	}
	h := sha256.New()
	if n, err := io.Copy(io.MultiWriter(b.tar, h), r); err != nil || n != size {
		return fmt.Errorf("%s: %d bytes of %d: %w", name, n, size, errors.Join(err, b.tar.Flush()))
	}
	f := ManifestFile{Name: name, Size: protocol.ByteSize(size)}
	h.Sum(f.Digest[:0])
	b.manifest.Files = append(b.manifest.Files, f)
	if b.names == nil {
		b.names = map[string]bool{}
	}
	b.names[name] = true
	return nil
}

// ErrBackup means that a backup is damaged, incomplete, or of an unknown format.
var ErrBackup = errors.New("backup cannot be used")

// backupNames are all names that a backup may have: none leads out of a directory.
var backupNames = regexp.MustCompile(`^(record/state|history/journal\.db|history/sealed/[0-9a-f]{64}|blobs/[0-9a-f]{64}|keys/root\.pem)$`)

// maxManifest bounds the manifest that is read: some millions of files.
const maxManifest = 1 << 30

// ReadBackup reads a backup to its end, gives put each file as it comes, and
// verifies that all are there as the manifest says. put must read what it wants;
// until ReadBackup has returned nil, nothing it was given may be trusted. Errors:
// ErrBackup.
func ReadBackup(r io.Reader, put func(name string, r io.Reader) error) (*Manifest, error) {
	t := tar.NewReader(r)
	seen := map[string]ManifestFile{}
	for {
		h, err := t.Next()
		if err != nil {
			return nil, fmt.Errorf("%w: it ends without its manifest: %w", ErrBackup, err)
		}
		if h.Name == backupManifest {
			m, err := readManifest(t, seen)
			if err != nil {
				return nil, err
			}
			if _, err := t.Next(); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("%w: it goes on after its manifest", ErrBackup)
			}
			return m, nil
		}
		if _, twice := seen[h.Name]; twice || h.Typeflag != tar.TypeReg || !backupNames.MatchString(h.Name) {
			return nil, fmt.Errorf("%w: it holds %q, which no backup does, or twice", ErrBackup, h.Name)
		}
		hash := sha256.New()
		tee := io.TeeReader(t, hash)
		if err := put(h.Name, tee); errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: it ends within %s", ErrBackup, h.Name)
		} else if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, tee); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBackup, h.Name, err)
		}
		f := ManifestFile{Name: h.Name, Size: protocol.ByteSize(h.Size)}
		hash.Sum(f.Digest[:0])
		seen[h.Name] = f
	}
}

func readManifest(r io.Reader, seen map[string]ManifestFile) (*Manifest, error) {
	m := new(Manifest)
	if err := json.NewDecoder(io.LimitReader(r, maxManifest)).Decode(m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrBackup, err)
	}
	if m.Format != backupFormat {
		return nil, fmt.Errorf("%w: it is of format %d, this build reads %d", ErrBackup, m.Format, backupFormat)
	}
	for _, f := range m.Files {
		if got := seen[f.Name]; got != f {
			return nil, fmt.Errorf("%w: %s has %d bytes and digest %v, want %d and %v", ErrBackup, f.Name, got.Size, got.Digest, f.Size, f.Digest)
		}
		delete(seen, f.Name)
	}
	for name := range seen {
		return nil, fmt.Errorf("%w: %s is not in its manifest", ErrBackup, name)
	}
	return m, nil
}

// readState reads the record of a backup.
func readState(r io.Reader) (c chain, m *state.Machine, err error) {
	m = state.New()
	if _, err := io.ReadFull(r, c[:]); err != nil {
		return c, nil, fmt.Errorf("%w: record: %w", ErrBackup, err)
	}
	if err := m.Restore(r); err != nil {
		return c, nil, fmt.Errorf("%w: record: %w", ErrBackup, err)
	}
	return c, m, nil
}

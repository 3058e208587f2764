package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"floe/protocol"

	"github.com/cespare/xxhash/v2"
	"github.com/minio/sha256-simd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A sample of a tree's files is hashed for every new process, at random: a part of
// them, and no more bytes than can be hashed while the files are looked at.
const (
	samplePart  = 100
	sampleLeast = 16
	sampleBytes = 16 * protocol.MB
)

// warmTree is a tree that this process has verified.
type warmTree struct {
	about fs.FileInfo // of the file that users lock; another one is another tree
	size  protocol.ByteSize
}

func (s *Store) forget(d protocol.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.warm, d)
}

// isWarm tells whether this process has verified the tree behind a lock.
func (s *Store) isWarm(d protocol.Digest, info fs.FileInfo) (protocol.ByteSize, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.warm[d]
	return w.size, ok && os.SameFile(w.about, info)
}

func (s *Store) setWarm(d protocol.Digest, info fs.FileInfo, size protocol.ByteSize) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm[d] = warmTree{info, size}
}

// verifyTree checks a tree as much as this process must.
func (s *Store) verifyTree(ctx context.Context, d protocol.Digest, f *locked) (protocol.ByteSize, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if size, ok := s.isWarm(d, info); ok {
		return size, nil
	}
	a, m, err := s.readTree(d)
	if err != nil {
		return 0, err
	}
	if err := s.again(ctx, s.treePath(d), m); err != nil {
		return 0, err
	}
	s.setWarm(d, info, a.Bytes)
	return a.Bytes, nil
}

// readTree reads what a tree says of itself.
func (s *Store) readTree(d protocol.Digest) (*about, *Manifest, error) {
	tree := s.treePath(d)
	a, _, err := readAbout(filepath.Join(tree, aboutName))
	if err != nil {
		return nil, nil, err
	}
	if a.Tarball != d {
		return nil, nil, fmt.Errorf("%w: the tree is that of %v", ErrMismatch, a.Tarball)
	}
	m, err := readManifest(tree, a)
	return a, m, err
}

// again checks a tree that an earlier process has made or checked.
func (s *Store) again(ctx context.Context, tree string, m *Manifest) error {
	boot := bootID()
	var then checked
	_, err := readSealed(checkedPath(tree, boot), &then)
	if err == nil && boot != "" && then.Boot == boot {
		now, err := m.stat(ctx, filepath.Join(tree, rootName))
		if err == nil && now == then.Stat {
			return m.hash(ctx, filepath.Join(tree, rootName), m.sample())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.logger.Info("a tree was touched since it was checked; hashing all of it", "path", tree)
	}
	return m.verify(ctx, tree)
}

// verify compares a tree with its manifest, every byte of it, and notes that.
func (m *Manifest) verify(ctx context.Context, tree string) error {
	all := make([]int, len(m.Files))
	for i := range all {
		all[i] = i
	}
	return m.verifyBy(ctx, tree, func(root string) error { return m.hash(ctx, root, all) })
}

// verifyBy is verify by a way to hash all files.
func (m *Manifest) verifyBy(ctx context.Context, tree string, hash func(root string) error) error {
	root := filepath.Join(tree, rootName)
	before, err := m.stat(ctx, root)
	if err != nil {
		return err
	}
	if err := m.complete(root); err != nil {
		return err
	}
	if err := hash(root); err != nil {
		return err
	}
	after, err := m.stat(ctx, root)
	if err == nil && before != after {
		err = fmt.Errorf("%w: it changes while it is read", ErrMismatch)
	}
	if err == nil {
		note(tree, after)
	}
	return err
}

// note writes down that all of a tree was hashed. Without it the next process hashes
// all of it once more.
func note(tree string, stat protocol.Digest) {
	if boot := bootID(); boot != "" {
		forgetBoots(tree)
		_, _ = writeSealed(checkedPath(tree, boot), &checked{boot, stat})
	}
	_ = os.WriteFile(filepath.Join(tree, scrubbedName), nil, 0o600)
	now := time.Now()
	_ = os.Chtimes(filepath.Join(tree, scrubbedName), now, now)
}

// rememberBoots is for how long what was checked under a boot is kept.
const rememberBoots = 60 * 24 * time.Hour

func forgetBoots(tree string) {
	notes, _ := filepath.Glob(checkedPath(tree, "*")) // the pattern is well formed
	for _, path := range notes {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > rememberBoots {
			_ = os.Remove(path) // the next one tries again
		}
	}
}

func checkedPath(tree, boot string) string { return filepath.Join(tree, "checked-"+boot) }

// bootID names this boot of this node; empty where that is not known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	id := strings.TrimSpace(string(b))
	if strings.ContainsAny(id, "/*?[") {
		return ""
	}
	return id
}

// parallel runs do for ranges of n things, several at once. On a file system of the
// network it is waiting that takes the time, not the processor.
func parallel(ctx context.Context, n int, do func(from, to int) error) error {
	const most = 256
	g, going := errgroup.WithContext(ctx)
	g.SetLimit(max(8, 2*runtime.GOMAXPROCS(0)))
	step := max(1, min(most, n/(4*runtime.GOMAXPROCS(0))))
	for from := 0; from < n; from += step {
		g.Go(func() error {
			if err := going.Err(); err != nil {
				return err
			}
			return do(from, min(from+step, n))
		})
	}
	return g.Wait()
}

// statBytes is what of a file's stat goes into the digest: mode, size, inode, times.
const statBytes = 2*4 + 6*8

// stat is a digest of what stat says of every file that is listed. A file or
// directory that was written, replaced, added or removed changes it.
func (m *Manifest) stat(ctx context.Context, root string) (protocol.Digest, error) {
	all := make([]byte, statBytes*len(m.Files))
	err := parallel(ctx, len(m.Files), func(from, to int) error {
		var st unix.Stat_t
		path := append([]byte(root), '/')
		for i := from; i < to; i++ {
			path = append(path[:len(root)+1], m.Files[i].Path...)
			if err := unix.Lstat(string(path), &st); err != nil {
				return fmt.Errorf("%w: %s: %w", ErrMismatch, m.Files[i].Path, err)
			}
			b := all[i*statBytes : i*statBytes : (i+1)*statBytes]
			b = binary.LittleEndian.AppendUint32(b, st.Mode)
			b = binary.LittleEndian.AppendUint32(b, st.Uid)
			for _, v := range [...]int64{st.Size, int64(st.Ino), st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec} {
				b = binary.LittleEndian.AppendUint64(b, uint64(v))
			}
		}
		return nil
	})
	return protocol.Digest(sha256.Sum256(all)), err
}

// sample draws files to be hashed.
func (m *Manifest) sample() []int {
	var drawn []int
	var total protocol.ByteSize
	want := max(sampleLeast, len(m.Files)/samplePart)
	for _, i := range rand.Perm(len(m.Files)) {
		if len(drawn) == want {
			break
		}
		if total+m.Files[i].Size > sampleBytes {
			continue
		}
		total += m.Files[i].Size
		drawn = append(drawn, i)
	}
	return drawn
}

// hash compares the listed files with what they should be.
func (m *Manifest) hash(ctx context.Context, root string, files []int) error {
	return parallel(ctx, len(files), func(from, to int) error {
		for _, i := range files[from:to] {
			if err := ctx.Err(); err != nil {
				return err
			}
			found, err := describe(ctx, root, string(m.Files[i].Path))
			if err != nil {
				return err
			}
			if !found.equal(&m.Files[i]) {
				return fmt.Errorf("%w: %s differs from the manifest", ErrMismatch, m.Files[i].Path)
			}
		}
		return nil
	})
}

// describe lists one file as a manifest does.
func describe(ctx context.Context, root, name string) (f ManifestFile, err error) {
	path := filepath.Join(root, name)
	info, err := os.Lstat(path)
	if err != nil {
		return f, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	f = ManifestFile{Path: []byte(name), Mode: uint32(info.Mode())}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		f.Size = protocol.ByteSize(info.Size())
		f.Sum, err = sumFile(ctx, path)
	case mode&fs.ModeSymlink != 0:
		var link string
		link, err = os.Readlink(path)
		f.Link = []byte(link)
	case !mode.IsDir():
		err = fmt.Errorf("%w: %s: neither file, directory nor link", ErrMismatch, name)
	}
	return f, err
}

func sumFile(ctx context.Context, path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := xxhash.New()
	_, err = io.Copy(h, whileWanted{ctx, f})
	return h.Sum64(), err
}

// complete looks for files that are not listed.
func (m *Manifest) complete(root string) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		_, listed := slices.BinarySearchFunc(m.Files, []byte(rel), func(f ManifestFile, want []byte) int { return bytes.Compare(f.Path, want) })
		if !listed {
			return fmt.Errorf("%w: %s is not in the manifest", ErrMismatch, rel)
		}
		return nil
	})
}

// canceled tells whether an error is that somebody no longer waits.
func canceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

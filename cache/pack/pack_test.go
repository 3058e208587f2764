package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"floe/cache"
	"floe/protocol"
	"floe/protocol/software"

	"github.com/google/go-cmp/cmp"
)

// tree makes a software environment; the order in which its files are made is that
// of names.
func tree(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	content := map[string]string{
		"bin/run": "#!/bin/sh\necho hello\n", "lib/data": strings.Repeat("0123456789 and so on\n", 10_000), "lib/python/m.py": "x = 1\n", "empty": "",
	}
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content[name]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "bin/run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../lib/data", filepath.Join(dir, "bin/data")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func packed(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Directory(context.Background(), dir, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// golden is the digest of the tree. It changes with the compressor: then the same
// directory, published again by a newer floe, is other bytes, and CHANGELOG.md says so.
const golden = "sha256:b69648d36cb5a017d8023fe3d07295bc5ea3c6d5180fb50d3569d0b8c35f1c65"

// The same names and contents give the same bytes, on whatever machine and however
// they came there.
func TestSameDirectorySameBytes(t *testing.T) {
	a := tree(t, "bin/run", "lib/data", "lib/python/m.py", "empty")
	b := tree(t, "empty", "lib/python/m.py", "lib/data", "bin/run")
	if err := os.Chtimes(filepath.Join(b, "lib/data"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"bin/run": 0o500 | os.ModeSetuid, "lib/data": 0o600, "lib": 0o700} {
		if err := os.Chmod(filepath.Join(b, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	first, second := packed(t, a), packed(t, b)
	if !bytes.Equal(first, second) {
		t.Errorf("two directories of the same files give %v and %v", protocol.DigestOf(first), protocol.DigestOf(second))
	}
	if got := protocol.DigestOf(first).String(); got != golden {
		t.Errorf("packed as %s, want %s", got, golden)
	}
	if err := os.Chmod(filepath.Join(b, "bin/run"), 0o644); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, packed(t, b)) {
		t.Error("whether a file may be executed makes no difference")
	}
}

func TestInspect(t *testing.T) {
	b := packed(t, tree(t, "bin/run", "lib/data", "lib/python/m.py", "empty"))
	got, err := Inspect(context.Background(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	digest := func(s string) protocol.Digest { return protocol.DigestOf([]byte(s)) }
	want := &Contents{
		Digest: protocol.DigestOf(b), Size: protocol.ByteSize(len(b)), Files: 5, Unpacked: 210_027,
		Manifest: software.Manifest{Files: []software.File{
			{Path: "bin", Kind: software.Folder},
			{Path: "bin/data", Kind: software.Link, Target: "../lib/data"},
			{Path: "bin/run", Kind: software.Program, Size: 21, Digest: digest("#!/bin/sh\necho hello\n")},
			{Path: "empty", Kind: software.Plain, Digest: digest("")},
			{Path: "lib", Kind: software.Folder},
			{Path: "lib/data", Kind: software.Plain, Size: 210_000, Digest: digest(strings.Repeat("0123456789 and so on\n", 10_000))},
			{Path: "lib/python", Kind: software.Folder},
			{Path: "lib/python/m.py", Kind: software.Plain, Size: 6, Digest: digest("x = 1\n")},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Inspect (-want +got):\n%s", diff)
	}
	text, err := got.Manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := software.DecodeManifest(text)
	if err != nil || len(again.Differences(&want.Manifest, 9)) != 0 {
		t.Errorf("the manifest comes back as %+v, %v", again, err)
	}
	again.Files = append(again.Files[1:], software.File{Path: "new", Kind: software.Plain})
	again.Files[1].Kind = software.Plain
	if diff := cmp.Diff([]string{"bin: is not in the manifest", "bin/run: differs from the manifest", "new: is missing"}, again.Differences(&want.Manifest, 9)); diff != "" {
		t.Errorf("Differences (-want +got):\n%s", diff)
	}
	// Bytes behind the archive are nobody's, but they are part of its digest.
	longer, err := Inspect(context.Background(), bytes.NewReader(append(bytes.Clone(b), 0, 0, 0)))
	if err == nil && (longer.Digest == got.Digest || longer.Size != got.Size+3) {
		t.Errorf("with three bytes more: %v, %d bytes", longer.Digest, longer.Size)
	}
}

func TestWhatIsNotPacked(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"which is not packed": func(dir string) error { return os.Symlink("../../etc/passwd", filepath.Join(dir, "lib/out")) },
		"a link to /etc":      func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "etc")) },
		"a FIFO":              func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600) },
	} {
		dir := tree(t, "bin/run", "lib/data")
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if err := Directory(context.Background(), dir, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Directory = %v, want an error with %q", err, name)
		}
	}
	if err := Directory(context.Background(), t.TempDir(), &bytes.Buffer{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty directory: %v, want ErrEmpty", err)
	}
}

// What a node refuses to unpack cannot be published.
func TestInspectRefusesWhatNodesRefuse(t *testing.T) {
	for name, h := range map[string]*tar.Header{
		"leads outside":  {Name: "../evil", Typeflag: tar.TypeReg, Mode: 0o644},
		"hard link":      {Name: "hard", Linkname: "a", Typeflag: tar.TypeLink},
		"device":         {Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		"absolute link":  {Name: "l", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink},
		"deep directory": {Name: strings.Repeat("d/", 60) + "f", Typeflag: tar.TypeReg},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(h), w.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(context.Background(), &b); !errors.Is(err, cache.ErrArchive) {
			t.Errorf("%s: Inspect = %v, want ErrArchive", name, err)
		}
	}
}

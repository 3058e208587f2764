package cache_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/cache"
	"floe/protocol"

	"github.com/klauspost/compress/zstd"
)

// header is the raw block of a member, of a type that no honest writer makes.
func header(t *testing.T, name string, kind byte, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size, Mode: 0o600, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	block := b.Bytes()[:512]
	block[156] = kind
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

func padded(b string) []byte { return append([]byte(b), make([]byte, (512-len(b)%512)%512)...) }

// record is a line of a PAX header.
func record(key, value string) string {
	for n := len(key) + len(value) + 4; ; n++ {
		if line := fmt.Sprintf("%d %s=%s\n", n, key, value); len(line) == n {
			return line
		}
	}
}

func TestHostileArchivesAreRefused(t *testing.T) {
	archives := map[string][]byte{}
	for name, members := range map[string][]member{
		"parent":          {{name: "../evil", body: "x"}},
		"absolute":        {{name: "/etc/evil", body: "x"}},
		"link outside":    {{name: "l", kind: tar.TypeSymlink, link: "../../x"}},
		"absolute link":   {{name: "l", kind: tar.TypeSymlink, link: "/etc"}},
		"hard link":       {{name: "a", body: "x"}, {name: "h", kind: tar.TypeLink, link: "a"}},
		"device":          {{name: "null", kind: tar.TypeChar}},
		"block device":    {{name: "sda", kind: tar.TypeBlock}},
		"fifo":            {{name: "pipe", kind: tar.TypeFifo}},
		"deep":            {{name: strings.Repeat("d/", 60) + "f", body: "x"}},
		"long name":       {{name: strings.Repeat("n", 300), body: "x"}},
		"long path":       {{name: strings.Repeat(strings.Repeat("n", 200)+"/", 6) + "f", body: "x"}},
		"same name twice": {{name: "a", body: "x"}, {name: "a", body: "y"}},
		"behind a link":   {{name: "a/b/l", kind: tar.TypeSymlink, link: "../.."}, {name: "a/b/l/e", kind: tar.TypeSymlink, link: "../../x"}},
		"behind a file":   {{name: "a", body: "x"}, {name: "a/b", body: "y"}},
		"through link":    {{name: "d", kind: tar.TypeSymlink, link: "e"}, {name: "d/../../f", body: "x"}},
		"file over link":  {{name: "l", kind: tar.TypeSymlink, link: "f"}, {name: "l", body: "x"}},
	} {
		archives[name] = tarball(t, members...)
	}
	end := make([]byte, 1024)
	sparse := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "hole") + record("GNU.sparse.realsize", "9000000000")
	archives["sparse"] = bytes.Join([][]byte{header(t, "x", 'x', int64(len(sparse))), padded(sparse), header(t, "hole", '0', 512), padded("1\n8999999999\n0\n"), end}, nil)
	archives["old sparse"] = bytes.Join([][]byte{header(t, "hole", 'S', 0), end}, nil)
	archives["more than there may be"] = header(t, "big", '0', 21_000_000_000)
	archives["negative size"] = header(t, "a", '0', 0)
	copy(archives["negative size"][124:136], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	huge := strings.Repeat("n", 3<<20)
	archives["huge header"] = bytes.Join([][]byte{header(t, "x", 'x', int64(len(huge))), padded(huge), header(t, "a", '0', 0), end}, nil)
	archives["huge long name"] = bytes.Join([][]byte{header(t, "x", 'L', int64(len(huge))), padded(huge), header(t, "a", '0', 0), end}, nil)
	archives["too many members"] = append(bytes.Repeat(header(t, ".", '5', 0), 100_001), end...)
	archives["cut"] = tarball(t, member{name: "a", body: strings.Repeat("x", 2000)})[:700]
	archives["unknown type"] = append(header(t, "a", 'Z', 0), end...)
	archives["no archive"] = []byte("this is no archive at all, whatever its digest says")
	archives["zstd cut"] = compressed(t, bytes.NewReader(tarball(t, member{name: "a", body: strings.Repeat("abc", 10_000)})))
	archives["zstd cut"] = archives["zstd cut"][:len(archives["zstd cut"])-5]
	archives["wide window"] = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00}
	if !testing.Short() {
		zeros := io.MultiReader(bytes.NewReader(header(t, "zeros", '0', 400_000_000)), io.LimitReader(nothing{}, 400_000_000))
		archives["bomb"] = compressed(t, zeros)
	}
	for name, b := range archives {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, 0)
			if e, err := s.Tree(t.Context(), protocol.DigestOf(b), []cache.Source{source(b)}); !errors.Is(err, cache.ErrArchive) && !errors.Is(err, fs.ErrExist) {
				t.Errorf("unpacked to %+v, %v; want ErrArchive", e, err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "t*", "*", "*")); len(left) > 0 {
				t.Errorf("something is left: %v", left)
			}
			if outside, _ := filepath.Glob(filepath.Join(dir, "..", "*")); len(outside) != 1 {
				t.Errorf("something lies outside: %v", outside)
			}
			if st := s.Stats(); st.Quarantined > 0 {
				t.Errorf("stats = %+v", st)
			}
		})
	}
}

// nothing is zeros without end.
type nothing struct{}

func (nothing) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func compressed(t *testing.T, in io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.ReadFrom(in); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestOddNamesAreKept has names that careless programs mix up.
func TestOddNamesAreKept(t *testing.T) {
	b := tarball(t, member{name: "d/xt_mark.h", body: "lower"}, member{name: "d/xt_MARK.h", body: "upper"}, member{name: "D/f", body: "D"},
		member{name: "d/caf\xe9", body: "latin"}, member{name: "d/new\nline", body: "n"}, member{name: "d/a b'\"$", body: "q"}, member{name: "empty/", kind: tar.TypeDir})
	dir := t.TempDir()
	for _, sources := range [][]cache.Source{{source(b)}, nil} {
		e, err := open(t, dir, 0).Tree(t.Context(), protocol.DigestOf(b), sources)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"d/xt_mark.h": "lower", "d/xt_MARK.h": "upper", "D/f": "D", "d/caf\xe9": "latin", "d/new\nline": "n", "d/a b'\"$": "q"} {
			if got, err := os.ReadFile(filepath.Join(e.Path, name)); string(got) != want {
				t.Errorf("%q = %q, %v, want %q", name, got, err, want)
			}
		}
		e.Release()
	}
}

func FuzzTree(f *testing.F) {
	f.Add([]byte("not a tarball"))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0})
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	if b, err := packed([]member{{name: "a/b", body: "x"}, {name: "l", kind: tar.TypeSymlink, link: "a"}}); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		e, err := open(t, dir, protocol.GB).Tree(context.Background(), protocol.DigestOf(b), []cache.Source{source(b)})
		if err != nil {
			return
		}
		e.Release()
		// What was unpacked is what the next process finds.
		e, err = open(t, dir, protocol.GB).Tree(context.Background(), protocol.DigestOf(b), nil)
		if err != nil {
			t.Fatal(err)
		}
		e.Release()
	})
}

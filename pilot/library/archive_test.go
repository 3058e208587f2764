package library

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPackAndUnpack(t *testing.T) {
	for _, s := range suffixes {
		t.Run(s.suffix, func(t *testing.T) {
			if program := map[string]string{".tar.bz2": "bzip2", ".tar.xz": "xz"}[s.suffix]; program != "" {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("no %s on this machine", program)
				}
			}
			p := newPlace(t, map[string]string{"d/a": "one", "d/sub/b": strings.Repeat("two\n", 100_000), "d/.hidden": ""})
			if err := os.Chmod(filepath.Join(p.dir, "d/a"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("sub/b", filepath.Join(p.dir, "d/link")); err != nil {
				t.Fatal(err)
			}
			archive := "out/d" + s.suffix
			got := p.ok("floe.pack", values{"archive": archive, "directory": "d"})
			if got["files"] != 3 || got["bytes"] != 400_003 {
				t.Errorf("statistics = %v", got)
			}
			first := p.read(archive)
			if err := os.Chtimes(filepath.Join(p.dir, "d/a"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			p.ok("floe.pack", values{"archive": archive, "directory": "d", "files": "sub link .hidden a"})
			if p.read(archive) != first {
				t.Error("the same files in another order, at another time, give other bytes")
			}
			got = p.ok("floe.unpack", values{"archive": archive, "directory": "e/f"})
			if got["files"] != 4 {
				t.Errorf("statistics = %v", got)
			}
			if p.read("e/f/a") != "one" || p.read("e/f/link") != p.read("d/sub/b") || !p.has("e/f/.hidden") {
				t.Error("what was unpacked is not what was packed")
			}
			if info, err := os.Stat(filepath.Join(p.dir, "e/f/a")); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("mode = %v, %v; want the owner's alone, executable", info.Mode(), err)
			}
			p.refused("floe.unpack", values{"archive": archive, "directory": "e/f"}, "file exists")
		})
	}
}

// TestArchivesOfOthers unpacks what tar makes where it is installed.
func TestArchivesOfOthers(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar on this machine")
	}
	p := newPlace(t, map[string]string{"d/a": "one", "d/" + strings.Repeat("long/", 30) + "b": "two"})
	for _, format := range []string{"gnu", "pax", "ustar", "v7"} {
		name := "a." + format
		b, err := exec.Command("tar", "-C", p.dir, "--format="+format, "-czf", filepath.Join(p.dir, name), "d/a").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		p.ok("floe.unpack", values{"archive": name, "directory": format})
		if p.read(format+"/d/a") != "one" {
			t.Errorf("%s: wrong file", format)
		}
	}
	p.ok("floe.pack", values{"archive": "ours.tar", "files": "d"})
	if b, err := exec.Command("tar", "-xf", filepath.Join(p.dir, "ours.tar"), "-C", t.TempDir()).CombinedOutput(); err != nil {
		t.Errorf("tar does not read ours: %v: %s", err, b)
	}
}

// TestHostileArchives: nothing outside is made, and nothing that is there changes.
func TestHostileArchives(t *testing.T) {
	type member struct {
		name string
		kind byte
		link string
		mode int64
	}
	for name, tt := range map[string]struct {
		members []member
		want    string
	}{
		"parent":           {[]member{{name: "../evil"}}, "leads outside"},
		"parent, later":    {[]member{{name: "a/../../evil"}}, "leads outside"},
		"absolute":         {[]member{{name: "/etc/evil"}}, "leads outside"},
		"link outside":     {[]member{{name: "l", kind: tar.TypeSymlink, link: "../secret"}}, "leads outside"},
		"absolute link":    {[]member{{name: "l", kind: tar.TypeSymlink, link: "/etc/passwd"}}, "leads outside"},
		"behind a link":    {[]member{{name: "a/b/l", kind: tar.TypeSymlink, link: "../.."}, {name: "a/b/l/e", kind: tar.TypeSymlink, link: "../../secret"}}, "behind a/b/l"},
		"through a link":   {[]member{{name: "l", kind: tar.TypeSymlink, link: "."}, {name: "l/x"}}, "behind l"},
		"hard link":        {[]member{{name: "h", kind: tar.TypeLink, link: "present"}}, "only files"},
		"device":           {[]member{{name: "null", kind: tar.TypeChar}}, "only files"},
		"block device":     {[]member{{name: "sda", kind: tar.TypeBlock}}, "only files"},
		"FIFO":             {[]member{{name: "f", kind: tar.TypeFifo}}, "only files"},
		"overwriting":      {[]member{{name: "present"}}, "file exists"},
		"twice":            {[]member{{name: "a"}, {name: "a"}}, "file exists"},
		"a link, replaced": {[]member{{name: "a", kind: tar.TypeSymlink, link: "present"}, {name: "a"}}, "file exists"},
		"deep":             {[]member{{name: strings.Repeat("d/", 50) + "x"}}, "levels deep"},
		"long":             {[]member{{name: strings.Repeat("n", 300)}}, "300 bytes"},
		"set-uid":          {[]member{{name: "s", mode: 0o6777}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			w := tar.NewWriter(z)
			for _, m := range tt.members {
				h := &tar.Header{Name: m.name, Typeflag: m.kind, Linkname: m.link, Mode: m.mode, Size: 4}
				if m.kind == 0 {
					h.Typeflag = tar.TypeReg
				} else {
					h.Size = 0
				}
				if err := w.WriteHeader(h); err != nil {
					t.Fatal(err)
				}
				if h.Size > 0 {
					if _, err := w.Write([]byte("evil")); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			p := newPlace(t, map[string]string{"a.tgz": b.String()})
			if tt.want == "" {
				p.ok("floe.unpack", values{"archive": "a.tgz"})
				if info, err := os.Stat(filepath.Join(p.dir, "s")); err != nil || info.Mode() != 0o700 {
					t.Errorf("mode = %v, %v", info.Mode(), err)
				}
				return
			}
			p.refused("floe.unpack", values{"archive": "a.tgz"}, tt.want)
			if p.read("present") != "present" {
				t.Error("a file that was there has changed")
			}
			// No link that leads outside was left either.
			if target, err := filepath.EvalSymlinks(filepath.Join(p.dir, "a/b/l/e")); err == nil {
				t.Errorf("a link leads to %s", target)
			}
		})
	}
	damaged := newPlace(t, nil)
	damaged.ok("floe.pack", values{"archive": "a.tgz"})
	b := []byte(damaged.read("a.tgz"))
	b[len(b)-8] ^= 1 // of the CRC-32
	for name, text := range map[string]string{
		"wrong checksum": string(b), "garbage": "this is no archive", "cut": "\x1f\x8b\x08\x00\x00\x00\x00\x00", "cut bzip2": "BZh91AY&SY", "cut xz": "\xfd7zXZ\x00",
	} {
		p := newPlace(t, map[string]string{"a.tar": text})
		if _, _, err := p.run("floe.unpack", values{"archive": "a.tar"}); err == nil {
			t.Errorf("%s was unpacked", name)
		}
	}
	p := newPlace(t, nil)
	p.refused("floe.unpack", values{"archive": "../secret"}, "outside the work directory")
	p.refused("floe.unpack", values{"archive": "present", "directory": "../x"}, "outside the work directory")
	p.refused("floe.unpack", values{"archive": "."}, "want a file")
}

func TestPackRefusesWhatIsNoFile(t *testing.T) {
	p := newPlace(t, map[string]string{"d/a": "x"})
	if err := syscall.Mkfifo(filepath.Join(p.dir, "d/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.refused("floe.pack", values{"archive": "a.tar", "files": "d"}, "d/fifo is a FIFO")
	p.refused("floe.checksum", values{"files": "d/fifo"}, "d/fifo is a FIFO")
	p.refused("floe.merge", values{"files": "d/fifo", "output": "x"}, "d/fifo is a FIFO")
	p.ok("floe.delete", values{"files": "d/fifo"})
	if err := os.Symlink("../../secret", filepath.Join(p.dir, "d/link")); err != nil {
		t.Fatal(err)
	}
	p.refused("floe.pack", values{"archive": "a.tar", "files": "d"}, "is a link to ../../secret")
	if _, _, err := p.run("floe.checksum", values{"files": "d/link"}); err == nil {
		t.Error("a link to outside was read")
	}
	p.ok("floe.delete", values{"files": "d/link"})
	p.refused("floe.pack", values{"archive": "a.zip"}, "want a name that ends with .tar")
	p.refused("floe.pack", values{"archive": "../a.tar"}, "outside the work directory")
	p.refused("floe.pack", values{"archive": "a.tar", "files": "../*"}, "outside the work directory")
	p.refused("floe.pack", values{"archive": "a.tar", "directory": "nowhere"}, "nowhere")
	if p.has("a.tar") || p.has("a.tar.floe-part") {
		t.Error("a tarball was left")
	}
	p.ok("floe.pack", values{"archive": "a.tar"})
	if got := p.ok("floe.pack", values{"archive": "a.tar"}); got["files"] != 2 {
		t.Errorf("a tarball that is there went into the next one: %v", got)
	}
}

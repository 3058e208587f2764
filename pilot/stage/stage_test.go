package stage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"floe/cache"
	"floe/pilot/stage"
	"floe/protocol"
)

var lease = protocol.LeaseID{Index: 0x7f, Ordinal: 1}

func newMover() *stage.Mover { return &stage.Mover{Logger: slog.New(slog.DiscardHandler)} }

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// webServer keeps files in memory; dav says whether it knows MOVE, and damage
// changes what is stored.
type webServer struct {
	mu     sync.Mutex
	files  map[string][]byte
	dav    bool
	damage func([]byte) []byte
}

func (w *webServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		b, ok := w.files[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		_, _ = rw.Write(b)
	case http.MethodPut:
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		if w.damage != nil {
			b = w.damage(b)
		}
		w.files[r.URL.Path] = b
		rw.WriteHeader(http.StatusCreated)
	case "MOVE":
		if !w.dav {
			http.Error(rw, "no", http.StatusMethodNotAllowed)
			return
		}
		if w.files[r.URL.Path] == nil {
			http.NotFound(rw, r)
			return
		}
		to := r.Header.Get("Destination")
		w.files[to[strings.Index(to[8:], "/")+8:]] = w.files[r.URL.Path]
		delete(w.files, r.URL.Path)
		rw.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		delete(w.files, r.URL.Path)
		rw.WriteHeader(http.StatusNoContent)
	}
}

func serve(t *testing.T, w *webServer) string {
	t.Helper()
	w.files = map[string][]byte{}
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	return s.URL
}

func TestOutputIsVerifiedThenPublished(t *testing.T) {
	area := t.TempDir()
	dav, plain := &webServer{dav: true}, &webServer{}
	for name, base := range map[string]string{"file": "file://" + area, "webdav": serve(t, dav), "plain http": serve(t, plain)} {
		dir := t.TempDir()
		write(t, dir, "out/hits.dat", "twelve hits")
		m := newMover()
		record, err := m.Store(t.Context(), stage.Output{Type: protocol.FilePermanent, Name: "hits", Local: "out/hits.dat", URL: base + "/set/hits.dat"}, dir, lease)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if record.Digest != protocol.DigestOf([]byte("twelve hits")) || record.Size != 11 || record.URL != base+"/set/hits.dat.floe-7f-1" {
			t.Errorf("%s: record %+v", name, record)
		}
		// A child that starts between acceptance and publication finds it by either name.
		in := stage.Input{URL: record.URL, Fallback: record.Published, Local: "in.dat", Checksum: record.Digest.String()}
		if _, err := m.Fetch(t.Context(), in, dir); err != nil {
			t.Errorf("%s: before publication: %v", name, err)
		}
		for range 2 {
			if err := m.Publish(t.Context(), record); err != nil {
				t.Fatalf("%s: publish: %v", name, err)
			}
		}
		if _, err := m.Fetch(t.Context(), in, dir); err != nil || read(t, filepath.Join(dir, "in.dat")) != "twelve hits" {
			t.Errorf("%s: after publication: %v", name, err)
		}
		if r, err := m.Open(t.Context(), record.URL); err == nil {
			r.Close()
			t.Errorf("%s: the attempt's name is still there", name)
		}
	}
}

func TestStorageThatDamagesIsCaught(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"cut":   func(b []byte) []byte { return b[:len(b)-1] },
		"flip":  func(b []byte) []byte { b = bytes.Clone(b); b[0] ^= 1; return b },
		"empty": func([]byte) []byte { return nil },
	} {
		base := serve(t, &webServer{damage: damage})
		dir := t.TempDir()
		write(t, dir, "a", "content")
		_, err := newMover().Store(t.Context(), stage.Output{Type: protocol.FilePermanent, Name: "a", Local: "a", URL: base + "/a"}, dir, lease)
		if !errors.Is(err, stage.ErrStorage) {
			t.Errorf("%s: %v, want ErrStorage", name, err)
		}
	}
}

func TestInputMustMatchItsChecksum(t *testing.T) {
	area, dir := t.TempDir(), t.TempDir()
	url := "file://" + write(t, area, "in", "abc")
	for checksum, ok := range map[string]bool{
		"": true,
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad": true,
		"md5:900150983cd24fb0d6963f7d28e17f72":                                    true,
		"adler32:024D0127":                                                        true,
		"adler32:024d0128":                                                        false,
		"md5:900150983cd24fb0d6963f7d28e17f73":                                    false,
	} {
		_, err := newMover().Fetch(t.Context(), stage.Input{URL: url, Local: "sub/in", Checksum: checksum}, dir)
		if ok != (err == nil) || !ok && !errors.Is(err, stage.ErrInput) {
			t.Errorf("checksum %q: %v, want success %v", checksum, err, ok)
		}
		if _, statErr := os.Stat(filepath.Join(dir, "sub/in")); ok != (statErr == nil) {
			t.Errorf("checksum %q: the file's presence is %v", checksum, statErr == nil)
		}
		os.Remove(filepath.Join(dir, "sub/in"))
	}
	for _, bad := range []string{"crc32:00000000", "md5:12", "900150983cd24fb0d6963f7d28e17f72"} {
		if _, err := newMover().Fetch(t.Context(), stage.Input{URL: url, Local: "x", Checksum: bad}, dir); !errors.Is(err, stage.ErrUnsupported) {
			t.Errorf("checksum %q: %v, want ErrUnsupported", bad, err)
		}
	}
}

func TestMissingInput(t *testing.T) {
	dir := t.TempDir()
	m := newMover()
	for _, url := range []string{"file:///nowhere/at/all", serve(t, &webServer{}) + "/none"} {
		if _, err := m.Fetch(t.Context(), stage.Input{URL: url, Local: "x"}, dir); !errors.Is(err, stage.ErrInput) {
			t.Errorf("%s: %v, want ErrInput", url, err)
		}
		if _, err := m.Fetch(t.Context(), stage.Input{URL: url, Local: "x", Optional: true}, dir); err != nil {
			t.Errorf("%s, optional: %v", url, err)
		}
	}
	if _, err := m.Fetch(t.Context(), stage.Input{URL: "http://127.0.0.1:1/x", Local: "x"}, dir); !errors.Is(err, stage.ErrStorage) {
		t.Errorf("nobody listens: %v, want ErrStorage", err)
	}
	for _, url := range []string{"gopher://x/y", "/plain/path", "blob:sha256:00", "file://host/x"} {
		if _, err := m.Fetch(t.Context(), stage.Input{URL: url, Local: "x"}, dir); !errors.Is(err, stage.ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", url, err)
		}
	}
}

// TestPayloadCannotLeadThePilotAstray: what the payload leaves in an output's
// place is taken only if it is a plain file of its own.
func TestPayloadCannotLeadThePilotAstray(t *testing.T) {
	secret := write(t, t.TempDir(), "secret", "pilot's key")
	for name, plant := range map[string]func(path string) error{
		"nothing":   func(string) error { return nil },
		"symlink":   func(p string) error { return os.Symlink(secret, p) },
		"hard link": func(p string) error { return os.Link(secret, p) },
		"fifo":      func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		dir, area := t.TempDir(), t.TempDir()
		if err := plant(filepath.Join(dir, "out")); err != nil {
			t.Fatal(err)
		}
		_, err := newMover().Store(t.Context(), stage.Output{Type: protocol.FilePermanent, Name: "out", Local: "out", URL: "file://" + area + "/out"}, dir, lease)
		if !errors.Is(err, stage.ErrOutput) {
			t.Errorf("%s: %v, want ErrOutput", name, err)
		}
		if left, _ := os.ReadDir(area); len(left) != 0 {
			t.Errorf("%s: %v was stored", name, left)
		}
	}
	if _, err := newMover().Fetch(t.Context(), stage.Input{URL: "file://" + secret, Local: "../escape"}, t.TempDir()); err == nil {
		t.Error("an input was written outside the attempt's directory")
	}
}

func TestCompressionRoundTrip(t *testing.T) {
	for _, kind := range []stage.Compression{"gzip", "zstd", "bz2", "lzma", "none"} {
		dir, area := t.TempDir(), t.TempDir()
		write(t, dir, "plain", strings.Repeat("photon ", 1000))
		m := newMover()
		out := stage.Output{Type: protocol.FilePermanent, Name: "p", Local: "plain", URL: "file://" + area + "/p", Compression: kind}
		a, err := m.Store(t.Context(), out, dir, lease)
		if errors.Is(err, stage.ErrUnsupported) {
			t.Logf("%s: %v", kind, err)
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		b, err := m.Store(t.Context(), out, dir, protocol.LeaseID{Index: 9})
		if err != nil || a.Digest != b.Digest {
			t.Errorf("%s: two attempts' bytes differ: %v, %v, %v", kind, a.Digest, b.Digest, err)
		}
		if _, err := m.Fetch(t.Context(), stage.Input{URL: a.URL, Local: "back", Checksum: a.Digest.String(), Compression: kind}, dir); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if read(t, filepath.Join(dir, "back")) != read(t, filepath.Join(dir, "plain")) {
			t.Errorf("%s: content changed", kind)
		}
	}
}

// blobs is a blob store in memory.
type blobs map[protocol.Digest][]byte

func (b blobs) GetBlob(_ context.Context, d protocol.Digest) (io.ReadCloser, error) {
	body, ok := b[d]
	if !ok {
		return nil, protocol.Errorf(protocol.CodeNotFound, "no blob %v", d)
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

func (b blobs) PutBlob(_ context.Context, d protocol.Digest, _ protocol.ByteSize, body io.Reader) error {
	all, err := io.ReadAll(body)
	b[d] = all
	return err
}

func TestBlobsAndCache(t *testing.T) {
	store, err := cache.Open(cache.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b := blobs{}
	m := &stage.Mover{Blobs: b, Cache: store, Logger: slog.New(slog.DiscardHandler)}
	dir := t.TempDir()
	write(t, dir, "bg.dat", "background")
	record, err := m.Store(t.Context(), stage.Output{Type: protocol.FileJobTemp, Name: "bg.dat", Local: "bg.dat"}, dir, lease)
	if err != nil || record.URL != "blob:"+protocol.DigestOf([]byte("background")).String() {
		t.Fatalf("record %+v, %v", record, err)
	}
	in := stage.Input{URL: record.URL, Local: "in.dat", Checksum: record.Digest.String(), Cached: true}
	if _, err := m.Fetch(t.Context(), in, dir); err != nil {
		t.Fatal(err)
	}
	delete(b, record.Digest)
	if _, err := m.Fetch(t.Context(), in, dir); err != nil || read(t, filepath.Join(dir, "in.dat")) != "background" {
		t.Errorf("second use should come from the cache: %v", err)
	}
	in.Cached = false
	if _, err := m.Fetch(t.Context(), in, dir); !errors.Is(err, stage.ErrInput) {
		t.Errorf("a blob that is gone: %v, want ErrInput", err)
	}
}

func TestDiscardRemovesOnlyTheAttemptsFile(t *testing.T) {
	area, dir := t.TempDir(), t.TempDir()
	write(t, area, "out", "accepted earlier")
	write(t, dir, "out", "mine")
	m := newMover()
	record, err := m.Store(t.Context(), stage.Output{Type: protocol.FilePermanent, Name: "out", Local: "out", URL: "file://" + area + "/out"}, dir, lease)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Discard(t.Context(), []protocol.FileRecord{record}); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(area)
	if len(left) != 1 || read(t, filepath.Join(area, "out")) != "accepted earlier" {
		t.Errorf("left: %v", left)
	}
}

// Nobody writes into this FIFO: opening it for reading would wait for ever.
func TestInputThatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir} {
		_, err := newMover().Fetch(t.Context(), stage.Input{URL: "file://" + path, Local: "in"}, t.TempDir())
		if !errors.Is(err, stage.ErrInput) {
			t.Errorf("fetch of %s: %v, want an input error", filepath.Base(path), err)
		}
	}
}

// versions is an origin whose file changes under its name, and which can break off.
type versions struct {
	text    string
	tagged  bool
	broken  int // how often an answer ends early
	full    int // answers with all of the file
	resumed int
}

func (v *versions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	etag := strconv.Quote(protocol.DigestOf([]byte(v.text)).Hex())
	if v.tagged {
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if v.broken > 0 {
		v.broken--
		from, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"))
		if from > 0 {
			v.resumed++
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(v.text)-1, len(v.text)))
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(v.text)-from))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = io.WriteString(w, v.text[from:from+3])
		return // the server ends the connection, as less came than was announced
	}
	if r.Header.Get("Range") == "" {
		v.full++
	} else {
		v.resumed++
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(v.text))
}

// TestAnInputWithoutADigestIsCachedWhileItsOriginSaysSo: one that changes under its
// name is fetched anew.
func TestAnInputWithoutADigestIsCachedWhileItsOriginSaysSo(t *testing.T) {
	origin := &versions{text: "one", tagged: true}
	server := httptest.NewServer(origin)
	defer server.Close()
	local := write(t, t.TempDir(), "local.dat", "one")
	store, err := cache.Open(cache.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	m := &stage.Mover{Cache: store, Logger: slog.New(slog.DiscardHandler)}
	dir := t.TempDir()
	for i, step := range []struct {
		text   string
		change bool
		hits   uint64
	}{{"one", false, 0}, {"one", false, 1}, {"two", true, 1}, {"two", false, 2}, {"one", true, 2}} {
		if step.change {
			origin.text = step.text
			write(t, filepath.Dir(local), "other", step.text)
			if err := os.Rename(filepath.Join(filepath.Dir(local), "other"), local); err != nil {
				t.Fatal(err)
			}
		}
		for _, url := range []string{server.URL + "/x", "file://" + local} {
			if _, err := m.Fetch(t.Context(), stage.Input{URL: url, Local: "in.dat", Cached: true}, dir); err != nil {
				t.Fatal(err)
			}
			if got := read(t, filepath.Join(dir, "in.dat")); got != step.text {
				t.Errorf("step %d: %s gave %q, want %q", i, url, got, step.text)
			}
		}
		if st := store.Stats(); st.Hits != 2*step.hits {
			t.Errorf("step %d: stats = %+v, want %d hits of each", i, st, step.hits)
		}
	}
	if err := store.Trim(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Fetch(t.Context(), stage.Input{URL: server.URL + "/x", Local: "in.dat", Cached: true}, dir); err != nil || read(t, filepath.Join(dir, "in.dat")) != "one" {
		t.Errorf("the origin says it is unchanged, but the cache has lost it: %v", err)
	}
	origin.tagged, origin.text, origin.full = false, "three", 0
	for range 2 {
		if _, err := m.Fetch(t.Context(), stage.Input{URL: server.URL + "/y", Local: "in.dat", Cached: true}, dir); err != nil || read(t, filepath.Join(dir, "in.dat")) != "three" {
			t.Errorf("an origin that cannot tell versions apart: %v", err)
		}
		origin.text = "three" // nobody could tell, so it is fetched each time
	}
	if origin.full < 2 {
		t.Errorf("it was fetched %d times for two uses", origin.full)
	}
}

// TestAnInputThatChangedUnderItsNameIsNotTaken where its digest is known.
func TestAnInputThatChangedUnderItsNameIsNotTaken(t *testing.T) {
	origin := &versions{text: "one", tagged: true}
	server := httptest.NewServer(origin)
	defer server.Close()
	store, err := cache.Open(cache.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	m := &stage.Mover{Cache: store, Logger: slog.New(slog.DiscardHandler)}
	in := stage.Input{URL: server.URL, Local: "in.dat", Checksum: protocol.DigestOf([]byte("one")).String(), Cached: true}
	if _, err := m.Fetch(t.Context(), in, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	origin.text = "two"
	if _, err := m.Fetch(t.Context(), in, t.TempDir()); err != nil {
		t.Errorf("what the cache has does not need its origin: %v", err)
	}
	in.Checksum = protocol.DigestOf([]byte("three")).String()
	if _, err := m.Fetch(t.Context(), in, t.TempDir()); !errors.Is(err, stage.ErrInput) {
		t.Errorf("other bytes than the digest says: %v, want ErrInput", err)
	}
}

func TestADownloadThatBreaksOffIsGoneOnWith(t *testing.T) {
	for _, c := range []struct {
		broken int
		tagged bool
		ok     bool
	}{{1, true, true}, {3, true, true}, {4, true, false}, {1, false, false}} {
		origin := &versions{text: "a file that is long enough", tagged: c.tagged, broken: c.broken}
		server := httptest.NewServer(origin)
		dir := t.TempDir()
		m := newMover()
		_, err := m.Fetch(t.Context(), stage.Input{URL: server.URL, Local: "in.dat", Checksum: protocol.DigestOf([]byte(origin.text)).String()}, dir)
		server.Close()
		if c.ok && (err != nil || read(t, filepath.Join(dir, "in.dat")) != origin.text || origin.full != 0 || origin.resumed != c.broken) {
			t.Errorf("%+v: %v; %d whole answers, %d resumed", c, err, origin.full, origin.resumed)
		}
		if !c.ok && !errors.Is(err, stage.ErrStorage) {
			t.Errorf("%+v: %v, want ErrStorage", c, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "in.dat")); !c.ok && err == nil {
			t.Errorf("%+v: half a file was left", c)
		}
	}
}

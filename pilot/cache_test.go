package pilot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"floe/cache"
	"floe/protocol"
)

// environmentTarball is software of one file, which says what it is.
func environmentTarball(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := "the environment"
	if err := w.WriteHeader(&tar.Header{Name: "bin/what", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// inSoftware is a document whose only task looks for its software, and does more.
func inSoftware(digest protocol.Digest, more string) string {
	return fmt.Sprintf(`version: "3"
tasks:
  - name: make
    resources: [{remote: "file://DIR/env.tar", local: env.tar, checksum: %q}]
    trays:
      - projects: [{name: env}]
        modules: [{src: /bin/sh, args: [-c, 'tool=$(command -v what); cat "$tool" >DIR/out; %s']}]
`, digest.String(), more)
}

func TestAFullCacheFailsNoTask(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	tarball := environmentTarball(t)
	b.write("env.tar", string(tarball))
	b.write("in", "input")
	var err error
	if b.cache, err = cache.Open(cache.Config{Dir: filepath.Join(b.dir, "full"), Quota: 1, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.cache.Close)
	if report := b.run(t.Context(), inSoftware(protocol.DigestOf(tarball), "true")); report.Verdict != protocol.VerdictOK || b.read("out") != "the environment" {
		t.Errorf("verdict %v, %s; the task found %q\n%s", report.Verdict, report.Evidence, b.read("out"), b.log)
	}
	report := b.run(t.Context(), document("cat in >DIR/out", fmt.Sprintf(`{type: permanent, movement: input, remote: "file://DIR/in", local: in, checksum: %q}`, protocol.DigestOf([]byte("input")).String())))
	if report.Verdict != protocol.VerdictOK || b.read("out") != "input" {
		t.Errorf("verdict %v, %s; the input was %q", report.Verdict, report.Evidence, b.read("out"))
	}
}

// TestSoftwareThatRotsUnderATask: its result does not count, whatever it was.
func TestSoftwareThatRotsUnderATask(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	tarball := environmentTarball(t)
	b.write("env.tar", string(tarball))
	// The task damages what it runs from, and somebody finds out while it runs.
	found := make(chan error, 1)
	if err := os.MkdirAll(filepath.Join(b.dir, "gate"), 0o700); err != nil {
		t.Fatal(err)
	}
	fifo := func(name string) string { return filepath.Join(b.dir, "gate", name) }
	for _, name := range []string{"damaged", "found"} {
		if err := syscall.Mkfifo(fifo(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		_, err := os.ReadFile(fifo("damaged"))
		v, verifyErr := b.cache.Verify(context.Background())
		if len(v.Bad) != 1 {
			err = errors.Join(err, fmt.Errorf("verify: %+v", v))
		}
		found <- errors.Join(err, verifyErr, os.WriteFile(fifo("found"), []byte("x"), 0))
	}()
	report := b.run(t.Context(), inSoftware(protocol.DigestOf(tarball),
		`chmod u+w "$(dirname "$tool")" "$tool"; echo rot >"$tool"; echo x >DIR/gate/damaged; cat DIR/gate/found >/dev/null`))
	if err := <-found; err != nil {
		t.Fatal(err)
	}
	if report.Verdict != protocol.VerdictSoftware || !strings.Contains(report.Evidence, "damaged") {
		t.Errorf("verdict %v, %s, want software", report.Verdict, report.Evidence)
	}
	if report := b.run(t.Context(), inSoftware(protocol.DigestOf(tarball), "true")); report.Verdict != protocol.VerdictOK || b.read("out") != "the environment" {
		t.Errorf("the next task: verdict %v, %s, it found %q", report.Verdict, report.Evidence, b.read("out"))
	}
}

// TestTheCoordinatorsAreAskedBeforeTheOrigin, and a cache's figures are told.
func TestTheCoordinatorsAreAskedBeforeTheOrigin(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	tarball := environmentTarball(t)
	if err := b.blobs.PutBlob(t.Context(), protocol.DigestOf(tarball), protocol.ByteSize(len(tarball)), bytes.NewReader(tarball)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // there is nothing at the origin
		if report := b.run(t.Context(), inSoftware(protocol.DigestOf(tarball), "true")); report.Verdict != protocol.VerdictOK {
			t.Errorf("verdict %v, %s", report.Verdict, report.Evidence)
		}
	}
	if st := b.cache.Stats(); st.Hits != 1 || st.Misses != 1 || st.FarBytes != protocol.ByteSize(len(tarball)) {
		t.Errorf("stats = %+v", st)
	}
}

// TestADocumentGoesPastAFullCache, and is checked all the same.
func TestADocumentGoesPastAFullCache(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	store, err := cache.Open(cache.Config{Dir: t.TempDir(), Quota: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	p := &Pilot{link: f, cache: store, logger: slog.New(slog.DiscardHandler)}
	text := []byte("version: 3\n")
	f.blobs[protocol.DigestOf(text)] = text
	if got, err := p.stored(t.Context(), protocol.DigestOf(text)); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%q, %v", got, err)
	}
	wrong := protocol.DigestOf([]byte("something else"))
	f.blobs[wrong] = text
	if got, err := p.stored(t.Context(), wrong); !errors.Is(err, cache.ErrMismatch) && !errors.Is(err, cache.ErrNoSpace) {
		t.Errorf("other bytes: %q, %v", got, err)
	}
}

package pilot

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/cache"
	"floe/pilot/payload/session"
	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/steering"
)

// bench is a place to run attempts without any pilot around them.
type bench struct {
	t     *testing.T
	dir   string
	blobs blobDir
	cache *cache.Store
	lease protocol.Lease
	log   string // of the last attempt
	// catalog has published software; nil does without.
	catalog *Catalog
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	b.blobs = blobDir(filepath.Join(b.dir, "blobs"))
	if err := os.Mkdir(string(b.blobs), 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.cache, err = cache.Open(cache.Config{Dir: filepath.Join(b.dir, "cache"), Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	if err := session.Install(filepath.Join(b.dir, "bin")); err != nil {
		t.Fatal(err)
	}
	b.lease = protocol.Lease{
		ID: protocol.LeaseID{Index: 7}, Task: protocol.TaskID{Dataset: 1, Job: 3}, TaskName: "make", Attempt: 1, JobCount: 10, Seed: 1,
		Granted: protocol.Requirements{Walltime: 60},
	}
	return b
}

// run runs an attempt on a document in which DIR stands for the bench's directory.
func (b *bench) run(ctx context.Context, document string, change ...func(*Attempt)) *protocol.Report {
	b.t.Helper()
	doc, problems := steering.Parse("test", []byte(strings.ReplaceAll(document, "DIR", b.dir)))
	if problems.HasErrors() {
		b.t.Fatal(problems.Format())
	}
	logger := slog.New(slog.DiscardHandler)
	lease := b.lease
	a := &Attempt{
		Lease: &lease, Dir: filepath.Join(b.dir, "attempt"), Mover: &stage.Mover{Blobs: b.blobs, Cache: b.cache, Logger: logger},
		Cache: b.cache, Cores: 1, Logger: logger, System: systemParameters(nil), Catalog: b.catalog, Tool: filepath.Join(b.dir, "bin"), MaxOutput: 2 * protocol.MB,
	}
	for _, c := range change {
		c(a)
	}
	report := a.Run(ctx, func(context.Context, protocol.Digest) (*steering.Document, error) { return doc, nil })
	text, _ := os.ReadFile(a.LogPath())
	b.log = string(text)
	if err := a.Clean(); err != nil {
		b.t.Errorf("clean: %v", err)
	}
	if _, err := os.Stat(a.Dir); err == nil {
		b.t.Error("the attempt's directory is left")
	}
	if err := report.Check(); err != nil {
		b.t.Errorf("report: %v", err)
	}
	return report
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		return "nothing"
	}
	return string(text)
}

func TestAttemptMovesItsFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("in", "input\n")
	part := []byte("of the parent\n")
	if err := b.blobs.PutBlob(t.Context(), protocol.DigestOf(part), protocol.ByteSize(len(part)), bytes.NewReader(part)); err != nil {
		t.Fatal(err)
	}
	record := protocol.FileRecord{Type: protocol.FileJobTemp, Name: "part", URL: protocol.BlobURL(protocol.DigestOf(part)), Size: protocol.ByteSize(len(part)), Digest: protocol.DigestOf(part)}
	older := record
	older.URL = "file:///nonexistent" // of an earlier ancestor: the newest counts
	b.lease.Inputs = []protocol.FileRecord{older, record}
	report := b.run(t.Context(), document("cat in part >whole; echo $FLOE_JOB >temp",
		`{type: permanent, movement: input, remote: "file://DIR/in", local: in},
		 {type: job_temp, movement: input, remote: "", local: part},
		 {type: permanent, movement: output, local: whole, remote: "file://DIR/out.$(job)"},
		 {type: job_temp, movement: output, local: temp, remote: ""}`))
	if report.Verdict != protocol.VerdictOK {
		t.Fatalf("%v: %s\n%s", report.Verdict, report.Evidence, b.log)
	}
	whole, temp := []byte("input\nof the parent\n"), []byte("3\n")
	want := []protocol.FileRecord{
		{
			Type: protocol.FilePermanent, Name: "file://" + b.dir + "/out.3", URL: "file://" + b.dir + "/out.3.floe-7-0", Published: "file://" + b.dir + "/out.3",
			Size: 20, Digest: protocol.DigestOf(whole),
		},
		{Type: protocol.FileJobTemp, Name: "temp", URL: protocol.BlobURL(protocol.DigestOf(temp)), Size: 2, Digest: protocol.DigestOf(temp)},
	}
	if diff := cmp.Diff(want, report.Outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if got := b.read("out.3.floe-7-0"); got != string(whole) || b.read("out.3") != "nothing" {
		t.Errorf("stored %q; before the report is accepted, the final name holds %q", got, b.read("out.3"))
	}
}

func TestAttemptOfIterations(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("in.0", "a")
	b.write("in.1", "b")
	report := b.run(t.Context(), `version: 3
tasks:
  - name: make
    trays:
      - iterations: 2
        data: [{type: permanent, movement: input, remote: "file://DIR/in.$(iter)", local: in}]
        modules:
          - src: /bin/sh
            args: ["-c", "cat in >out; echo '{\"n\": 1}' >$FLOE_STATISTICS"]
            data: [{type: permanent, movement: output, local: out, remote: "file://DIR/out.$(iter)"}]
`)
	if report.Verdict != protocol.VerdictOK || len(report.Outputs) != 2 || len(report.Modules) != 2 || len(report.Statistics) != 2 {
		t.Fatalf("report = %+v\n%s", report, b.log)
	}
	if first, second := b.read("out.0.floe-7-0"), b.read("out.1.floe-7-0"); first != "a" || second != "b" {
		t.Errorf("outputs of the iterations = %q, %q", first, second)
	}
}

func TestWhoseFaultItIs(t *testing.T) {
	t.Parallel()
	// A port that nobody listens on.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	tarball := new(bytes.Buffer)
	w := tar.NewWriter(tarball)
	program := "#!/bin/sh\necho from the software\n"
	for _, h := range []*tar.Header{{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755}, {Typeflag: tar.TypeReg, Name: "bin/program", Mode: 0o755, Size: int64(len(program))}} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write([]byte(program)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	software := func(digest protocol.Digest, project string) string {
		return fmt.Sprintf(`version: 3
steering: {resources: [{remote: "file://DIR/software.tar", local: tools, checksum: "%v"}]}
tasks:
  - name: make
    trays: [{projects: [{name: %s}], modules: [{src: /bin/sh, args: ["-c", "program"]}]}]
`, digest, project)
	}
	good := protocol.DigestOf(tarball.Bytes())
	for _, test := range []struct {
		name, document string
		verdict        protocol.Verdict
		evidence, bad  string
	}{
		{"nothing", document("true", ""), protocol.VerdictOK, "", ""},
		{"the payload's exit code", document("exit 7", ""), protocol.VerdictPayload, "exit code 7", ""},
		{"a missing input", document("true", `{type: permanent, movement: input, remote: "file://DIR/gone", local: in}`), protocol.VerdictData, "gone", ""},
		{"a missing input that may be", document("test ! -e in", `{type: permanent, movement: input, remote: "file://DIR/gone", local: in, transfer: maybe}`), protocol.VerdictOK, "", ""},
		{"an input with another checksum", document("true", `{type: permanent, movement: input, remote: "file://DIR/software.tar", local: in, checksum: "md5:00000000000000000000000000000000"}`), protocol.VerdictData, "md5", ""},
		{"a temp file that no parent left", document("true", `{type: job_temp, movement: input, remote: "", local: part}`), protocol.VerdictData, `"part"`, "part"},
		{"a temp file that is lost", document("true", `{type: job_temp, movement: input, remote: "", local: lost}`), protocol.VerdictData, "lost", "lost"},
		{"a missing output", document("true", `{type: permanent, movement: output, local: out, remote: "file://DIR/out"}`), protocol.VerdictPayload, "out", ""},
		{"a missing output that may be", document("true", `{type: permanent, movement: output, local: out, remote: "file://DIR/out", transfer: maybe}`), protocol.VerdictOK, "", ""},
		{"an output that is a link", document("ln -s /etc/passwd out", `{type: permanent, movement: output, local: out, remote: "file://DIR/out"}`), protocol.VerdictPayload, "out", ""},
		{"an output that is a FIFO", document("mkfifo out", `{type: permanent, movement: output, local: out, remote: "file://DIR/out"}`), protocol.VerdictPayload, "regular file", ""},
		{"an output that is a device", document("ln -s /dev/zero out", `{type: permanent, movement: output, local: out, remote: "file://DIR/out"}`), protocol.VerdictPayload, "out", ""},
		{"an output of another attempt, by way of the work directory", document("echo x >../../secret; cd ..; rm -rf work; ln -s .. work", `{type: permanent, movement: output, local: secret, remote: "file://DIR/out"}`), protocol.VerdictPayload, "work directory", ""},
		{"an output that may be that large", document("head -c 1000000 /dev/zero >out", `{type: permanent, movement: output, local: out, remote: "file://DIR/out", max_size: 0.001}`), protocol.VerdictOK, "", ""},
		{"an output that is too large", document("head -c 1000001 /dev/zero >out", `{type: permanent, movement: output, local: out, remote: "file://DIR/out", max_size: 0.001, compression: gz}`), protocol.VerdictPayload, "its max_size is 1MB", ""},
		{"outputs that are too large together", strings.Replace(document("head -c 600000 /dev/zero >a; cp a b",
			`{type: permanent, movement: output, local: a, remote: "file://DIR/a"}, {type: permanent, movement: output, local: b, remote: "file://DIR/b"}`),
			"name: make", "name: make\n    max_output: 0.001", 1), protocol.VerdictPayload, "the limit of the task (max_output) is 1MB", ""},
		{
			"outputs that are too large for the site", document("head -c 600000 /dev/zero >a; cp a b; cp a c; cp a d",
				`{type: permanent, movement: output, local: a, remote: "file://DIR/a"}, {type: permanent, movement: output, local: b, remote: "file://DIR/b"},
			 {type: permanent, movement: output, local: c, remote: "file://DIR/c"}, {type: permanent, movement: output, local: d, remote: "file://DIR/d"}`),
			protocol.VerdictPayload, "the limit of this site (max_output) is 2MB", "",
		},
		{"storage out of reach", document("true", `{type: permanent, movement: input, remote: "http://`+closed+`/in", local: in}`), protocol.VerdictSite, closed, ""},
		{"an output's storage out of reach", document("echo x >out", `{type: permanent, movement: output, local: out, remote: "http://`+closed+`/out"}`), protocol.VerdictSite, closed, ""},
		{"a scheme nobody knows", document("true", `{type: permanent, movement: input, remote: "gopher://x/in", local: in}`), protocol.VerdictPayload, "gopher", ""},
		{"a permanent output without a place", document("echo x >out", `{type: permanent, movement: output, local: out, remote: ""}`), protocol.VerdictPayload, "no URL", ""},
		{"software", software(good, "tools"), protocol.VerdictOK, "", ""},
		{"software of another digest", software(protocol.DigestOf([]byte("x")), "tools"), protocol.VerdictSoftware, "tools", ""},
		{"software that no resource is", software(good, "tolls"), protocol.VerdictSoftware, "tolls", ""},
		{"another document's task", strings.Replace(document("true", ""), "name: make", "name: take", 1), protocol.VerdictPayload, `"make"`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.write("software.tar", tarball.String())
			b.lease.Inputs = []protocol.FileRecord{{
				Type: protocol.FileJobTemp, Name: "lost", URL: protocol.BlobURL(protocol.DigestOf([]byte("lost"))), Size: 4, Digest: protocol.DigestOf([]byte("lost")),
			}}
			report := b.run(t.Context(), test.document)
			if report.Verdict != test.verdict || !strings.Contains(report.Evidence, test.evidence) || report.BadInput != test.bad {
				t.Errorf("%v (%s), bad input %q; want %v, %q, %q\n%s", report.Verdict, report.Evidence, report.BadInput, test.verdict, test.evidence, test.bad, b.log)
			}
		})
	}
}

func TestAnEndedContextIsPreemption(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if report := b.run(ctx, document("true", "")); report.Verdict != protocol.VerdictPreempted {
		t.Errorf("%v: %s", report.Verdict, report.Evidence)
	}
}

func TestSecretsOfThePilotAreNoExpressions(t *testing.T) {
	t.Setenv("BEARER_TOKEN", "of the site")
	t.Setenv("FLOE_TOKEN", "of a person")
	t.Setenv("HARMLESS", "word")
	b := newBench(t)
	report := b.run(t.Context(), document("echo '[$environ(HARMLESS)] [$environ(BEARER_TOKEN)] [$environ(FLOE_TOKEN)]'", ""))
	if report.Verdict != protocol.VerdictOK || !strings.Contains(b.log, "[word]") || strings.Contains(b.log, "of the site") || strings.Contains(b.log, "of a person") {
		t.Errorf("%v: %s\n%s", report.Verdict, report.Evidence, b.log)
	}
}

package pilot

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/cache/pack"
	"floe/pilot/payload"
	"floe/protocol"
)

// Where an attempt finds the image of a tray.
func TestImagesOfTrays(t *testing.T) {
	const head = "version: 3\ntasks:\n  - name: make\n    "
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "marker"), []byte("small"), 0o600); err != nil {
		t.Fatal(err)
	}
	var tarball bytes.Buffer
	if err := pack.Directory(t.Context(), tree, &tarball); err != nil {
		t.Fatal(err)
	}
	resource := func(name string, content []byte) string {
		return "resources: [{remote: 'file:DIR/" + name + "', local: " + name + ", checksum: '" + protocol.DigestOf(content).String() + "'}]\n    "
	}
	trays := "trays: [{modules: [{src: a}]}]\n"
	for _, tt := range []struct {
		name, document string
		want           protocol.Verdict
		shows          string // a file of the image, or the file itself
		says           string
	}{
		{"a path", head + "container: /cvmfs/cms.cern.ch/el9\n    " + trays, protocol.VerdictOK, "", ""},
		{"a tarball", head + resource("small.tar", tarball.Bytes()) + "container: small\n    " + trays, protocol.VerdictOK, "marker", ""},
		{"a single file", head + resource("small.sif", []byte("SIF")) + "container: small\n    " + trays, protocol.VerdictOK, ".", ""},
		{"of the catalog", head + "container: tools/1.0\n    " + trays, protocol.VerdictOK, "bin/tool", ""},
		{"of the tray", head + "container: none/1\n    " + strings.Replace(trays, "{modules", "{container: tools/1.0, modules", 1), protocol.VerdictOK, "bin/tool", ""},
		{"a changed file", head + resource("small.sif", []byte("other")) + "container: small\n    " + trays, protocol.VerdictSoftware, "", "container small.sif"},
		{"no such thing", head + "container: none/1\n    " + trays, protocol.VerdictSoftware, "", "project none 1: not among"},
		{"an address", head + "container: docker://debian\n    " + trays, protocol.VerdictPayload, "", "publish the image"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			newTestCatalog(t, b).publish("any", "hello")
			b.write("small.tar", tarball.String())
			b.write("small.sif", "SIF")
			var image *payload.Image
			report := b.run(t.Context(), tt.document, func(a *Attempt) {
				a.Payload = func(_ context.Context, task payload.Task, _ payload.Limits, dir payload.Dir, _ payload.Options) payload.Outcome {
					image = task.Trays[0].Image
					if staged, err := os.ReadDir(dir.Work()); err != nil || len(staged) > 0 {
						t.Errorf("work directory: %v, %v; the image is no file of it", staged, err)
					}
					if tt.shows != "" {
						if _, err := os.Stat(filepath.Join(image.Path, tt.shows)); err != nil {
							t.Error(err)
						}
					}
					return payload.Outcome{Verdict: protocol.VerdictOK}
				}
			})
			if report.Verdict != tt.want || !strings.Contains(report.Evidence, tt.says) {
				t.Errorf("verdict %v, %s; want %v with %q", report.Verdict, report.Evidence, tt.want, tt.says)
			}
			if tt.want == protocol.VerdictOK && image == nil {
				t.Error("the tray has no image")
			}
		})
	}
}

// A published directory that holds one file for apptainer is that file.
func TestAPublishedSingleFile(t *testing.T) {
	dir := t.TempDir()
	if got := single(dir); got != dir {
		t.Errorf("single of an empty directory = %s", got)
	}
	file := filepath.Join(dir, "el9.sif")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := single(dir); got != file {
		t.Errorf("single = %s, want %s", got, file)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := single(dir); got != dir {
		t.Errorf("single of a root file system = %s", got)
	}
}

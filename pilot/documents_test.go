package pilot

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"floe/cache"
	"floe/protocol"
	"floe/protocol/steering"
)

// TestADocumentIsParsedOnce, while its dataset is one of the last few that tasks came
// from, and one that cannot be read is not kept.
func TestADocumentIsParsedOnce(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	store, err := cache.Open(cache.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	p := &Pilot{link: f, cache: store, logger: slog.New(slog.DiscardHandler)}
	digests := make([]protocol.Digest, keptDocuments+1)
	for i := range digests {
		text := fmt.Appendf(nil, "version: 3.2\ntasks: [{name: t%d, trays: [{modules: [{src: /bin/echo, args: $(job)}]}]}]\n", i)
		digests[i] = protocol.DigestOf(text)
		f.blobs[digests[i]] = text
	}
	read := func(d protocol.Digest) *steering.Document {
		document, err := p.document(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return document
	}
	first := read(digests[0])
	var work sync.WaitGroup
	for job := range 8 { // nobody changes it
		work.Go(func() {
			in := steering.ExpandInput{Dataset: 1, Job: protocol.JobIndex(job), JobCount: 8}
			task, problems := steering.ExpandTask(read(digests[0]), in, 0)
			steering.ExpandHeader(first, in)
			if args := fmt.Sprint(task.Trays[0].Modules[0].Args); problems.HasErrors() || args != fmt.Sprint(job) {
				t.Errorf("job %d: args %s, %v", job, args, problems)
			}
		})
	}
	work.Wait()
	for _, d := range digests[1:keptDocuments] {
		read(d)
	}
	if read(digests[0]) != first {
		t.Error("it was parsed again")
	}
	read(digests[keptDocuments]) // in the place of the second
	if read(digests[0]) != first || p.documents.find(digests[1]) != nil || len(p.documents.kept) != keptDocuments {
		t.Errorf("%d documents are kept, want the last %d", len(p.documents.kept), keptDocuments)
	}

	text := []byte("version: 3.2\ntasks: 1\n")
	f.blobs[protocol.DigestOf(text)] = text
	for range 2 {
		if _, err := p.document(t.Context(), protocol.DigestOf(text)); err == nil {
			t.Error("a document that is none was read")
		}
	}
}

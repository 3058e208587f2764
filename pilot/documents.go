package pilot

import (
	"context"
	"slices"
	"sync"

	"floe/protocol"
	"floe/protocol/steering"
)

// keptDocuments is how many parsed steering documents a pilot keeps: its tasks come
// from few datasets at a time.
const keptDocuments = 4

// documents are the steering documents that were asked for last, parsed. The zero
// value has none.
type documents struct {
	mu   sync.Mutex
	kept []parsed // guarded by mu; asked for last first
}

// parsed is a document that nobody changes.
type parsed struct {
	digest   protocol.Digest
	document *steering.Document
}

// find is the document of a digest, nil where it is not kept.
func (k *documents) find(d protocol.Digest) *steering.Document {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.kept, func(p parsed) bool { return p.digest == d })
	if i < 0 {
		return nil
	}
	found := k.kept[i]
	k.kept = slices.Insert(slices.Delete(k.kept, i, i+1), 0, found)
	return found.document
}

// keep keeps a document, in the place of the one that was not asked for the longest.
func (k *documents) keep(d protocol.Digest, document *steering.Document) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.ContainsFunc(k.kept, func(p parsed) bool { return p.digest == d }) {
		return
	}
	k.kept = slices.Insert(k.kept, 0, parsed{d, document})
	k.kept = k.kept[:min(len(k.kept), keptDocuments)]
}

// document fetches a steering document once, through the cache, and parses it.
func (p *Pilot) document(ctx context.Context, d protocol.Digest) (*steering.Document, error) {
	if known := p.documents.find(d); known != nil {
		return known, nil
	}
	text, err := p.stored(ctx, d)
	if err != nil {
		return nil, err
	}
	document, problems := steering.Parse("steering", text)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	p.documents.keep(d, document)
	return document, nil
}

package server

import (
	"context"
	"sync"

	"floe/protocol"
	"floe/protocol/steering"
)

// documents remembers steering documents that were read and parsed: every submission
// is compared with those of the newest unfinished datasets. A document is never
// changed, so it may be shared.
type documents struct {
	mu     sync.Mutex
	parsed map[protocol.Digest]*steering.Document // guarded by mu
}

// maxDocuments is how many are remembered: those that one submission is compared
// with, and as many again.
const maxDocuments = 2 * maxCompared

func (d *documents) find(digest protocol.Digest) *steering.Document {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.parsed[digest]
}

// keep forgets all others when there are too many: they are soon read again.
func (d *documents) keep(digest protocol.Digest, doc *steering.Document) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.parsed == nil || len(d.parsed) >= maxDocuments {
		d.parsed = make(map[protocol.Digest]*steering.Document)
	}
	d.parsed[digest] = doc
}

// document returns a stored steering document.
func (s *Server) document(ctx context.Context, d protocol.Digest) (*steering.Document, error) {
	if doc := s.documents.find(d); doc != nil {
		return doc, nil
	}
	text, err := s.documentText(ctx, d)
	if err != nil {
		return nil, err
	}
	doc, problems := steering.Parse("steering", text)
	if problems.HasErrors() {
		return nil, problems
	}
	s.documents.keep(d, doc)
	return doc, nil
}

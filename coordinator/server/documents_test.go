package server

import (
	"testing"

	"floe/protocol"
	"floe/protocol/steering"
)

// Documents are remembered, and never more than may be.
func TestDocumentsAreBounded(t *testing.T) {
	var d documents
	name := func(i int) protocol.Digest { return protocol.DigestOf([]byte{byte(i), byte(i >> 8)}) }
	for i := range 3 * maxDocuments {
		doc := new(steering.Document)
		d.keep(name(i), doc)
		if d.find(name(i)) != doc {
			t.Fatalf("document %d is not found", i)
		}
		if len(d.parsed) > maxDocuments {
			t.Fatalf("%d documents are remembered, want at most %d", len(d.parsed), maxDocuments)
		}
	}
	if d.find(name(3*maxDocuments)) != nil {
		t.Error("a document is found that was never kept")
	}
}

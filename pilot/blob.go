package pilot

import (
	"context"
	"io"
	"net/http"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// blobTries is how often a blob is asked for, or stored, before its attempt fails. The
// pauses between them last 15 s together: several elections.
const blobTries = 5

// insist does something with a blob, again while its fate is unknown.
func (l *Link) insist(ctx context.Context, what string, d protocol.Digest, do func() error) error {
	for try := 0; ; try++ {
		err := do()
		if err == nil || try == blobTries-1 || ctx.Err() != nil || !mayRepeat(err) {
			return err
		}
		l.logger.Warn("a blob is tried again", "to", what, "digest", d, "err", err)
		pause := time.NewTimer(time.Second << try)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// mayRepeat tells an outage from a refusal.
func mayRepeat(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.CodeInternal || code.Retryable()
}

// GetBlob implements stage.Blobs. What it returns outlives the coordinator that
// gives it: the bytes under a digest are the same everywhere.
func (l *Link) GetBlob(ctx context.Context, d protocol.Digest) (io.ReadCloser, error) {
	b := &blobReader{ctx: ctx, link: l, digest: d}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// blobReader reads a blob, from one coordinator after another where it must.
type blobReader struct {
	ctx    context.Context // of GetBlob
	link   *Link
	digest protocol.Digest
	body   io.ReadCloser
	size   int64 // as announced; -1 is unknown
	read   int64
	broken int // how often it broke off
}

// open asks for the blob and goes to where reading has come to.
func (b *blobReader) open() error {
	return b.link.insist(b.ctx, "get", b.digest, func() error {
		resp, err := b.link.blobOnce(b.ctx, b.digest)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, resp.Body, b.read); err != nil {
			_ = resp.Body.Close()
			return err
		}
		b.body, b.size = resp.Body, resp.ContentLength
		return nil
	})
}

// Read implements io.Reader.
func (b *blobReader) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.read += int64(n)
		switch {
		case err == io.EOF && b.read < b.size:
			err = io.ErrUnexpectedEOF
		case err == nil || err == io.EOF:
			return n, err
		}
		if b.broken++; b.broken == blobTries || b.ctx.Err() != nil {
			return n, err
		}
		_ = b.body.Close()
		if again := b.open(); again != nil {
			return n, again
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Close implements io.Closer.
func (b *blobReader) Close() error { return b.body.Close() }

func (l *Link) blobOnce(ctx context.Context, d protocol.Digest) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/blobs/"+d.Hex(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := l.client.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	return resp, transport.ResponseError(resp)
}

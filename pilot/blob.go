package pilot

import (
	"context"
	"io"
	"net/http"
	"time"

	"floe/pilot/stage"
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
	return stage.Resume(ctx, blobTries-1, func(from int64) (body io.ReadCloser, size int64, err error) {
		err = l.insist(ctx, "get", d, func() error {
			resp, err := l.blobOnce(ctx, d)
			if err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, resp.Body, from); err != nil {
				_ = resp.Body.Close()
				return err
			}
			body, size = resp.Body, resp.ContentLength
			return nil
		})
		return body, size, err
	})
}

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

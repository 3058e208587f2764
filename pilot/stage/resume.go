package stage

import (
	"context"
	"errors"
	"io"

	"floe/protocol"
)

// errNotResumed: what broke off cannot be gone on with.
var errNotResumed = errors.New("not resumed")

// Resume opens a file and reads it, going on where a connection broke off, at most so
// many times. open begins at a position and tells how long the whole file is, -1 where
// that is not known. Its error ends the reading.
func Resume(ctx context.Context, times int, open func(from int64) (io.ReadCloser, int64, error)) (io.ReadCloser, error) {
	body, size, err := open(0)
	if err != nil {
		return nil, err
	}
	return &resumed{ctx: ctx, left: times, open: open, body: body, size: size}, nil
}

type resumed struct {
	ctx  context.Context //nolint:containedctx // of Resume, which reading belongs to
	left int             // how often it may break off
	open func(from int64) (io.ReadCloser, int64, error)
	body io.ReadCloser
	size int64
	read int64
}

// Size is what was announced; 0 is unknown.
func (r *resumed) Size() protocol.ByteSize { return protocol.ByteSize(max(r.size, 0)) }

// Read implements io.Reader.
func (r *resumed) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.read += int64(n)
		switch {
		case errors.Is(err, io.EOF) && r.read < r.size:
			err = io.ErrUnexpectedEOF
		case err == nil || errors.Is(err, io.EOF):
			return n, err
		}
		if r.left == 0 || r.ctx.Err() != nil {
			return n, err
		}
		r.left--
		body, _, again := r.open(r.read)
		if errors.Is(again, errNotResumed) {
			return n, err
		}
		if again != nil {
			return n, again
		}
		_ = r.body.Close() // it is broken
		r.body = body
		if n > 0 {
			return n, nil
		}
	}
}

// Close implements io.Closer.
func (r *resumed) Close() error { return r.body.Close() }

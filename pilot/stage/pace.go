package stage

import (
	"context"
	"io"
	"net/url"

	"floe/protocol"

	"golang.org/x/time/rate"
)

// Pace bounds what all movers that share it carry over the network in a second; nil
// does not. Files at file: addresses, and what command-line clients carry, go at
// whatever pace they do.
type Pace struct{ limiter *rate.Limiter }

// pacePiece is the most that is carried at once.
const pacePiece = 64 << 10

// NewPace allows so many bytes in a second; nil for 0.
func NewPace(perSecond protocol.ByteSize) *Pace {
	if perSecond <= 0 {
		return nil
	}
	return &Pace{rate.NewLimiter(rate.Limit(perSecond), pacePiece)}
}

// paced is a body that is read no faster than its pace. Whoever can seek in it still
// can.
type paced struct {
	ctx context.Context //nolint:containedctx // of the one transfer that reads it
	io.Reader
	body any
	pace *Pace
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b[:min(len(b), pacePiece)])
	if n > 0 {
		if waited := p.pace.limiter.WaitN(p.ctx, n); waited != nil && err == nil {
			err = waited
		}
	}
	return n, err
}

// Close closes the body, if it can be.
func (p *paced) Close() error {
	if c, ok := p.body.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// pacedSeeker is paced over a file.
type pacedSeeker struct {
	*paced
	io.Seeker
}

// over is a body at the pace.
func (p *Pace) over(ctx context.Context, body io.Reader) io.Reader {
	if p == nil || body == nil {
		return body
	}
	r := &paced{ctx, body, body, p}
	if s, ok := body.(io.Seeker); ok {
		return pacedSeeker{r, s}
	}
	return r
}

// opened is over for a body that is closed.
func (p *Pace) opened(ctx context.Context, body io.ReadCloser, err error) (io.ReadCloser, error) {
	if p == nil || err != nil {
		return body, err
	}
	return &paced{ctx, body, body, p}, nil
}

// pacedScheme is a scheme at a pace.
type pacedScheme struct {
	scheme
	pace *Pace
}

func (s pacedScheme) open(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	body, err := s.scheme.open(ctx, u)
	return s.pace.opened(ctx, body, err)
}

func (s pacedScheme) put(ctx context.Context, u *url.URL, body io.Reader, size protocol.ByteSize) error {
	return s.scheme.put(ctx, u, s.pace.over(ctx, body), size)
}

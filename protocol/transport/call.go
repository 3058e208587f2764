package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"floe/protocol"
)

// maxReply bounds the body of an answer that a call decodes. Files are read
// from Do, unbounded.
const maxReply = 64 << 20

// Pauses between tries: exponential with full jitter, so that thousands of
// pilots that lost one coordinator do not return at once.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 30 * time.Second
	// electionPause is the longest pause while coordinators elect a leader.
	electionPause = 2 * time.Second
)

// CallOption changes one call.
type CallOption func(*call)

type call struct {
	idempotent bool
	patience   time.Duration
	header     http.Header
}

// Idempotent says that repeating the request does no harm: it is repeated until
// ctx ends while its fate is unknown, the coordinator is busy or unreachable.
func Idempotent() CallOption { return func(c *call) { c.idempotent = true } }

// Patience ends an idempotent call after d, if until then no coordinator could be
// reached at all: elections are waited for, a cluster that is not there is not.
func Patience(d time.Duration) CallOption { return func(c *call) { c.patience = d } }

// CallCBOR sends in (nil for no body) and decodes the answer into out (nil to
// drop it). A refusal is a *protocol.Error. A request that only a leader serves
// is repeated at the leader, idempotent or not, because it was not served.
func (c *Client) CallCBOR(ctx context.Context, method, path string, in, out any, options ...CallOption) error {
	return c.call(ctx, method, path, cborForm, in, out, options)
}

// CallJSON is CallCBOR in JSON.
func (c *Client) CallJSON(ctx context.Context, method, path string, in, out any, options ...CallOption) error {
	return c.call(ctx, method, path, jsonForm, in, out, options)
}

type form struct {
	mediaType string
	marshal   func(any) ([]byte, error)
	unmarshal func([]byte, any) error
}

var (
	cborForm = form{TypeCBOR, protocol.Marshal, protocol.UnmarshalReply}
	jsonForm = form{TypeJSON, json.Marshal, json.Unmarshal}
)

func (c *Client) call(ctx context.Context, method, path string, f form, in, out any, options []CallOption) error {
	o := call{header: make(http.Header)}
	for _, option := range options {
		option(&o)
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = f.marshal(in); err != nil {
			return fmt.Errorf("%s %s: encode %T: %w", method, path, in, err)
		}
		o.header.Set("Content-Type", f.mediaType)
	}
	o.header.Set("Accept", f.mediaType)
	var last error
	began, reached := time.Now(), false
	for try := 0; ; try++ {
		err := c.once(ctx, method, path, f, o.header, body, in != nil, out)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			if last != nil && errors.Is(err, ctx.Err()) {
				return fmt.Errorf("%w; before that: %w", err, last)
			}
			return err
		}
		var answered *protocol.Error
		reached = reached || errors.As(err, &answered)
		pause, again := c.again(err, o.idempotent, try)
		if !again || o.patience > 0 && !reached && time.Since(began)+pause > o.patience {
			return err
		}
		last = err
		if err := wait(ctx, pause); err != nil {
			return fmt.Errorf("%w; before that: %w", err, last)
		}
	}
}

// again decides whether and when to repeat after err.
func (c *Client) again(err error, idempotent bool, try int) (time.Duration, bool) {
	ceiling := min(lastPause, firstPause<<min(try, 10))
	pause := rand.N(ceiling)
	var e *protocol.Error
	switch {
	case errors.As(err, &e) && e.Code == protocol.CodeNotLeader:
		if e.Leader == "" {
			return pause, true // an election: the next may know
		}
		c.SetLeader(e.Leader)
		if try < 3 {
			return 0, true
		}
		return pause, true
	case errors.As(err, &e) && e.Code == protocol.CodeUnknown:
		// A coordinator answers, and has no leader yet: that is a matter of seconds.
		return max(min(pause, rand.N(electionPause)), e.RetryAfter.Duration()), idempotent
	case errors.As(err, &e):
		return max(pause, e.RetryAfter.Duration()), idempotent && e.Code.Retryable()
	case untrusted(err), errors.Is(err, errClosed):
		return 0, false
	}
	return pause, idempotent
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) once(ctx context.Context, method, path string, f form, header http.Header, body []byte, hasBody bool, out any) error {
	var reader io.Reader
	if hasBody {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, path, reader)
	if err != nil {
		return err
	}
	r.Header = header.Clone()
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := ResponseError(resp); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	// Read to the end in any case: a connection is used again only then.
	answer, err := protocol.ReadUpTo(resp.Body, resp.ContentLength, maxReply)
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: read answer: %w", method, path, err)
	case out == nil || resp.StatusCode == http.StatusNoContent:
		return nil
	case len(answer) > maxReply:
		return fmt.Errorf("%s %s: answer of more than %d bytes", method, path, maxReply)
	case mediaType(resp.Header) != f.mediaType:
		return fmt.Errorf("%s %s: answer of type %q, want %s", method, path, mediaType(resp.Header), f.mediaType)
	}
	if err := f.unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: decode answer: %w", method, path, err)
	}
	return nil
}

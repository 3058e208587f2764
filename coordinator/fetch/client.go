package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"floe/protocol"
)

// Errors of fetching. Those that wrap ErrRefused stay however often it is repeated.
var (
	// ErrRefused: a rule of the cluster, or of the request, forbids it.
	ErrRefused = errors.New("refused")
	// ErrNotThere: the host answers, and has no such file, repository, tag or commit.
	ErrNotThere = errors.New("not there")
	// ErrTooLarge: more bytes or files than are fetched.
	ErrTooLarge = errors.New("too large")
	// ErrChanged: the bytes are not those that were declared.
	ErrChanged = errors.New("not what was declared")
	// ErrBusy: too many at once, or too many by one person; later will do.
	ErrBusy = errors.New("busy")
)

// maxRedirects is how often a client is sent on. Source: research T18.
const maxRedirects = 3

type plainKey struct{}

// plainHTTP marks requests that may go over http: their digest is declared.
func plainHTTP(ctx context.Context) context.Context { return context.WithValue(ctx, plainKey{}, true) }

func mayBePlain(ctx context.Context) bool {
	plain, _ := ctx.Value(plainKey{}).(bool)
	return plain
}

// newClient is the one way to the outside.
func newClient(hosts Hosts, roots *x509.CertPool, g *guard, limit protocol.ByteSize) *http.Client {
	t := &rules{hosts: hosts, limit: limit, next: &http.Transport{
		DialContext: g.DialContext, Proxy: nil, DisableCompression: true, ForceAttemptHTTP2: true,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10, MaxIdleConns: 16, MaxConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
	}}
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("%w: sent on more than %d times", ErrRefused, maxRedirects)
		}
		r.Header.Del("Referer")
		return nil // the rules look at every request, also this one
	}}
}

// rules holds every request and answer to what the cluster allows.
type rules struct {
	hosts Hosts
	limit protocol.ByteSize
	next  *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *rules) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.hosts.admit(r.URL, mayBePlain(r.Context())); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "floe/"+protocol.Version)
	r.Header.Set("Accept-Encoding", "identity")
	for _, secret := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		r.Header.Del(secret)
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %s answers in the coding %.40q, which was not asked for", ErrRefused, r.URL.Host, coding)
	}
	if resp.ContentLength > int64(t.limit) {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %d bytes, at most %d are fetched", ErrTooLarge, resp.ContentLength, int64(t.limit))
	}
	body := &limited{ReadCloser: resp.Body, left: int64(t.limit), limit: int64(t.limit)}
	body.session, _ = r.Context().Value(sessionKey{}).(*Session)
	resp.Body = body
	return resp, nil
}

// limited ends with ErrTooLarge where io.LimitReader would pretend to be at the end.
type limited struct {
	io.ReadCloser
	left, limit int64
	session     *Session // whose bytes are counted, too; nil for none
}

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, l.limit)
	}
	if l.session != nil {
		if spent := l.session.spend(int64(n)); spent != nil {
			return n, spent
		}
	}
	return n, err
}

// get asks for a file. The answer has the status 200.
func (s *Session) get(ctx context.Context, address string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	resp, err := s.fetcher.client.Do(r)
	if err != nil {
		return nil, unwrapURL(err)
	}
	if err := statusError(resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// statusError turns an answer that is none into an error and closes it.
func statusError(resp *http.Response) error {
	code := resp.StatusCode
	if code/100 == 2 {
		return nil
	}
	resp.Body.Close()
	switch code {
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%w: %s answers %s", ErrNotThere, resp.Request.URL.Host, resp.Status)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s answers %s; only what anybody may read is fetched", ErrNotThere, resp.Request.URL.Host, resp.Status)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s answers %s", ErrBusy, resp.Request.URL.Host, resp.Status)
	}
	return fmt.Errorf("%s answers %s", resp.Request.URL.Host, resp.Status)
}

// unwrapURL drops the method and URL that net/http puts before an error: the message
// has the address already.
func unwrapURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

package site

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"floe/cache"
	"floe/protocol"
)

// Config of a server.
type Config struct {
	Store *cache.Store
	// TLS is the server's side of transport.WithinSite.
	TLS *tls.Config
	// Blobs opens a blob of the coordinators; nil does without them. CodeNotFound says
	// that they have none.
	Blobs func(ctx context.Context, d protocol.Digest) (io.ReadCloser, error)
	// Origins are the only hosts, host or host:port, to fetch from; empty allows all but
	// addresses of the machine itself. A host that is listed may be one of those.
	Origins []string
	Logger  *slog.Logger
}

// Limits of a server.
const (
	// atOnce is how many requests are served at once; more are told to come again.
	atOnce = 512
	// mostOrigins is how many a request may name.
	mostOrigins = 4
	// stopWithin is how long requests under way may go on when the server stops.
	stopWithin = 30 * time.Second
	// idleClient is how long a connection may be idle.
	idleClient = 2 * time.Minute
)

// Server serves a cache to the pilots of a site.
type Server struct {
	config Config
	origin *origins
	slots  chan struct{}

	requests, refused, failed, busy, sent atomic.Uint64
}

// NewServer makes a server.
func NewServer(c Config) *Server {
	return &Server{config: c, origin: newOrigins(c.Origins), slots: make(chan struct{}, atOnce)}
}

// Run serves connections of l until ctx ends, and then lets requests under way finish.
// It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s, TLSConfig: s.config.TLS, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleClient, MaxHeaderBytes: 64 << 10,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/2 would be slower for files
		ErrorLog:     slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- h.ServeTLS(l, "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the site's cache: %w", err)
	case <-ctx.Done():
	}
	s.config.Logger.Info("stopping; requests under way may finish")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	if err := h.Shutdown(stopping); err != nil {
		s.config.Logger.Warn("requests were cut off", "err", err)
		_ = h.Close() // they were given their time
	}
	<-served
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.busy.Add(1)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
		return
	}
	e, err := s.entry(r)
	if err != nil {
		s.answer(w, r, err)
		return
	}
	defer e.Release()
	f, err := os.Open(e.Path)
	if err != nil {
		s.answer(w, r, err)
		return
	}
	defer f.Close()
	w.Header().Set("ETag", strconv.Quote(e.Digest.Hex()))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(&counting{w, &s.sent}, r, "", time.Time{}, f)
}

// refusal is an error that is the client's.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// entry finds what a request asks for, here or at its origins.
func (s *Server) entry(r *http.Request) (*cache.Entry, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, refuse(http.StatusMethodNotAllowed, "%s: want GET", r.Method)
	}
	name, ok := cutBlob(r.URL.Path)
	d, err := protocol.ParseDigest(name)
	if !ok || err != nil || d.IsZero() {
		return nil, refuse(http.StatusNotFound, "%s: want /v1/blobs/ and a SHA-256", r.URL.Path)
	}
	asked := r.URL.Query()["origin"]
	if len(asked) > mostOrigins {
		return nil, refuse(http.StatusBadRequest, "%d origins, limit %d", len(asked), mostOrigins)
	}
	var sources []cache.Source
	if s.config.Blobs != nil {
		sources = append(sources, cache.Source{Name: "coordinators", Open: func(ctx context.Context) (io.ReadCloser, error) {
			b, err := s.config.Blobs(ctx, d)
			if protocol.CodeOf(err) == protocol.CodeNotFound {
				err = fmt.Errorf("%w: %w", cache.ErrNoSource, err)
			}
			return b, err
		}})
	}
	for _, text := range asked {
		u, err := s.origin.check(text)
		if err != nil {
			return nil, err
		}
		sources = append(sources, cache.Source{Name: u.Host, Open: func(ctx context.Context) (io.ReadCloser, error) { return s.origin.open(ctx, u) }})
	}
	return s.config.Store.Blob(r.Context(), d, sources)
}

func cutBlob(path string) (string, bool) {
	const prefix = "/v1/blobs/"
	if len(path) <= len(prefix) || path[:len(prefix)] != prefix {
		return "", false
	}
	return path[len(prefix):], true
}

// answer says why there is nothing.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, err error) {
	var no *refusal
	status := http.StatusBadGateway
	switch {
	case errors.As(err, &no):
		status = no.status
		s.refused.Add(1)
	case errors.Is(err, cache.ErrNoSource):
		status = http.StatusNotFound
		s.refused.Add(1)
	case errors.Is(err, cache.ErrNoSpace):
		status = http.StatusInsufficientStorage
		s.failed.Add(1)
	case r.Context().Err() != nil:
		return // nobody hears it
	default:
		s.failed.Add(1)
	}
	s.config.Logger.Warn("not given", "path", r.URL.Path, "status", status, "err", err)
	http.Error(w, err.Error(), status)
}

// counting counts what is sent.
type counting struct {
	http.ResponseWriter
	n *atomic.Uint64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(uint64(n))
	return n, err
}

// redacted is a URL as it may be shown: presigned ones hold a secret.
func redacted(u *url.URL) string {
	v := *u
	if v.RawQuery != "" {
		v.RawQuery = "…"
	}
	return v.Redacted()
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"floe/cache"
	"floe/cache/site"
	"floe/glidein"
	"floe/protocol"
	"floe/protocol/transport"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func serveCacheCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Serve a cache for all nodes of a site until told to end", Args: exactArgs(),
		Long: "Fetch software and inputs once for all nodes of a site, and give them to its pilots. One process,\n" +
			"on a machine that the nodes can reach; it needs no root. Pilots find it by site_cache in site.toml.",
		RunE: func(c *cobra.Command, _ []string) error { return serveCache(c) },
	}
	f := c.Flags()
	f.String("site", ".", "the site's directory, from floe site join")
	f.String("dir", "", "the cache's directory; default: site-cache in the site's directory")
	f.String("quota", "0", "what the cache may hold, as 500GB; 0 is no bound but the disk")
	f.String("listen", ":4480", "host:port to listen on for pilots")
	f.StringSlice("origin", nil, "a host, or host:port, to fetch from; default: any but addresses of this machine itself")
	f.String("metrics", "", "host:port to serve figures on to Prometheus, without encryption; default: none")
	logLevelFlag(c)
	return c
}

// siteServing is a site's cache being served.
type siteServing struct {
	link   *siteLink
	dir    string
	known  atomic.Pointer[[]*x509.Certificate] // authorities of the cluster
	logger *slog.Logger
}

func serveCache(c *cobra.Command) error {
	f := c.Flags()
	text := func(name string) string { s, _ := f.GetString(name); return s }
	level, err := logLevel(c)
	if err != nil {
		return err
	}
	var quota glidein.Size
	if err := quota.UnmarshalText([]byte(text("quota"))); err != nil {
		return usageErrorf("quota: %v", err)
	}
	only, _ := f.GetStringSlice("origin")
	logger := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	s := &siteServing{dir: text("site"), logger: logger}
	if s.link, err = openSite(s.dir, logger); err != nil {
		return err
	}
	defer s.link.Close()
	dir := text("dir")
	if dir == "" {
		dir = filepath.Join(s.dir, "site-cache")
	}
	store, err := cache.Open(cache.Config{Dir: dir, Quota: protocol.ByteSize(quota), Logger: logger})
	if err != nil {
		return err
	}
	defer store.Close()
	s.remember()
	id := s.link.known.Site
	within := transport.WithinSite{
		Cluster: s.link.known.Cluster, Site: func() protocol.SiteID { return id },
		Certificate: func() (*tls.Certificate, error) { return s.link.cert.Load(), nil },
		Authorities: func() []*x509.Certificate { return *s.known.Load() },
	}
	server := site.NewServer(site.Config{Store: store, TLS: within.Server(), Blobs: s.blob, Origins: only, Logger: logger})
	return s.run(c.Context(), server, store, text("listen"), text("metrics"))
}

func (s *siteServing) run(ctx context.Context, server *site.Server, store *cache.Store, listen, metrics string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if metrics != "" {
		figures, err := net.Listen("tcp", metrics)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		h := &http.Server{Handler: server.Metrics(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug)}
		g.Go(func() error {
			if err := h.Serve(figures); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		context.AfterFunc(ctx, func() { _ = h.Close() }) // figures need no good-bye
	}
	g.Go(func() error { return server.Run(ctx, l) })
	g.Go(func() error { store.Scrub(ctx); return nil })
	g.Go(func() error { s.keep(ctx); return nil })
	s.logger.Info("serving the site's cache", "site", s.link.known.Site, "address", l.Addr().String())
	return g.Wait()
}

// blob opens a blob of the coordinators.
func (s *siteServing) blob(ctx context.Context, d protocol.Digest) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/blobs/"+d.Hex(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.link.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := transport.ResponseError(resp); err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// How often the coordinators are asked for a newer certificate, and how soon again
// when none answered.
const (
	keepEvery = time.Hour
	keepSoon  = 10 * time.Second
)

// keep renews the site's certificate, and learns who signs those of pilots.
func (s *siteServing) keep(ctx context.Context) {
	for {
		next := keepEvery
		if err := s.refresh(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			next = keepSoon
			if len(*s.known.Load()) > 0 {
				next = keepEvery / 12
			}
			s.logger.Warn("no coordinator answered; what is known of the cluster stays in use", "err", err)
		}
		wait := time.NewTimer(next)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

func (s *siteServing) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var cluster struct{}
	if err := s.link.CallJSON(ctx, http.MethodGet, "/v1/cluster", nil, &cluster, transport.Idempotent()); err != nil {
		return err
	}
	if err := s.link.renew(ctx); err != nil {
		return err
	}
	if found := s.link.Authorities(); len(found) > 0 {
		s.known.Store(&found)
		return renameio.WriteFile(s.authoritiesFile(), encodeCertificates(found), 0o600)
	}
	return nil
}

// authoritiesFile keeps who signs certificates of the cluster, for a start without
// coordinators.
func (s *siteServing) authoritiesFile() string { return filepath.Join(s.dir, "authorities.pem") }

// remember reads what an earlier process has learnt.
func (s *siteServing) remember() {
	known := []*x509.Certificate{}
	b, err := os.ReadFile(s.authoritiesFile())
	if err != nil && !os.IsNotExist(err) {
		s.logger.Warn("who signs certificates is asked anew", "err", err)
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			s.logger.Warn("who signs certificates is asked anew", "err", fmt.Errorf("%s: %w", s.authoritiesFile(), err))
			known = known[:0]
			break
		}
		known = append(known, cert)
	}
	s.known.Store(&known)
}

func encodeCertificates(all []*x509.Certificate) (out []byte) {
	for _, c := range all {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

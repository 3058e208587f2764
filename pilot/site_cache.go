package pilot

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"floe/cache"
	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/transport"
)

// Site is the site's cache at an address, https://host:port, for a pilot with this
// link's certificate. It can be asked once the pilot has enrolled.
func (l *Link) Site(address string) (cache.Site, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("site cache %q: want https://host:port", address)
	}
	within := transport.WithinSite{
		Cluster: l.ticket.Cluster, Certificate: l.certificate,
		Site: func() protocol.SiteID {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.site
		},
		Authorities: func() []*x509.Certificate {
			if of := l.client.Authorities(); len(of) > 0 {
				return of
			}
			return l.enroler.Authorities()
		},
	}
	return &siteCache{
		host: u.Host,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
				TLSClientConfig: within.Client(), TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: siteHeadWithin,
				MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// How long a site's cache is waited for.
const (
	// siteHeadWithin is how long it may take until the first byte: it fetches all of a
	// file before it gives any.
	siteHeadWithin = 10 * time.Minute
	siteBusyFor    = 5 * time.Minute
	siteRetries    = 3
	// siteRest is how long a site's cache that could not be reached is left alone.
	siteRest = 2 * time.Minute
)

// siteCache asks a site's cache (cache.Site).
type siteCache struct {
	host   string
	client *http.Client

	mu    sync.Mutex
	until time.Time // it is left alone until then; guarded by mu
}

// Fetch implements cache.Site.
func (s *siteCache) Fetch(ctx context.Context, d protocol.Digest, origins []string) (io.ReadCloser, error) {
	s.mu.Lock()
	resting := time.Now().Before(s.until)
	s.mu.Unlock()
	if resting {
		return nil, fmt.Errorf("%w: %s could not be reached a moment ago", cache.ErrNoSource, s.host)
	}
	address := (&url.URL{
		Scheme: "https", Host: s.host, Path: "/v1/blobs/" + d.Hex(), RawQuery: url.Values{"origin": origins}.Encode(),
	}).String()
	return stage.Resume(ctx, siteRetries, func(from int64) (io.ReadCloser, int64, error) {
		resp, err := s.ask(ctx, address, from)
		if err != nil {
			return nil, 0, err
		}
		if from > 0 && resp.StatusCode != http.StatusPartialContent {
			resp.Body.Close()
			return nil, 0, fmt.Errorf("%s gives no ranges", s.host)
		}
		return resp.Body, resp.ContentLength, nil
	})
}

// ask sends one request, again while the site's cache is busy.
func (s *siteCache) ask(ctx context.Context, address string, from int64) (*http.Response, error) {
	for patience := time.Now().Add(siteBusyFor); ; {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		if from > 0 {
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		}
		resp, err := s.client.Do(r)
		if err != nil {
			if ctx.Err() == nil {
				s.mu.Lock()
				s.until = time.Now().Add(siteRest)
				s.mu.Unlock()
			}
			var of *url.Error
			if errors.As(err, &of) {
				err = of.Err // without the origins, which may hold secrets
			}
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusOK, http.StatusPartialContent:
			return resp, nil
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // it is only said
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable && time.Now().Before(patience) {
			wait := time.NewTimer(5 * time.Second)
			select {
			case <-wait.C:
				continue
			case <-ctx.Done():
				wait.Stop()
				return nil, ctx.Err()
			}
		}
		err = fmt.Errorf("%s: %.200q", resp.Status, text)
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusForbidden {
			err = fmt.Errorf("%w: %w", cache.ErrNoSource, err)
		}
		return nil, err
	}
}

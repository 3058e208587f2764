package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"floe/cache"
	"floe/protocol"
)

// origins fetches from where pilots would fetch themselves.
type origins struct {
	only   []string // hosts; empty for all
	client *http.Client
}

// How an origin may behave.
const (
	mostRedirects = 3
	headWithin    = time.Minute
	// silentFor is how long an origin may send nothing in the middle of a file.
	silentFor = time.Minute
)

func newOrigins(only []string) *origins {
	o := &origins{only: only}
	dialer := &net.Dialer{Timeout: 30 * time.Second, ControlContext: o.mayConnect}
	o.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: headWithin, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			DisableCompression: true, // the bytes are known by their digest as they are
		},
		CheckRedirect: func(r *http.Request, before []*http.Request) error {
			if len(before) > mostRedirects {
				return fmt.Errorf("more than %d redirects", mostRedirects)
			}
			if before[len(before)-1].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("redirected from https to http")
			}
			_, err := o.check(r.URL.String())
			return err
		},
	}
	return o
}

// check refuses an origin that is not fetched from here.
func (o *origins) check(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "a malformed origin")
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "":
		return nil, refuse(http.StatusForbidden, "origin %s: want https or http", redacted(u))
	case len(o.only) > 0 && !o.listed(u):
		return nil, refuse(http.StatusForbidden, "origin %s: not one of this site's origins %q", redacted(u), o.only)
	}
	return u, nil
}

// listed tells whether a URL's host is listed.
func (o *origins) listed(u *url.URL) bool {
	return slices.Contains(o.only, u.Hostname()) || slices.Contains(o.only, u.Host)
}

// mayConnect refuses addresses of the machine itself and of its link, whatever name
// led there. Where origins are listed, people have chosen.
func (o *origins) mayConnect(_ context.Context, _, address string, _ syscall.RawConn) error {
	if len(o.only) > 0 {
		return nil
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := a.Addr().Unmap()
	if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsInterfaceLocalMulticast() {
		return fmt.Errorf("%v is an address of this machine or its link; list the origin to allow it", ip)
	}
	return nil
}

// open begins to fetch.
func (o *origins) open(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp, err := o.client.Do(r)
	if err != nil {
		cancel(nil)
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err // without the URL, which may hold a secret
		}
		return nil, fmt.Errorf("GET %s: %w", redacted(u), err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		cancel(nil)
		err := fmt.Errorf("GET %s: %s", redacted(u), resp.Status)
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
			err = fmt.Errorf("%w: %w", cache.ErrNoSource, err)
		}
		return nil, err
	}
	b := &body{ReadCloser: resp.Body, cancel: cancel, size: protocol.ByteSize(max(resp.ContentLength, 0))}
	b.silence = time.AfterFunc(silentFor, func() { cancel(fmt.Errorf("%s sent nothing for %v", u.Host, silentFor)) })
	return b, nil
}

// body is a file that must keep coming.
type body struct {
	io.ReadCloser
	cancel  context.CancelCauseFunc
	silence *time.Timer
	size    protocol.ByteSize
}

// Size is what the origin announced.
func (b *body) Size() protocol.ByteSize { return b.size }

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.silence.Reset(silentFor)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.silence.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

func (d *dialer) connect(ctx context.Context, rung Rung, address string) (net.Conn, error) {
	dial := d.config.DialTCP
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if rung != RungProxy {
		return dial(ctx, "tcp", address)
	}
	proxy, err := d.proxyFor(address)
	if err != nil {
		return nil, err
	}
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	// The tunnel's own deadline: CONNECT is read without a context.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := openTunnel(conn, proxy, address)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	return tunnel, nil
}

// proxyFor returns nil without an error where there is no proxy for the address.
func (d *dialer) proxyFor(address string) (*url.URL, error) {
	if d.config.Proxy == nil {
		return nil, nil
	}
	u, err := d.config.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
	if err != nil {
		return nil, fmt.Errorf("https_proxy: %w", err)
	}
	if u != nil && u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("https_proxy %s: scheme %q, want http or https", u.Host, u.Scheme)
	}
	return u, nil
}

// openTunnel asks a proxy to connect to the address. The proxy sees ciphertext
// only: pins and client certificates work end to end.
func openTunnel(conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	if proxy.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
	}
	request := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return nil, err
	}
	const maxReply = 16 << 10
	in := bufio.NewReader(&io.LimitedReader{R: conn, N: maxReply})
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // the answer to CONNECT has none
	switch {
	case err != nil:
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("connect to %s: %s", address, resp.Status)
	case in.Buffered() > 0: // in TLS the client speaks first
		return nil, fmt.Errorf("connect to %s: the far side spoke first", address)
	}
	return conn, nil
}

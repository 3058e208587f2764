package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// connect opens the bytes to an address, by the rung's way. The caller speaks TLS over
// them.
func (d *dialer) connect(ctx context.Context, rung Rung, address string) (net.Conn, error) {
	switch rung {
	case RungProxy:
		proxy, err := d.proxyFor(address)
		if err != nil {
			return nil, err
		}
		return throughProxy(ctx, d.tcp(), proxy, address)
	case RungRelay:
		return d.config.Relay.Tunnel(ctx, d.config.DialTCP, address, d.suggested)
	}
	return d.tcp()(ctx, "tcp", address)
}

// dialFunc opens a TCP connection.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (d *dialer) tcp() dialFunc {
	if d.config.DialTCP != nil {
		return d.config.DialTCP
	}
	return new(net.Dialer).DialContext
}

// DialOut connects to an address as this machine reaches the outside: through the proxy
// that find names for it (as http.ProxyFromEnvironment does), directly where there is
// none.
func DialOut(ctx context.Context, find func(*http.Request) (*url.URL, error), address string) (net.Conn, error) {
	dial := new(net.Dialer).DialContext
	proxy, err := proxyOf(find, address)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return dial(ctx, "tcp", address)
	}
	return throughProxy(ctx, dial, proxy, address)
}

func throughProxy(ctx context.Context, dial dialFunc, proxy *url.URL, address string) (net.Conn, error) {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	if proxy.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
	}
	header := http.Header{}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if _, err = openTunnel(ctx, conn, address, header); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	return conn, nil
}

// proxyFor returns nil without an error where there is no proxy for the address.
func (d *dialer) proxyFor(address string) (*url.URL, error) { return proxyOf(d.config.Proxy, address) }

func proxyOf(find func(*http.Request) (*url.URL, error), address string) (*url.URL, error) {
	if find == nil {
		return nil, nil
	}
	u, err := find(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
	if err != nil { // without its text, which may hold a password: it is told to others
		return nil, errors.New("https_proxy: not the URL of a proxy")
	}
	if u != nil && u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("https_proxy %s: scheme %q, want http or https", u.Host, u.Scheme)
	}
	return u, nil
}

// openTunnel asks who is at the other end to connect to the address. A proxy sees
// ciphertext only: pins and client certificates work end to end. The header of an answer
// is returned also where it is a refusal.
func openTunnel(ctx context.Context, conn net.Conn, address string, header http.Header) (http.Header, error) {
	// CONNECT is read without a context: the deadline ends it.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	answer, err := askTunnel(conn, address, header)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	return answer, err
}

func askTunnel(conn net.Conn, address string, header http.Header) (http.Header, error) {
	request := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	for name, values := range header {
		request += name + ": " + values[0] + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return nil, err
	}
	const maxReply = 16 << 10
	in := bufio.NewReader(&io.LimitedReader{R: conn, N: maxReply})
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // it is the tunnel
	switch {
	case err != nil:
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	case resp.StatusCode != http.StatusOK:
		const mostSaid = 300
		if resp.ContentLength > 0 && resp.ContentLength <= mostSaid && resp.Header.Get("Content-Type") == relayText {
			said, _ := io.ReadAll(resp.Body) // it is only said
			return resp.Header, fmt.Errorf("connect to %s: %s: %q", address, resp.Status, strings.TrimSpace(string(said)))
		}
		return resp.Header, fmt.Errorf("connect to %s: %s", address, resp.Status)
	case in.Buffered() > 0: // in TLS the client speaks first
		return nil, fmt.Errorf("connect to %s: the far side spoke first", address)
	}
	return resp.Header, nil
}

// relayText is the type of a refusal that is meant for people: a proxy's is a page.
const relayText = "text/plain; charset=utf-8"

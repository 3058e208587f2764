package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// client asks coordinators as an administrator.
type client struct{ *transport.Client }

// newClient speaks to the addresses given, or to all the token names.
func newClient(token protocol.Token, addresses ...string) (*client, error) {
	if len(addresses) == 0 {
		addresses = token.Addresses
	}
	c, err := transport.NewClient(transport.ClientConfig{
		Cluster: token.Cluster, Addresses: addresses, Pins: []protocol.Digest{token.Pin},
		Bearer: token.Credential, UserAgent: "floe-chaos", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	return &client{c}, nil
}

// until repeats a request until it is answered: its fate is then known.
func (c *client) until(ctx context.Context, method, path string, in, out any) error {
	return c.CallJSON(ctx, method, path, in, out, transport.Idempotent())
}

// get asks once.
func (c *client) get(ctx context.Context, path string, out any) error {
	_, err := c.read(ctx, path, out)
	return err
}

// read asks once, and tells whether the answer is marked as possibly old.
func (c *client) read(ctx context.Context, path string, out any) (stale bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Accept", transport.TypeJSON)
	resp, err := c.Do(ctx, r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	stale = resp.Header.Get("Floe-Stale") != "" // so may a refusal be
	if err := transport.ResponseError(resp); err != nil {
		return stale, err
	}
	return stale, json.NewDecoder(resp.Body).Decode(out)
}

// fresh asks until an answer comes that is not marked as possibly old.
func (c *client) fresh(ctx context.Context, path string, out any) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 20*time.Second)
		stale, err := c.read(attempt, path, out)
		cancel()
		if err == nil && !stale {
			return nil
		}
		if protocol.CodeOf(err) == protocol.CodeNotFound && !stale {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("GET %s: %w; before that: %w", path, ctx.Err(), err)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// figures are what a coordinator says of itself to Prometheus, by name.
func (c *client) figures(ctx context.Context) (map[string]float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := transport.ResponseError(resp); err != nil {
		return nil, err
	}
	all := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			all[name] = v
		}
	}
	return all, lines.Err()
}

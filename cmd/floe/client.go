package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"floe/protocol"
	"floe/protocol/transport"

	"github.com/spf13/cobra"
)

// client asks coordinators as a person.
type client struct{ *transport.Client }

// dial makes a client from the token that the environment or a file holds. The
// token says where the cluster is and how to know it.
func dial(c *cobra.Command) (*client, error) {
	token, err := personToken()
	if err != nil {
		return nil, err
	}
	t, err := transport.NewClient(transport.ClientConfig{
		Cluster: token.Cluster, Addresses: token.Addresses, Pins: []protocol.Digest{token.Pin},
		Bearer: token.Credential, Proxy: http.ProxyFromEnvironment, DisableQUIC: os.Getenv("FLOE_TCP") != "",
		UserAgent: "floe/" + protocol.Version, Logger: clientLogger(),
	})
	if err != nil {
		return nil, err
	}
	return &client{t}, nil
}

// withClient opens a client and the printer that -o chooses, and runs a verb with both.
func withClient(c *cobra.Command, verb func(*printer, *client) error) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	api, err := dial(c)
	if err != nil {
		return err
	}
	defer api.Close()
	return verb(p, api)
}

// clientLogger says which way is used only to those who ask for it.
func clientLogger() *slog.Logger {
	if os.Getenv("FLOE_DEBUG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// personToken reads FLOE_TOKEN, the file FLOE_TOKEN_FILE names, or the token of
// the user's configuration directory.
func personToken() (protocol.Token, error) {
	text, from := os.Getenv("FLOE_TOKEN"), "FLOE_TOKEN"
	if text == "" {
		file := os.Getenv("FLOE_TOKEN_FILE")
		if file == "" {
			file = tokenFile()
		}
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return protocol.Token{}, withExit(exitDenied, fmt.Errorf("no token: set FLOE_TOKEN or FLOE_TOKEN_FILE, or put one into %s", file))
		}
		if err != nil {
			return protocol.Token{}, err
		}
		text, from = string(b), file
	}
	t, err := protocol.ParseToken(text)
	if err != nil {
		return t, usageErrorf("%s: %v", from, err)
	}
	if t.Role != protocol.TokenUser {
		return t, usageErrorf("%s: a token for a %v, not for a person", from, t.Role)
	}
	if len(t.Addresses) == 0 {
		return t, usageErrorf("%s: the token names no address", from)
	}
	return t, nil
}

func tokenFile() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		dir = "."
	}
	return filepath.Join(dir, "floe", "token")
}

// callLimit is how long one request may take, repetitions while a leader is
// elected included; reachLimit how long to try when no coordinator answers at all.
const (
	callLimit  = 60 * time.Second
	reachLimit = 10 * time.Second
)

// call sends a request in JSON. All of them are idempotent: queries by nature,
// submissions by their key, actions by what they say.
func (a *client) call(ctx context.Context, method, path string, in, out any) error {
	return a.callWithin(ctx, callLimit, method, path, in, out)
}

// callWithin is call for what may take longer.
func (a *client) callWithin(ctx context.Context, limit time.Duration, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := a.CallJSON(ctx, method, path, in, out, transport.Idempotent(), transport.Patience(reachLimit))
	var refused *protocol.Error
	if errors.As(err, &refused) && len(refused.Details) > 0 {
		return &detailedError{err, refused.Details}
	}
	return reachable(err)
}

// reachable gives errors of the network the exit code for it.
func reachable(err error) error {
	var refused *protocol.Error
	if err == nil || errors.As(err, &refused) || errors.Is(err, context.Canceled) {
		return err
	}
	return withExit(exitUnreachable, err)
}

// detailedError shows every problem that a refusal lists.
type detailedError struct {
	error
	details []string
}

func (d *detailedError) Error() string {
	return d.error.Error() + "\n" + strings.Join(d.details, "\n")
}

func (d *detailedError) Unwrap() error { return d.error }

// fetch gets a body that is not JSON. The caller closes it.
func (a *client) fetch(ctx context.Context, path string) (http.Header, io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := a.Do(ctx, r)
	if err != nil {
		return nil, nil, reachable(err)
	}
	if err := transport.ResponseError(resp); err != nil {
		return nil, nil, err
	}
	return resp.Header, resp.Body, nil
}

// stream opens server-sent events.
func (a *client) stream(ctx context.Context, path string) (io.ReadCloser, error) {
	_, body, err := a.fetch(ctx, path)
	return body, err
}

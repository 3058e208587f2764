package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"floe/pilot"
	"floe/pilot/hardware"
	"floe/pilot/payload"
	"floe/protocol"
	"floe/protocol/transport"
)

// crowdCommand makes the test binary many pilots in one process: real ones, on a node
// that is described instead of measured.
const crowdCommand = "crowd-of-pilots"

// crowd runs what is asked of such a process: "tickets SITE N" prints launch grants of a
// site, "metrics" prints a coordinator's figures, "pilots FILE DIR" has one pilot for each of them work in a directory.
func crowd(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	offer := protocol.Resources{Cores: 1, Memory: protocol.GB, Disk: protocol.GB, OS: "linux-x86_64", Remaining: 3600}
	if args[0] == "metrics" {
		return showMetrics(ctx)
	}
	if args[0] == "tickets" {
		var n uint32
		if _, err := fmt.Sscan(args[2], &n); err != nil {
			return err
		}
		site, err := openSite(args[1], logger)
		if err != nil {
			return err
		}
		defer site.Close()
		// No shape may have more than ten pilot jobs that have not proven themselves.
		request := &protocol.LaunchRequest{Version: protocol.Version}
		for ; n > 0; n -= min(n, 10) {
			request.Shapes = append(request.Shapes, protocol.LaunchShape{Name: fmt.Sprint("shape-", n), Offer: offer, Room: min(n, 10)})
		}
		reply, err := site.Launch(ctx, request)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(reply.Grants)
	}
	b, err := os.ReadFile(args[1])
	var grants []protocol.LaunchGrant
	if err == nil {
		err = json.Unmarshal(b, &grants)
	}
	if err != nil {
		return err
	}
	var working sync.WaitGroup
	for _, g := range grants {
		ticket, err := protocol.ParseToken(g.Ticket)
		if err != nil {
			return err
		}
		dir := filepath.Join(args[2], string(g.Launch))
		working.Go(func() {
			if err := pilot.Run(ctx, pilot.Config{
				Link:   pilot.LinkConfig{Ticket: ticket, Proxy: http.ProxyFromEnvironment, Logger: logger},
				Launch: g.Launch, Scratch: filepath.Join(dir, "scratch"), Cache: filepath.Join(dir, "cache"), Spool: filepath.Join(dir, "spool"),
				Idle: 10 * time.Minute, Isolation: payload.IsolationNone, Logger: logger,
				Measure: func(context.Context, hardware.Options) (protocol.Resources, hardware.Report) {
					return offer, hardware.Report{}
				},
			}); err != nil {
				logger.Error("pilot", "launch", g.Launch, "err", err)
			}
		})
	}
	working.Wait()
	return nil
}

func showMetrics(ctx context.Context) error {
	api, err := dial(nil)
	if err != nil {
		return err
	}
	defer api.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := api.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := transport.ResponseError(resp); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

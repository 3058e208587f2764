package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"floe/coordinator/auth"
	"floe/protocol"
	"floe/protocol/transport"
)

// bareBytes is about the size of an exchange of one task, in either direction.
const bareBytes = 600

// bare is what HTTP/3 alone can do.
type bare struct {
	perSecond float64
	cpu       time.Duration // of both sides, per round trip
}

// bareTrips measures HTTP/3 round trips of some connections to a process that
// answers every request with as many bytes: floe's transport with nothing behind it.
func bareTrips(ctx context.Context, r *run, connections int, d time.Duration) (bare, error) {
	dir, err := os.MkdirTemp(r.dir, "bare-")
	if err != nil {
		return bare{}, err
	}
	cluster, err := auth.InitCluster(dir, "bare", "c1")
	if err != nil {
		return bare{}, err
	}
	port, err := freePorts()
	if err != nil {
		return bare{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return bare{}, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	server, err := startProcess(filepath.Join(r.dir, "bare.log"), nil, self, echoCommand, dir, address)
	if err != nil {
		return bare{}, err
	}
	defer server.kill()
	var work sync.WaitGroup
	defer work.Wait()
	working, stop := context.WithCancel(ctx)
	defer stop()
	var trips atomic.Int64
	payload := make([]byte, bareBytes)
	for range connections {
		client, err := transport.NewClient(transport.ClientConfig{
			Cluster: cluster.Name(), Addresses: []string{address}, Pins: []protocol.Digest{cluster.Pin()}, Logger: quiet,
			HeadStart: onlyHTTP3,
		})
		if err != nil {
			return bare{}, err
		}
		work.Go(func() {
			defer client.Close()
			for working.Err() == nil {
				if err := trip(working, client, payload); err != nil {
					pause(working, retryPause)
					continue
				}
				trips.Add(1)
			}
		})
	}
	pause(ctx, time.Second)
	before, err := usageOf("self")
	if err != nil {
		return bare{}, err
	}
	used, first, began := server.usage(), trips.Load(), time.Now()
	pause(ctx, d)
	n, took := trips.Load()-first, time.Since(began)
	after, err := usageOf("self")
	if err != nil || n == 0 {
		return bare{}, fmt.Errorf("no bare round trip in %v: %w: %s", took, err, server.said())
	}
	cpu := after.CPU - before.CPU + server.usage().CPU - used.CPU
	return bare{float64(n) / took.Seconds(), cpu / time.Duration(n)}, ctx.Err()
}

func trip(ctx context.Context, c *transport.Client, payload []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/echo", bytes.NewReader(payload))
	if err != nil {
		return err
	}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// echoCommand makes this program the other side of bareTrips.
const echoCommand = "serve-echo"

// serveEcho answers until ctx ends.
func serveEcho(ctx context.Context, dir, address string) error {
	cluster, err := auth.LoadCluster(dir)
	if err != nil {
		return err
	}
	s, err := transport.NewServer(transport.ServerConfig{
		Cluster: cluster.Name(), Addr: address, Certificate: cluster.ServerCertificate, ClientCAs: cluster.Issuers, Logger: quiet,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body) // a client that went away
		}),
	})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

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

	"golang.org/x/sync/errgroup"

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

// echo is a process that answers every request with as many bytes, and clients that
// are connected to it: floe's transport with nothing behind it.
type echo struct {
	server  *process
	clients []*transport.Client
	payload []byte
}

func startEcho(ctx context.Context, r *run, connections int) (*echo, error) {
	dir, err := os.MkdirTemp(r.dir, "bare-")
	if err != nil {
		return nil, err
	}
	cluster, err := auth.InitCluster(dir, "bare", "c1")
	if err != nil {
		return nil, err
	}
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	e := &echo{payload: make([]byte, bareBytes)}
	if e.server, err = startProcess(filepath.Join(r.dir, "bare.log"), nil, self, echoCommand, dir, address); err != nil {
		return nil, err
	}
	for range connections {
		client, err := transport.NewClient(transport.ClientConfig{
			Cluster: cluster.Name(), Addresses: []string{address}, Pins: []protocol.Digest{cluster.Pin()}, Logger: quiet,
			HeadStart: onlyHTTP3,
		})
		if err != nil {
			e.close()
			return nil, err
		}
		e.clients = append(e.clients, client)
	}
	if err := e.connect(ctx); err != nil {
		e.close()
		return nil, fmt.Errorf("%w: %s", err, e.server.said())
	}
	return e, nil
}

// connect has every client ask once: handshakes are not what is measured.
func (e *echo) connect(ctx context.Context) error {
	connecting, ctx := errgroup.WithContext(ctx)
	connecting.SetLimit(connectAtOnce)
	for _, c := range e.clients {
		connecting.Go(func() error {
			err := trip(ctx, c, e.payload)
			for try := 0; err != nil && try < 50 && ctx.Err() == nil; try++ { // it may be starting
				pause(ctx, retryPause)
				err = trip(ctx, c, e.payload)
			}
			return err
		})
	}
	return connecting.Wait()
}

func (e *echo) close() {
	for _, c := range e.clients {
		c.Close()
	}
	e.server.kill()
}

// measure has all clients ask as fast as they can.
func (e *echo) measure(ctx context.Context, d time.Duration) (bare, error) {
	var work sync.WaitGroup
	defer work.Wait()
	working, stop := context.WithCancel(ctx)
	defer stop()
	var trips atomic.Int64
	for _, c := range e.clients {
		work.Go(func() {
			for working.Err() == nil {
				if err := trip(working, c, e.payload); err != nil {
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
	used, first, began := e.server.usage(), trips.Load(), time.Now()
	pause(ctx, d)
	n, took := trips.Load()-first, time.Since(began)
	after, err := usageOf("self")
	if err != nil || n == 0 {
		return bare{}, fmt.Errorf("no bare round trip in %v: %w: %s", took, err, e.server.said())
	}
	cpu := after.CPU - before.CPU + e.server.usage().CPU - used.CPU
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
		Limits: transport.Limits{Strangers: idlePilots, StrangersPerNet: idlePilots}, // these clients have no certificates
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body) // a client that went away
		}),
	})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

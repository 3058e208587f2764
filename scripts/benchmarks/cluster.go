package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// cluster is a set of coordinator processes on loopback, as operators start them.
type cluster struct {
	r     *run
	nodes []*node
	token protocol.Token // the first administrator's
	api   *transport.Client
	// timing is Raft's clock, as floe coordinator names it.
	timing string
	env    []string // more of it for coordinators
}

// node is one coordinator: its directory outlives its process.
type node struct {
	*process
	name, dir, address string
	debug              string // where it serves profiles
}

// startCluster founds a cluster of n coordinators with the clock of members in one
// machine room.
func startCluster(ctx context.Context, r *run, n int) (*cluster, error) {
	return startClusterTimed(ctx, r, n, "lan")
}

// startClusterTimed founds a cluster of n coordinators with a clock.
func startClusterTimed(ctx context.Context, r *run, n int, timing string, env ...string) (*cluster, error) {
	c := &cluster{r: r, timing: timing, env: env}
	if err := c.found(ctx, n); err != nil {
		c.close()
		return nil, fmt.Errorf("start %d coordinators: %w%s", n, err, c.lastWords())
	}
	return c, nil
}

func (c *cluster) found(ctx context.Context, n int) error {
	for i := range n {
		port, err := freePorts()
		if err != nil {
			return err
		}
		name, at := fmt.Sprintf("c%d", i+1), func(p int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p)) }
		c.nodes = append(c.nodes, &node{name: name, dir: filepath.Join(c.r.dir, name), address: at(port), debug: at(port + 2)})
	}
	first := c.nodes[0]
	if _, err := c.floe(ctx, "init", first.dir, "--name", "bench", "--address", first.address); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(first.dir, "admin.token"))
	if err != nil {
		return err
	}
	if c.token, err = protocol.ParseToken(string(text)); err != nil {
		return err
	}
	// Those that join vote soon with a short clock; then all get the one asked for.
	if err := c.start(ctx, first, "--timing", "loopback"); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	for _, x := range c.nodes[1:] {
		var invitation protocol.TokenReply
		if err := c.ask(ctx, http.MethodPost, "/v1/tokens", &protocol.TokenRequest{Role: "coordinator", Name: x.name}, &invitation); err != nil {
			return err
		}
		if err := c.start(ctx, x, "--timing", "loopback", "--join", invitation.Token); err != nil {
			return err
		}
	}
	if err := c.await(ctx, "all coordinators vote", c.allVote); err != nil {
		return err
	}
	for _, x := range c.nodes {
		x.end(10 * time.Second)
		x.process = nil
	}
	for _, x := range c.nodes {
		if err := c.start(ctx, x, "--timing", c.timing); err != nil {
			return err
		}
	}
	return c.await(ctx, "a leader", func(ctx context.Context) bool {
		leader, err := c.leader(ctx)
		return err == nil && leader != nil
	})
}

// start starts a coordinator and waits until it serves.
func (c *cluster) start(ctx context.Context, x *node, flags ...string) error {
	log := filepath.Join(c.r.dir, x.name+".log")
	_ = os.Remove(log) // of the time before, if it was there
	args := append([]string{"coordinator", x.dir, "--address", x.address, "--log-level", "warn", "--debug-listen", x.debug}, flags...)
	var err error
	if x.process, err = startProcess(log, c.env, filepath.Join(c.r.bin, "floe"), args...); err != nil {
		return err
	}
	return c.await(ctx, x.name+" to serve", func(ctx context.Context) bool {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", x.address)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

// connect makes the administrator's client, which knows all coordinators.
func (c *cluster) connect() (err error) {
	if c.api != nil {
		c.api.Close()
	}
	c.api, err = transport.NewClient(transport.ClientConfig{
		Cluster: c.token.Cluster, Addresses: c.addresses(), Pins: []protocol.Digest{c.token.Pin}, Bearer: c.token.Credential, Logger: quiet,
	})
	return err
}

func (c *cluster) addresses() []string {
	var all []string
	for _, x := range c.nodes {
		all = append(all, x.address)
	}
	return all
}

// quiet is the log of clients here: what matters comes back as an error.
var quiet = slog.New(slog.DiscardHandler)

// ask sends an administrator's request, again while its fate is unknown.
func (c *cluster) ask(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := c.api.CallJSON(ctx, method, path, in, out, transport.Idempotent())
	var refused *protocol.Error
	if errors.As(err, &refused) && len(refused.Details) > 0 {
		return fmt.Errorf("%w: %s", err, strings.Join(refused.Details, "; "))
	}
	return err
}

// floe runs a command of floe to its end.
func (c *cluster) floe(ctx context.Context, args ...string) (string, error) {
	text := output(ctx, filepath.Join(c.r.bin, "floe"), args...)
	if text == "unknown" {
		return "", fmt.Errorf("floe %s failed", args[0])
	}
	return text, nil
}

// status is what one coordinator says of the cluster.
func (c *cluster) status(ctx context.Context) (*protocol.ClusterReply, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	reply := new(protocol.ClusterReply)
	return reply, c.api.CallJSON(ctx, http.MethodGet, "/v1/cluster", nil, reply)
}

func (c *cluster) allVote(ctx context.Context) bool {
	s, err := c.status(ctx)
	if err != nil {
		return false
	}
	voters := 0
	for _, m := range s.Members {
		if m.Voter {
			voters++
		}
	}
	return voters == len(c.nodes) && s.Leader != ""
}

// leader is the node that leads; nil when there is none.
func (c *cluster) leader(ctx context.Context) (*node, error) {
	s, err := c.status(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range c.nodes {
		if protocol.NodeID(x.name) == s.Leader {
			return x, nil
		}
	}
	return nil, nil
}

// caughtUp tells whether a coordinator serves and has applied what its leader has.
func (c *cluster) caughtUp(ctx context.Context, x *node) bool {
	client, err := transport.NewClient(transport.ClientConfig{
		Cluster: c.token.Cluster, Addresses: []string{x.address}, Pins: []protocol.Digest{c.token.Pin}, Bearer: c.token.Credential, Logger: quiet,
	})
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	now, err := c.status(ctx)
	if err != nil || now.Leader == "" {
		return false
	}
	var own protocol.ClusterReply
	err = client.CallJSON(ctx, http.MethodGet, "/v1/cluster", nil, &own)
	return err == nil && own.Node == protocol.NodeID(x.name) && own.Leader == now.Leader && own.Applied >= now.Applied
}

// lookEvery is how often await looks.
const lookEvery = 50 * time.Millisecond

// await looks until a condition holds, or ctx ends, or a coordinator that was not
// told to has.
func (c *cluster) await(ctx context.Context, what string, holds func(context.Context) bool) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for !holds(ctx) {
		for _, x := range c.nodes {
			if x.process != nil {
				select {
				case <-x.ended:
					return fmt.Errorf("waiting for %s: %s ended with %v", what, x.name, x.state)
				default:
				}
			}
		}
		select {
		case <-tick.C:
		case <-late.C:
			return fmt.Errorf("waited a minute for %s", what)
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// submit submits a document with some jobs.
func (c *cluster) submit(ctx context.Context, document string, jobs uint32) (protocol.DatasetID, error) {
	var reply protocol.SubmitReply
	err := c.ask(ctx, http.MethodPost, "/v1/datasets", &protocol.SubmitRequest{Key: protocol.RandomText(10), Steering: document, Jobs: jobs}, &reply)
	return reply.Dataset, err
}

// act suspends, resumes or resets a dataset.
func (c *cluster) act(ctx context.Context, id protocol.DatasetID, action string) error {
	return c.ask(ctx, http.MethodPost, fmt.Sprintf("/v1/datasets/%d/actions", id), &protocol.ActionRequest{Action: action}, nil)
}

// dataset is what the cluster says of a dataset.
func (c *cluster) dataset(ctx context.Context, id protocol.DatasetID) (*protocol.Dataset, error) {
	d := new(protocol.Dataset)
	return d, c.ask(ctx, http.MethodGet, fmt.Sprintf("/v1/datasets/%d", id), nil, d)
}

// usage adds up what the coordinators have used.
func (c *cluster) usage() (sum usage) {
	for _, x := range c.nodes {
		u := x.process.usage()
		sum.CPU += u.CPU
		sum.RSS += u.RSS
		sum.Peak += u.Peak
		sum.Written += u.Written
	}
	return sum
}

// restless is for how long rest waits at most.
const restless = 30 * time.Second

// rest waits until the coordinators have done what an earlier load has left to them,
// such as sealing its history, so that it is not charged to the next.
func (c *cluster) rest(ctx context.Context) {
	for began := time.Now(); time.Since(began) < restless && ctx.Err() == nil; {
		before := c.usage().CPU
		if pause(ctx, time.Second); c.usage().CPU-before < 100*time.Millisecond {
			return
		}
	}
}

// lastWords are the ends of the coordinators' logs, for errors.
func (c *cluster) lastWords() string {
	var b strings.Builder
	for _, x := range c.nodes {
		if x.process == nil {
			continue
		}
		lines := strings.SplitAfter(x.said(), "\n")
		fmt.Fprintf(&b, "\n--- %s\n%s", x.name, strings.Join(lines[max(0, len(lines)-12):], ""))
	}
	return b.String()
}

// close ends the coordinators at once: their files are removed with the run.
func (c *cluster) close() {
	if c.api != nil {
		c.api.Close()
	}
	for _, x := range c.nodes {
		if x.process != nil {
			x.kill()
		}
	}
}

// freePorts finds a port that is free for TCP and UDP, whose next two are free for TCP.
// It stays below those the kernel gives to connections.
func freePorts() (int, error) {
	for range 200 {
		port := 20000 + 3*rand.IntN(4000)
		var held []io.Closer
		var errs []error
		hold := func(c io.Closer, err error) {
			if errs = append(errs, err); err == nil {
				held = append(held, c)
			}
		}
		for _, p := range []int{port, port + 1, port + 2} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
			hold(l, err)
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		hold(u, err)
		for _, h := range held {
			_ = h.Close()
		}
		if errors.Join(errs...) == nil {
			return port, nil
		}
	}
	return 0, errors.New("no free ports")
}

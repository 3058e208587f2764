package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"floe/coordinator"
	"floe/coordinator/auth"
	"floe/coordinator/fetch"
	"floe/coordinator/replica"
	"floe/coordinator/server"
	"floe/protocol"
	"floe/protocol/transport"

	"github.com/spf13/cobra"
)

func coordinatorCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "coordinator DIR", Short: "Run a coordinator until it is told to end", Args: exactArgs("DIR"),
		Long: "Run the coordinator whose keys and stores are in DIR, made by floe init, or by --join with\n" +
			"the token that an administrator made with: floe token create coordinator NAME",
		RunE: func(c *cobra.Command, args []string) error { return runCoordinator(c, args[0]) },
	}
	f := c.Flags()
	f.String("address", "localhost:4433", "host:port of the API, as others reach it")
	f.String("listen", "", "host:port to listen on for the API, UDP and TCP; default: the port of --address, all interfaces")
	f.String("raft-address", "", "host:port of Raft, as the other coordinators reach it; default: the port after --address")
	f.String("raft-listen", "", "host:port to listen on for Raft; default: the port of --raft-address, all interfaces")
	f.String("join", "", "join a cluster with this token; @FILE reads it from a file")
	f.String("timing", "wan", "Raft's clocks: wan, lan, or loopback for members on one machine")
	f.Duration("lease", 0, "how long a task's lease lasts without renewal (default 5m)")
	f.Int64("min-free", 0, "bytes of free disk below which it neither leads nor takes submissions (default: a tenth of the disk, 1 GiB to 10 GiB)")
	f.Int64("files-quota", 0, "bytes that steering files, modules and software may take together (default 50 GB)")
	f.Bool("tcp-only", false, "do not serve QUIC")
	logLevelFlag(c)
	fetchFlags(c, fetch.DefaultHosts)
	f.String("debug-listen", "", "host:port on loopback to serve profiles on, at /debug/pprof/; default: none")
	return c
}

var timings = map[string]func() replica.Timing{"wan": replica.DefaultTiming, "lan": replica.LANTiming, "loopback": replica.LoopbackTiming}

func runCoordinator(c *cobra.Command, dir string) error {
	f := c.Flags()
	text := func(name string) string { s, _ := f.GetString(name); return s }
	level, err := logLevel(c)
	if err != nil {
		return err
	}
	timing, ok := timings[text("timing")]
	if !ok {
		return usageErrorf("timing %q: want wan, lan or loopback", text("timing"))
	}
	logger := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	config := coordinator.Config{
		Dir: dir, Address: text("address"), Listen: text("listen"), RaftAddress: text("raft-address"), Raft: text("raft-listen"),
		Timing: timing(), Logger: logger,
	}
	free, _ := f.GetInt64("min-free")
	if free < 0 {
		return usageErrorf("min-free %d: want a number of bytes", free)
	}
	config.Disk.Low = protocol.ByteSize(free)
	quota, _ := f.GetInt64("files-quota")
	if quota < 0 {
		return usageErrorf("files-quota %d: want a number of bytes", quota)
	}
	config.FilesQuota = protocol.ByteSize(quota)
	if config.Modules, err = fetcherOf(c, filepath.Join(dir, "fetch")); err != nil {
		return err
	}
	config.Describe = describeClasses(logger)
	config.DisableQUIC, _ = f.GetBool("tcp-only")
	lease, _ := f.GetDuration("lease")
	config.Server = server.Timing{Lease: lease}
	if text("timing") == "loopback" {
		config.PromoteAfter = 1
	}
	if err := fillAddresses(&config); err != nil {
		return err
	}
	if join := text("join"); join != "" {
		others, err := joinCluster(c.Context(), dir, join, logger)
		if err != nil {
			return err
		}
		config.Others = others
	} else if b, err := os.ReadFile(filepath.Join(dir, founderTokenFile)); err == nil {
		if config.FirstToken, err = protocol.ParseToken(string(b)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, founderTokenFile), err)
		}
		config.Found = true
	}
	others, err := readOthers(dir)
	if err != nil {
		return err
	}
	config.Others = append(config.Others, others...)
	config.Ready = func(addr net.Addr) {
		logger.Info("serving", "address", config.Address, "listen", addr.String(), "raft", config.RaftAddress)
	}
	if address := text("debug-listen"); address != "" {
		stop, err := serveDebug(c.Context(), address)
		if err != nil {
			return err
		}
		defer stop()
	}
	stopPacing := paceCollector(c.Context())
	defer stopPacing()
	if err := coordinator.Run(c.Context(), config); err != nil {
		if code := coordinator.ExitCode(err); code != 0 {
			return withExit(code, err)
		}
		return err
	}
	return nil
}

// fillAddresses derives what was not given from the API's address.
func fillAddresses(c *coordinator.Config) error {
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return usageErrorf("address %q: want host:port", c.Address)
	}
	n, err := net.LookupPort("udp", port)
	if err != nil {
		return usageErrorf("address %q: %v", c.Address, err)
	}
	if c.RaftAddress == "" {
		c.RaftAddress = net.JoinHostPort(host, fmt.Sprint(n+1))
	}
	_, raftPort, err := net.SplitHostPort(c.RaftAddress)
	if err != nil {
		return usageErrorf("raft address %q: want host:port", c.RaftAddress)
	}
	if c.Listen == "" {
		c.Listen = net.JoinHostPort(listenHost(host), port)
	}
	if c.Raft == "" {
		c.Raft = net.JoinHostPort(listenHost(host), raftPort)
	}
	return nil
}

// listenHost is where to listen for an address others use: on loopback where that
// is all they can reach, otherwise on all interfaces.
func listenHost(host string) string {
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return host
	}
	return ""
}

// othersFile keeps the addresses a join was answered with, for a start before the
// coordinator has a record of its own.
const othersFile = "others"

func readOthers(dir string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, othersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(b)), err
}

// joinCluster turns a token into this coordinator's keys. A directory that has
// keys has joined already: the token is spent, and the start goes on.
func joinCluster(ctx context.Context, dir, text string, logger *slog.Logger) ([]string, error) {
	if _, err := auth.LoadCluster(coordinator.KeysDir(dir)); err == nil {
		logger.Info("joined before; starting with the keys that are there", "dir", dir)
		return nil, nil
	}
	token, err := joinToken(text, protocol.TokenCoordinator)
	if err != nil {
		return nil, err
	}
	key, err := auth.NewCoordinatorKey()
	if err != nil {
		return nil, err
	}
	var reply protocol.JoinCoordinatorReply
	if err := join(ctx, token, key, "/v1/coordinators", func(csr []byte) any {
		return &protocol.JoinCoordinatorRequest{Secret: token.Credential(), CSR: csr}
	}, &reply, logger); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := auth.JoinCluster(coordinator.KeysDir(dir), token.Pin, key, &reply); err != nil {
		return nil, err
	}
	others := append(reply.Addresses, token.Addresses...)
	return others, os.WriteFile(filepath.Join(dir, othersFile), []byte(strings.Join(others, "\n")+"\n"), 0o600)
}

// joinToken reads a token from a flag: the text, or @ and a file.
func joinToken(text string, role protocol.TokenRole) (protocol.Token, error) {
	t, err := readToken(text)
	if err == nil && t.Role != role {
		err = usageErrorf("the token is for a %v, not for a %v", t.Role, role)
	}
	return t, err
}

// readToken reads a token: the text, or @ and a file that holds it.
func readToken(text string) (protocol.Token, error) {
	if file, ok := strings.CutPrefix(text, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return protocol.Token{}, err
		}
		text = string(b)
	}
	t, err := protocol.ParseToken(text)
	if err != nil {
		return t, usageErrorf("%v", err)
	}
	return t, nil
}

// join sends a token's secret and a request for a certificate, once the server
// has shown the key that the token pins.
func join(ctx context.Context, token protocol.Token, key crypto.Signer, path string, request func(csr []byte) any, reply any, logger *slog.Logger) error {
	csr, err := transport.NewCSR(key)
	if err != nil {
		return err
	}
	c, err := transport.NewClient(transport.ClientConfig{
		Cluster: token.Cluster, Door: transport.DoorEnrol, Addresses: token.Addresses, Pins: []protocol.Digest{token.Pin},
		Proxy: http.ProxyFromEnvironment, UserAgent: "floe/" + protocol.Version, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// The same key may use the token again: an answer that was lost is asked for once more.
	return reachable(c.CallCBOR(ctx, http.MethodPost, path, request(csr), reply, transport.Idempotent()))
}

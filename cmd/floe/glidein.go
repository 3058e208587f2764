package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/glidein/batch/arc"
	"floe/glidein/batch/condor"
	"floe/glidein/batch/exec"
	"floe/glidein/batch/glite"
	"floe/glidein/batch/globus"
	"floe/glidein/batch/local"
	"floe/glidein/batch/pbs"
	"floe/glidein/batch/sge"
	"floe/glidein/batch/slurm"
	"floe/glidein/batch/ssh"
	"floe/pilot"
	"floe/protocol"
	"floe/protocol/software"
	"floe/protocol/spool"
	"floe/protocol/transport"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func siteCommand() *cobra.Command {
	c := &cobra.Command{Use: "site", Short: "Join a cluster as a site, or control sites"}
	joinCmd := &cobra.Command{
		Use: "join TOKEN", Short: "Make this site known to a cluster, with a one-use token", Args: exactArgs("TOKEN"),
		Long: "Make this site known to a cluster, with the token that an administrator made with\n" +
			"floe token create site NAME. TOKEN is the text, or @ and a file that holds it.",
		RunE: func(c *cobra.Command, args []string) error {
			dir, _ := c.Flags().GetString("dir")
			return joinSite(c, dir, args[0])
		},
	}
	joinCmd.Flags().String("dir", ".", "the site's directory: its key, its certificate and its pilot jobs")
	c.AddCommand(joinCmd, siteInitCommand(), siteCheckCommand(), siteDoctorCommand(), fetchPilotCommand())
	c.AddCommand(siteOrderCommands()...)
	c.AddCommand(siteOrdersCommand(), siteRevokeCommand(), sitePolicyCommand(), siteDowntimeCommand(), siteWhoCommand())
	return c
}

// Files of a site's identity, in its directory.
const (
	siteKeyFile     = "site.key"
	siteChainFile   = "site.pem"
	siteClusterFile = "cluster.json"
)

// siteCluster is how a site knows its cluster.
type siteCluster struct {
	Cluster   string          `json:"cluster"`
	Pin       protocol.Digest `json:"pin"`
	Site      protocol.SiteID `json:"site"`
	Addresses []string        `json:"addresses"`
}

func joinSite(c *cobra.Command, dir, text string) error {
	token, err := joinToken(text, protocol.TokenSite)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// The key is on disk before the token is spent: an answer that is lost can be
	// asked for again with the same key.
	key, err := siteKey(filepath.Join(dir, siteKeyFile))
	if err != nil {
		return err
	}
	var reply protocol.JoinReply
	if err := join(c.Context(), token, key, "/v1/sites", func(csr []byte) any {
		return &protocol.JoinRequest{Secret: token.Credential(), CSR: csr}
	}, &reply, clientLogger()); err != nil {
		return err
	}
	known := siteCluster{Cluster: reply.Cluster, Pin: token.Pin, Site: reply.Site, Addresses: reply.Addresses}
	if len(known.Addresses) == 0 {
		known.Addresses = token.Addresses
	}
	if err := saveSite(dir, &known, reply.Certificate); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "joined cluster %s as site %s\nnext: floe site init --dir %s writes its configuration\n",
		reply.Cluster, reply.Site, shellWord(dir))
	return nil
}

func saveSite(dir string, known *siteCluster, chain []byte) error {
	b, err := json.MarshalIndent(known, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(
		renameio.WriteFile(filepath.Join(dir, siteChainFile), chain, 0o600),
		renameio.WriteFile(filepath.Join(dir, siteClusterFile), append(b, '\n'), 0o600))
}

// siteKey reads the site's key or makes it.
func siteKey(file string) (crypto.Signer, error) {
	b, err := os.ReadFile(file)
	if err == nil {
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, fmt.Errorf("%s: no key in it", file)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%s: a key of type %T cannot sign", file, key)
		}
		return signer, nil
	}
	if !os.IsNotExist(err) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, renameio.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func glideinCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "glidein", Short: "Make one pass: launch the pilots that are wanted into the batch system", Args: exactArgs(),
		Long: "Make one pass of a site: look at the batch system, ask the coordinators how many pilots of which\n" +
			"shape are wanted, submit them within the site's caps, and exit. Made for cron; a second pass at the\n" +
			"same time leaves at once.",
		RunE: func(c *cobra.Command, _ []string) error { return runGlidein(c) },
	}
	c.Flags().String("config", "site.toml", "the site's configuration")
	c.Flags().Bool("dry-run", false, "submit nothing: say what is there, and write the submit file")
	c.Flags().Duration("timeout", 5*time.Minute, "give up after this long")
	outputFlag(c)
	return c
}

func runGlidein(c *cobra.Command) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	file, _ := c.Flags().GetString("config")
	config, err := glidein.LoadConfig(file)
	if err != nil {
		return withExit(exitUsage, err)
	}
	timeout, _ := c.Flags().GetDuration("timeout")
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	logger := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	pass := &glidein.Pass{Config: config, Logger: logger}
	pass.Batch = func(q *glidein.Queue) (batch.System, error) { return newSystem(config, q) }
	if pass.Program, err = os.Executable(); err != nil {
		return err
	}
	pass.DryRun, _ = c.Flags().GetBool("dry-run")
	if pass.Spool, err = spool.Open(pass.SpoolDir()); err != nil {
		return err
	}
	var site *siteLink
	if !pass.DryRun {
		if site, err = openSite(config.Directory, logger); err != nil {
			return err
		}
		defer site.Close()
		if err := site.renew(ctx); err != nil {
			logger.Warn("the site's certificate was not renewed", "err", err)
		}
		pass.Coordinator = site
		if pass.Programs, err = site.programs(config, logger); err != nil {
			return withExit(exitUsage, err)
		}
	}
	result, err := pass.Run(ctx)
	if result != nil && site != nil {
		if err := site.takeOrders(ctx, result.Orders); err != nil {
			logger.Warn("coordinators do not know that the pass has taken the site's orders", "err", err)
		}
	}
	if result != nil {
		if done, printErr := p.value(result); !done && printErr == nil {
			printPass(p, result)
		}
	}
	if errors.Is(err, glidein.ErrBusy) {
		return err
	}
	return reachable(err)
}

// newFar is the batch system of a queue on another machine. The agent there makes it
// of the same queue.
func newFar(c *glidein.Config, q *glidein.Queue) (batch.System, error) {
	queue, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	floe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return ssh.New(batch.Tool{}, ssh.Config{
		Host: q.SSH.Host(), There: q.SSH.Directory(), Directory: c.Directory, Floe: floe, Agent: []string{"batch", "serve"}, Pilot: c.System.Pilot,
		Queue: queue, Name: q.Type, Mirror: []string{siteClusterFile}, Spool: "spool",
	}), nil
}

// programs are the pilots that are released to the site.
func (s *siteLink) programs(config *glidein.Config, logger *slog.Logger) (*sitePrograms, error) {
	trust := &software.Trust{Cluster: s.known.Cluster, Pin: s.known.Pin}
	var err error
	trust.Publishers, err = config.Publishers()
	return &sitePrograms{api: &client{s.Client}, dir: config.Directory, trust: trust, logger: logger}, err
}

// newSystem is the explicit list of batch systems.
func newSystem(c *glidein.Config, q *glidein.Queue) (batch.System, error) {
	if q.SSH != "" {
		return newFar(c, q)
	}
	switch q.Type {
	case "arc":
		return arc.New(q.Endpoint)
	case "condor":
		return condor.New(batch.Tool{}, q.Endpoint)
	case "cream":
		return glite.New(batch.Tool{}, glite.CREAM, q.Endpoint)
	case "edg":
		return glite.New(batch.Tool{}, glite.EDG, q.Endpoint)
	case "glite":
		return glite.New(batch.Tool{}, glite.WMS, q.Endpoint)
	case "exec":
		return exec.New(batch.Tool{}, exec.Config{Command: q.Exec.In(c.Directory), Settings: q.Exec.Settings})
	case "globus":
		return globus.New(batch.Tool{}, q.Endpoint)
	case "local":
		return local.New(filepath.Join(c.Directory, "local"), 30*time.Second)
	case "pbs":
		return pbs.New(batch.Tool{}, q.PBS.Dialect), nil
	case "sge":
		g := q.SGE
		return sge.New(batch.Tool{}, sge.Config{ParallelEnvironment: g.ParallelEnvironment, Memory: g.Memory, GPU: g.GPU}), nil
	case "slurm":
		return slurm.New(batch.Tool{}), nil
	}
	return nil, usageErrorf("type %q: want one of %s", q.Type, strings.Join(glidein.Types, ", "))
}

func printPass(p *printer, r *glidein.Result) {
	p.line("pilot jobs: %d running, %d queued, %d held", r.Running, r.Queued, r.Held)
	for _, q := range r.Queues {
		switch {
		case q.Error != "":
			p.line("%s: the batch system does not answer: %s", q.Name, visible(q.Error))
		case len(r.Queues) > 1:
			p.line("%s: %d running, %d queued, %d held; room for %d by %s", q.Name, q.Running, q.Queued, q.Held, q.Room, q.Bound)
		}
	}
	for _, list := range []struct {
		what string
		ids  []protocol.LaunchID
	}{{"submitted", r.Submitted}, {"adopted", r.Adopted}, {"removed", r.Removed}, {"ended", r.Ended}} {
		if len(list.ids) > 0 {
			words := make([]string, len(list.ids))
			for i, id := range list.ids {
				words[i] = string(id)
			}
			p.line("%s %d: %s", list.what, len(list.ids), strings.Join(words, " "))
		}
	}
	for _, w := range r.Waiting {
		p.line("%d %s: %s (such as job %s)", w.Jobs, w.State, visible(w.Reason), visible(string(w.First)))
	}
	if r.Reports > 0 {
		p.line("delivered %d reports", r.Reports)
	}
	if r.Relay != "" {
		p.line("%s", visible(r.Relay))
	}
	for _, s := range append(r.Reasons, r.Refused...) {
		p.line("%s", visible(s))
	}
	for _, file := range r.SubmitFiles {
		p.line("submit file: %s", file)
	}
}

// siteLink is a site's connection to the coordinators (glidein.Coordinator).
type siteLink struct {
	*transport.Client
	dir   string
	known siteCluster
	key   crypto.Signer
	cert  atomic.Pointer[tls.Certificate]
}

func openSite(dir string, logger *slog.Logger) (*siteLink, error) {
	s := &siteLink{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, siteClusterFile))
	if os.IsNotExist(err) {
		return nil, withExit(exitDenied, fmt.Errorf("%s: this site has not joined a cluster: floe site join TOKEN --dir %s", dir, dir))
	}
	if err == nil {
		err = json.Unmarshal(b, &s.known)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", siteClusterFile, err)
	}
	if s.key, err = siteKey(filepath.Join(dir, siteKeyFile)); err != nil {
		return nil, err
	}
	chain, err := os.ReadFile(filepath.Join(dir, siteChainFile))
	if err != nil {
		return nil, err
	}
	cert, err := transport.AssembleCertificate(chain, s.key)
	if err != nil {
		return nil, err
	}
	s.cert.Store(cert)
	s.Client, err = transport.NewClient(transport.ClientConfig{
		Cluster: s.known.Cluster, Door: transport.DoorSite, Addresses: s.known.Addresses, Pins: []protocol.Digest{s.known.Pin},
		Certificate: func() (*tls.Certificate, error) { return s.cert.Load(), nil }, Proxy: http.ProxyFromEnvironment,
		// For what runs for long beside the passes, which keep them.
		Elsewhere: func() []string { return pilot.SiteAddresses(filepath.Join(dir, siteClusterFile)) },
		UserAgent: "floe-glidein/" + protocol.Version, Logger: logger,
	})
	return s, err
}

// Launch implements glidein.Coordinator.
func (s *siteLink) Launch(ctx context.Context, request *protocol.LaunchRequest) (*protocol.LaunchReply, error) {
	reply := new(protocol.LaunchReply)
	// Not repeated when its fate is unknown: it would reserve demand twice. The next
	// pass is soon enough.
	if err := s.CallCBOR(ctx, http.MethodPost, "/v1/sites/launch", request, reply); err != nil {
		return nil, err
	}
	for _, g := range reply.Grants {
		// Pilots believe the pin of their ticket: it must be the one this site joined by.
		if ticket, err := protocol.ParseToken(g.Ticket); err != nil || ticket.Pin != s.known.Pin || ticket.Cluster != s.known.Cluster {
			return nil, fmt.Errorf("launch %s: its ticket is not of cluster %s with root %v", g.Launch, s.known.Cluster, s.known.Pin)
		}
	}
	if len(reply.Addresses) > 0 {
		s.known.Addresses = reply.Addresses
		b, err := json.MarshalIndent(&s.known, "", " ")
		if err == nil {
			err = renameio.WriteFile(filepath.Join(s.dir, siteClusterFile), append(b, '\n'), 0o600)
		}
		if err != nil {
			return reply, fmt.Errorf("remember the coordinators' addresses: %w", err)
		}
	}
	return reply, nil
}

// renew replaces the certificate when half of its life is over.
func (s *siteLink) renew(ctx context.Context) error {
	leaf := s.cert.Load().Leaf
	if time.Now().Before(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)) {
		return nil
	}
	csr, err := transport.NewCSR(s.key)
	if err != nil {
		return err
	}
	var reply protocol.JoinReply
	if err := s.CallCBOR(ctx, http.MethodPost, "/v1/sites/renew", &protocol.RenewRequest{CSR: csr}, &reply); err != nil {
		return err
	}
	cert, err := transport.AssembleCertificate(reply.Certificate, s.key)
	if err != nil {
		return err
	}
	s.cert.Store(cert)
	return saveSite(s.dir, &s.known, reply.Certificate)
}

package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"floe/protocol"
	"floe/protocol/transport"
)

// What the pass finds: pilot jobs that wait in some queues of one batch system.
const (
	passJobs   = 5000
	passQueues = 8
	passLimit  = 3 // seconds
)

// glideinPass measures floe glidein as cron runs it, beside the batch system's tool.
func glideinPass(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "s", Target: passLimit, AtMost: true}
	c, err := startCluster(ctx, r, 3)
	if err != nil {
		return out, err
	}
	defer c.close()
	s := &passSite{fleet: &fleet{c: c, site: "site"}, dir: filepath.Join(r.dir, "site"), tools: filepath.Join(r.dir, "tools")}
	defer s.close()
	if err := s.join(ctx); err != nil {
		return out, fmt.Errorf("join as a site: %w", err)
	}
	if err := s.fill(ctx); err != nil {
		return out, fmt.Errorf("launch %d pilot jobs: %w", passJobs, err)
	}
	rounds := 10
	if r.quick {
		rounds = 3
	}
	var whole, tool times
	for range rounds {
		took, err := s.ask(ctx)
		if err != nil {
			return out, err
		}
		tool.add(took)
		if took, err = s.pass(ctx, passJobs, 0); err != nil {
			return out, err
		}
		whole.add(took)
	}
	if err := s.list(passJobs - 100); err != nil {
		return out, err
	}
	ended, err := s.pass(ctx, passJobs-100, 100)
	if err != nil {
		return out, err
	}
	pass, own := whole.take(), tool.take()
	fmt.Fprintf(r, "%-52s %8s %8s %8s\n", "s", "median", "longest", "")
	fmt.Fprintf(r, "%-52s %8.3f %8.3f\n", fmt.Sprintf("floe glidein over %d queued pilot jobs", passJobs), pass.quantile(0.5).Seconds(), pass.quantile(1).Seconds())
	fmt.Fprintf(r, "%-52s %8.3f %8.3f\n", "the batch system's tool alone", own.quantile(0.5).Seconds(), own.quantile(1).Seconds())
	fmt.Fprintf(r, "%-52s %8.3f\n", "floe glidein, of which 100 have ended", ended.Seconds())
	out.Value = max(pass.quantile(1)-own.quantile(0.5), ended-own.quantile(0.5)).Seconds()
	out.Peer, out.PeerIs = own.quantile(0.5).Seconds(), "the batch system's tool alone"
	out.Notes = []string{
		fmt.Sprintf("%d pilot jobs in %d queues of Slurm, whose squeue is a file that is printed; three coordinators; the longest of %d passes less the tool's own time", passJobs, passQueues, rounds),
		fmt.Sprintf("median %.3f s with the tool; a pass in which 100 have ended %.3f s", pass.quantile(0.5).Seconds(), ended.Seconds()),
	}
	return out, nil
}

// passSite is a site of which the batch system is a file.
type passSite struct {
	*fleet
	dir, tools string
	jobs       []protocol.LaunchGrant
}

// join joins as a site does, and takes the site's key for the load that goes before.
func (s *passSite) join(ctx context.Context) (err error) {
	if s.enrol, err = s.client(transport.DoorEnrol, nil); err != nil {
		return err
	}
	var invitation protocol.TokenReply
	if err := s.c.ask(ctx, http.MethodPost, "/v1/tokens", &protocol.TokenRequest{Role: "site", Name: string(s.site)}, &invitation); err != nil {
		return err
	}
	if _, err := s.c.floe(ctx, "site", "join", invitation.Token, "--dir", s.dir); err != nil {
		return err
	}
	chain, err := os.ReadFile(filepath.Join(s.dir, "site.pem"))
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "site.key"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	signer, is := key.(crypto.Signer)
	if !is {
		return errors.New("site.key cannot sign")
	}
	cert, err := transport.AssembleCertificate(chain, signer)
	if err != nil {
		return err
	}
	s.launch, err = s.client(transport.DoorSite, func() (*tls.Certificate, error) { return cert, nil })
	return err
}

func passQueue(i int) string { return fmt.Sprintf("q%d", i) }

// fill has pilots prove the shapes, so that as many may wait as are to, and then gets
// launch leases for those and writes down that they wait.
func (s *passSite) fill(ctx context.Context) error {
	if _, err := s.c.submit(ctx, idleDocument, 4*passJobs); err != nil {
		return err
	}
	offer := protocol.Resources{Cores: 1, Memory: 4 * protocol.GB, Disk: 10 * protocol.GB, Remaining: 86400}
	for proven := 0; proven < passJobs; {
		grants, err := s.more(ctx, offer, passJobs-proven)
		if err != nil {
			return err
		}
		s.pilots = nil
		if err := s.enrolAll(ctx, grants, offer); err != nil {
			return err
		}
		var first errgroup.Group
		first.SetLimit(connectAtOnce)
		for _, p := range s.pilots {
			first.Go(func() error {
				defer p.client.Close()
				_, err := p.exchange(ctx, nil, 1, 0)
				return err
			})
		}
		if err := first.Wait(); err != nil {
			return err
		}
		proven += len(grants)
	}
	for len(s.jobs) < passJobs {
		grants, err := s.more(ctx, offer, passJobs-len(s.jobs))
		if err != nil {
			return err
		}
		s.jobs = append(s.jobs, grants...)
	}
	return errors.Join(s.configure(), s.list(passJobs))
}

// more gets launch leases, at most n.
func (s *passSite) more(ctx context.Context, offer protocol.Resources, n int) ([]protocol.LaunchGrant, error) {
	request := protocol.LaunchRequest{Version: protocol.Version, Room: uint32(n)}
	for i := range passQueues {
		request.Shapes = append(request.Shapes, protocol.LaunchShape{Name: passQueue(i), Offer: offer, Room: uint32(n/passQueues + 1)})
	}
	for i := range s.jobs {
		request.Known = append(request.Known, protocol.KnownLaunch{Launch: s.jobs[i].Launch, BatchID: fmt.Sprint(1000 + i)})
	}
	var reply protocol.LaunchReply
	if err := s.launch.CallCBOR(ctx, http.MethodPost, "/v1/sites/launch", &request, &reply, transport.Idempotent()); err != nil {
		return nil, err
	}
	if len(reply.Grants) == 0 {
		return nil, fmt.Errorf("no launch lease granted: %v", reply.Reasons)
	}
	return reply.Grants, nil
}

// configure writes the site's configuration, its ledger, and its batch system.
func (s *passSite) configure() error {
	var config strings.Builder
	fmt.Fprintf(&config, "[queue]\ntype = \"slurm\"\nmax_pilots = %d\nmax_queued = %[1]d\ncores = 1\nmemory = \"4GB\"\ndisk = \"10GB\"\n", passJobs)
	for i := range passQueues {
		fmt.Fprintf(&config, "[queues.%s]\n", passQueue(i))
	}
	fmt.Fprintf(&config, "[site]\nmax_pilots = %d\n[system]\npilot = %q\n", passJobs, filepath.Join(s.c.r.bin, "floe-pilot"))
	ledger := map[protocol.LaunchID]any{}
	for i, g := range s.jobs {
		ledger[g.Launch] = map[string]any{"batch_id": fmt.Sprint(1000 + i), "shape": g.Shape, "system": "slurm", "submitted": time.Now()}
		dir := filepath.Join(s.dir, "jobs", "floe-"+string(g.Launch))
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "ticket"), []byte(g.Ticket+"\n"), 0o600)); err != nil {
			return err
		}
	}
	b, err := json.Marshal(map[string]any{"jobs": ledger})
	if err != nil {
		return err
	}
	tool := func(text string) []byte { return []byte("#!/bin/sh\n" + text + "\n") }
	return errors.Join(
		os.WriteFile(filepath.Join(s.dir, "site.toml"), []byte(config.String()), 0o600),
		os.WriteFile(filepath.Join(s.dir, "ledger.json"), b, 0o600),
		os.MkdirAll(s.tools, 0o700),
		os.WriteFile(filepath.Join(s.tools, "squeue"), tool("exec cat "+filepath.Join(s.tools, "jobs")), 0o700),
		os.WriteFile(filepath.Join(s.tools, "sbatch"), tool("echo $((100000 + $$))"), 0o700),
		os.WriteFile(filepath.Join(s.tools, "scancel"), tool("exit 0"), 0o700))
}

// list has the batch system list the first n jobs.
func (s *passSite) list(n int) error {
	var b strings.Builder
	now := time.Now().UTC().Format("2006-01-02T15:04:05")
	for i, g := range s.jobs[:n] {
		fmt.Fprintf(&b, "%d|N/A|PENDING|%s|N/A|Resources|floe-%s\n", 1000+i, now, g.Launch)
	}
	return os.WriteFile(filepath.Join(s.tools, "jobs"), []byte(b.String()), 0o600)
}

// ask is how long the batch system's tool takes.
func (s *passSite) ask(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	out, err := exec.CommandContext(ctx, filepath.Join(s.tools, "squeue")).Output()
	if err == nil && len(out) == 0 {
		err = errors.New("squeue lists nothing")
	}
	return time.Since(began), err
}

// pass makes one pass that must find so many queued and so many ended, and nothing to
// remove.
func (s *passSite) pass(ctx context.Context, queued, ended int) (time.Duration, error) {
	p := exec.CommandContext(ctx, filepath.Join(s.c.r.bin, "floe"), "glidein", "--config", filepath.Join(s.dir, "site.toml"), "-o", "json")
	p.Env = append(slices.Clone(os.Environ()), "PATH="+s.tools+":"+os.Getenv("PATH"))
	var said strings.Builder
	p.Stderr = &said
	began := time.Now()
	out, err := p.Output()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("floe glidein: %w: %s%s", err, out, said.String())
	}
	var result struct {
		Queued         int
		Ended, Removed []string
		Reasons        []string
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, err
	}
	if result.Queued != queued || len(result.Ended) != ended || len(result.Removed) != 0 {
		return 0, fmt.Errorf("a pass found %d queued, %d ended and removed %d; want %d, %d and none: %v", result.Queued, len(result.Ended), len(result.Removed), queued, ended, result.Reasons)
	}
	return took, nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"floe/protocol"
)

// federation is everything that runs: the network, three coordinators, the sites.
type federation struct {
	config       *config
	trace        *trace
	network      *network
	coordinators []*coordinator
	sites        []*site
	leadership   leadership
	token        protocol.Token
	api          *client // asks whoever answers

	endPasses, endKeeping context.CancelFunc
	passes, keeping       sync.WaitGroup
}

// apiPort is that of every coordinator: each has an address of its own.
const apiPort = "4433"

// found makes the network and the cluster, joins the sites, and starts everything.
func found(ctx context.Context, c *config, t *trace) (_ *federation, err error) {
	f := &federation{config: c, trace: t, endPasses: func() {}, endKeeping: func() {}}
	defer func() {
		if err != nil {
			f.end()
		}
	}()
	var names []string
	for i := range 3 {
		names = append(names, fmt.Sprintf("c%d", i+1))
	}
	for i := range c.sites {
		names = append(names, fmt.Sprintf("s%d", i+1))
	}
	if f.network, err = newNetwork(ctx, c.prefix, c.net, names); err != nil {
		return f, err
	}
	for i := range 3 {
		h := f.network.hosts[i]
		m := &coordinator{name: names[i], host: h, dir: filepath.Join(c.dir, names[i]), log: filepath.Join(c.dir, names[i]+".log"), trace: t, program: c.floe, env: os.Environ()}
		m.args = []string{
			"coordinator", m.dir, "--address", h.address + ":" + apiPort, "--timing", c.timing, "--lease", c.lease.String(),
		}
		f.coordinators = append(f.coordinators, m)
	}
	if err := f.foundCluster(ctx); err != nil {
		return f, err
	}
	if err := f.joinSites(ctx); err != nil {
		return f, err
	}
	return f, nil
}

func (f *federation) foundCluster(ctx context.Context) error {
	first := f.coordinators[0]
	if _, err := f.floe(ctx, "", "init", first.dir, "--name", "chaos", "--node", first.name, "--address", first.host.address+":"+apiPort); err != nil {
		return err
	}
	founder := filepath.Join(first.dir, "admin.token")
	if err := first.up(); err != nil {
		return err
	}
	for _, c := range f.coordinators[1:] {
		var token string
		if err := eventually(ctx, time.Minute, func() (err error) {
			token, err = f.floe(ctx, founder, "token", "create", "coordinator", c.name)
			return err
		}); err != nil {
			return fmt.Errorf("token for %s: %w", c.name, err)
		}
		file := filepath.Join(f.config.dir, c.name+".token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			return err
		}
		if err := c.up("--join", "@"+file); err != nil {
			return err
		}
	}
	// A token made once all are members names all three.
	var text string
	if err := eventually(ctx, 2*time.Minute, func() (err error) {
		if text, err = f.floe(ctx, founder, "token", "create", "admin", "chaos"); err != nil {
			return err
		}
		if f.token, err = protocol.ParseToken(strings.TrimSpace(text)); err == nil && len(f.token.Addresses) != len(f.coordinators) {
			err = fmt.Errorf("the token names %v", f.token.Addresses)
		}
		return err
	}); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.config.dir, "admin.token"), []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	if f.api, err = newClient(f.token); err != nil {
		return err
	}
	for _, c := range f.coordinators {
		if c.api, err = newClient(f.token, c.host.address+":"+apiPort); err != nil {
			return err
		}
	}
	return eventually(ctx, 2*time.Minute, f.allVote)
}

// allVote tells whether every coordinator sees three voters and a leader.
func (f *federation) allVote() error {
	for _, c := range f.coordinators {
		s, err := c.status(context.Background())
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		voters := 0
		for _, m := range s.Members {
			if m.Voter {
				voters++
			}
		}
		if voters != len(f.coordinators) || s.Leader == "" {
			return fmt.Errorf("%s sees %d voters and leader %q", c.name, voters, s.Leader)
		}
	}
	return nil
}

func (f *federation) joinSites(ctx context.Context) error {
	admin := filepath.Join(f.config.dir, "admin.token")
	for i := range f.config.sites {
		h := f.network.hosts[len(f.coordinators)+i]
		s := &site{name: fmt.Sprintf("s%d", i+1), host: h, pilots: f.config.share(i), trace: f.trace, program: f.config.floe, env: os.Environ()}
		s.dir = filepath.Join(f.config.dir, s.name)
		token, err := f.floe(ctx, admin, "token", "create", "site", s.name)
		if err != nil {
			return err
		}
		if _, err := f.floe(ctx, admin, "site", "join", strings.TrimSpace(token), "--dir", s.dir); err != nil {
			return err
		}
		if err := s.configure(f.config.pilot); err != nil {
			return err
		}
		f.sites = append(f.sites, s)
	}
	return nil
}

// run starts what goes on beside the load: passes, restarts, and asking who leads.
func (f *federation) run() {
	var passing, keeping context.Context
	passing, f.endPasses = context.WithCancel(context.Background())
	keeping, f.endKeeping = context.WithCancel(context.Background())
	for _, s := range f.sites {
		f.passes.Go(func() { s.run(passing) })
	}
	for _, c := range f.coordinators {
		f.keeping.Go(func() { c.keep(keeping) })
	}
	f.keeping.Go(func() { f.leadership.watch(keeping, f.coordinators, f.trace) })
}

// endSites ends passes and pilots.
func (f *federation) endSites(grace time.Duration) {
	f.endPasses()
	f.passes.Wait()
	var work sync.WaitGroup
	for _, s := range f.sites {
		work.Go(func() { s.end(grace) })
	}
	work.Wait()
}

// stopCoordinators ends them one after another as an operator does, and tells of
// those that do not end well.
func (f *federation) stopCoordinators() {
	f.endKeeping()
	f.keeping.Wait()
	for _, c := range f.coordinators {
		c.mu.Lock()
		p := c.process
		c.process = nil
		c.mu.Unlock()
		if p == nil {
			continue
		}
		if !p.end(30 * time.Second) {
			f.trace.fail("%s did not end within 30 s of SIGTERM", c.name)
		} else if code := p.state.ExitCode(); code != 0 {
			f.trace.fail("%s, told to end, ended with %v; its last words:\n%s", c.name, p.state, tail(c.log, 4))
		}
	}
}

// end ends whatever still runs and takes the network down.
func (f *federation) end() {
	f.endPasses()
	f.endKeeping()
	f.passes.Wait()
	f.keeping.Wait()
	for _, c := range f.coordinators {
		c.down()
		if c.api != nil {
			c.api.Close()
		}
	}
	if f.api != nil {
		f.api.Close()
	}
	if f.network == nil {
		return
	}
	// Whatever is left in the namespaces is ours.
	for _, h := range f.network.hosts {
		for _, pid := range h.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	f.network.remove()
}

// floe runs a command of the client to its end.
func (f *federation) floe(ctx context.Context, token string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, f.config.floe, args...)
	c.Env = append(os.Environ(), "FLOE_TOKEN_FILE="+token)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("floe %s: %w: %s", strings.Join(args[:min(3, len(args))], " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), nil
}

// eventually repeats what fails, some times a second, until it does not.
func eventually(ctx context.Context, within time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not within %v", within), err)
		case <-tick.C:
		}
	}
}

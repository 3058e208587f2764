package pilot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"floe/protocol"
	"floe/protocol/sitelog"
)

// errForbidden: the site's own policy does not let the attempt run.
var errForbidden = errors.New("the site's policy forbids it")

// ReadPolicy reads the site's policy from the first of some files that is there.
func ReadPolicy(files []string) (*protocol.SitePolicy, error) {
	var all []error
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			all = append(all, err)
			continue
		}
		d := json.NewDecoder(bytes.NewReader(b))
		p := new(protocol.SitePolicy)
		if err := d.Decode(p); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return p, nil
	}
	return nil, errors.Join(all...)
}

// lookAtPolicyEvery is how often a pilot looks whether its site has changed its mind.
const lookAtPolicyEvery = 20 * time.Second

// mindSite has the conversation know the site's policy, and looks for changes until
// ctx ends. One that cannot be read now changes nothing: what was known holds.
func (p *Pilot) mindSite(ctx context.Context, known *protocol.SitePolicy) {
	tick := time.NewTicker(lookAtPolicyEvery)
	defer tick.Stop()
	was, _ := protocol.Marshal(known)
	troubled := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		policy, err := ReadPolicy(p.config.Policies)
		if err != nil {
			if !troubled {
				p.logger.Warn("the site's policy cannot be read; what was known of it holds", "err", err)
			}
			troubled = true
			continue
		}
		troubled = false
		if is, err := protocol.Marshal(policy); err == nil && !bytes.Equal(is, was) {
			was = is
			p.logger.Info("the site's policy has changed")
			p.change(func(c *Conversation) []Effect { return c.Rule(policy) })
			p.nudge()
		}
	}
}

// closes is when no payload may run any more, by the batch slot or the site's next
// downtime; zero is not known.
func (p *Pilot) closes(now time.Time) time.Time {
	end := p.slotEnd
	p.mu.Lock()
	defer p.mu.Unlock()
	if down := p.talk.site.policy.At(now.Unix()).NextDown; down > 0 {
		if t := time.Unix(down, 0); end.IsZero() || t.Before(end) {
			end = t
		}
	}
	return end
}

// openRegister opens the site's own log of whose payloads ran. A site whose log cannot
// be written is told so, and work goes on.
func (p *Pilot) openRegister(host string) (done func()) {
	if p.config.SiteLog == "" {
		return func() {}
	}
	log, err := sitelog.Open(p.config.SiteLog, sitelog.Entry{Host: host, Pilot: p.link.ID(), BatchID: p.config.BatchID})
	if err != nil {
		p.logger.Warn("whose payloads run here is not in the site's log", "err", err)
		return func() {}
	}
	p.register = log
	return func() {
		if err := log.Close(); err != nil {
			p.logger.Warn("whose payloads ran last may not be in the site's log", "err", err)
		}
	}
}

// enter writes that an attempt has begun, or ended with a verdict.
func (p *Pilot) enter(l *protocol.Lease, begin time.Time, verdict string) {
	if p.register == nil {
		return
	}
	e := sitelog.Entry{
		Lease: l.ID, Dataset: l.Task.Dataset, Job: l.Task.Job, Task: l.TaskName, Attempt: l.Attempt,
		User: l.Submitter, Group: l.Group, Begin: begin.UnixMilli(),
	}
	if verdict != "" {
		e.End, e.Verdict = time.Now().UnixMilli(), verdict
	}
	if err := p.register.Write(e); err != nil {
		p.logger.Warn("whose payload runs here is not in the site's log", "lease", l.ID, "err", err)
	}
}

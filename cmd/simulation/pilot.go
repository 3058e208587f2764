package simulation

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"floe/coordinator/state"
	real "floe/pilot"
	"floe/pilot/payload"
	"floe/protocol"
	"floe/protocol/transport"
)

// forged is the evidence of reports that must not count.
const forged = "forged"

// pilot is a process with the real conversation.
type pilot struct {
	process
	number  int
	site    *site
	host    *host
	job     *job // nil for one that came with the site's ticket
	id      protocol.PilotID
	key     ed25519.PrivateKey
	end     time.Time // of its slot; zero is not known
	talk    *real.Conversation
	at      *node // whom it speaks to
	call    *call
	request *protocol.ExchangeRequest
	sent    time.Duration
	waiting int // counts rests
	resting bool
	asked   time.Duration // when the oldest exchange was sent that may still be granted something
	enrolls int

	attempts map[protocol.LeaseID]*attempt
	heard    time.Duration // when it last heard of a coordinator
	stopped  time.Duration // until when it was frozen last
}

// attempt is a payload: nothing but time and an end.
type attempt struct {
	lease   *protocol.Lease
	begun   time.Duration
	least   time.Duration // it ends by itself no earlier
	cause   error         // why it was stopped
	ended   bool
	report  *protocol.Report
	settled func(protocol.Code)
}

// launch starts a pilot on a host, of a pilot job where there is one.
func (w *World) launch(s *site, h *host, j *job) *pilot {
	w.launched++
	p := &pilot{
		process: process{w: w, name: fmt.Sprintf("p%d", w.launched)}, number: w.launched, site: s, host: h, job: j,
		attempts: map[protocol.LeaseID]*attempt{},
	}
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(w.rng.Uint32())
	}
	p.key = ed25519.NewKeyFromSeed(seed)
	p.id = protocol.PilotID(fmt.Sprintf("p-%d", w.launched))
	h.pilot = p
	w.pilots = append(w.pilots, p)
	p.begin()
	p.at = w.anyNode()
	if w.chaotic && w.chance(4) {
		p.end = p.instant().Time.Add(w.between(5*time.Minute, 100*time.Minute))
	}
	w.note("%s starts on %s", p.name, h.name)
	p.enrol()
	return p
}

func (w *World) anyNode() *node { return w.nodes[w.rng.IntN(len(w.nodes))] }

func (p *pilot) instant() real.Instant { return real.Instant{Time: epoch.Add(p.w.now), Boot: p.w.now} }

func (p *pilot) caller() transport.Caller {
	c := transport.Caller{Kind: transport.Pilot, Site: p.site.id, Pilot: p.id, Transport: "quic"}
	if p.number%2 == 0 { // its connection shows its key; others are believed for their signature
		c.KeyFingerprint = transport.KeyFingerprint(p.key.Public().(ed25519.PublicKey))
	}
	return c
}

// enrol asks until it is let in.
func (p *pilot) enrol() {
	p.enrolls++
	r := request{command: func(*state.Machine) state.Command {
		c := &state.EnrolPilot{
			Pilot: p.id, Site: p.site.id, TicketHash: p.site.ticket, PublicKey: p.key.Public().(ed25519.PublicKey),
			Host: p.host.name, Resources: p.host.has, Version: protocol.Version,
		}
		if p.job != nil {
			c.Launch, c.TicketHash = p.job.launch, p.job.ticket
		}
		return c
	}}
	p.call = p.w.call(&p.process, p.at, r, 30*time.Second, func(answer any, err error) {
		a, _ := answer.(state.Answer)
		switch {
		case err == nil && a.Code == protocol.CodeOK:
			p.talk = real.NewConversation(p.instant(), real.ConversationConfig{
				Offer: p.host.has, End: p.end, Idle: 10 * time.Minute,
				Jitter: func(limit time.Duration) time.Duration { return p.w.between(0, limit) },
			})
			p.heard = p.w.now
			p.next()
		case err == nil || p.enrolls > 40:
			p.w.note("%s is not let in: %v %v", p.name, a.Reason, err)
			p.quit()
		default:
			p.at = p.w.anyNode()
			p.after(p.w.between(time.Second, 20*time.Second), p.enrol)
		}
	})
}

// quit ends the process, whatever it held.
func (p *pilot) quit() {
	p.kill()
	if p.host.pilot == p {
		p.host.pilot = nil
	}
	p.w.pilots = slices.DeleteFunc(p.w.pilots, func(o *pilot) bool { return o == p })
}

// next asks the conversation what to do, as Pilot does.
func (p *pilot) next() {
	if !p.alive || p.call != nil && !p.call.over {
		return
	}
	p.waiting++
	p.resting = false
	step := p.talk.Next(p.instant())
	p.do(step.Effects)
	switch step.Act {
	case real.ActEnd:
		p.w.note("%s ends without a good-bye", p.name)
		p.quit()
	case real.ActLeave:
		p.leave(step.Request)
	case real.ActRest:
		p.resting = true
		waiting := p.waiting
		p.after(step.Within, func() {
			if p.waiting == waiting {
				p.next()
			}
		})
	case real.ActSpeak:
		p.speak(step.Request, step.Within)
	}
}

// nudge lets the pilot speak soon: it has something to say.
func (p *pilot) nudge() {
	switch {
	case p.resting:
		p.next()
	case p.call != nil && !p.call.over && p.request != nil && p.request.Wait > 0:
		p.call.cancel(fmt.Errorf("cut short: %w", context.Canceled))
	}
}

func (p *pilot) speak(r *protocol.ExchangeRequest, wait time.Duration) {
	p.tell(r)
	p.request, p.sent = r, p.w.now
	if p.asked == 0 {
		p.asked = p.w.now
	}
	if p.w.trace != nil {
		p.w.note("%s says %d to %s: holds %v, %d reports, wants %d, waits %d", p.name, r.Sequence, p.at.name, r.Held, len(r.Reports), r.Want, r.Wait)
	}
	reports := p.decode(r.Reports)
	p.call = p.w.call(&p.process, p.at, request{caller: p.caller(), exchange: r}, wait+30*time.Second, func(answer any, err error) {
		p.request = nil
		reply, _ := answer.(*protocol.ExchangeReply)
		if err == nil && reply == nil {
			err = errors.New("no reply")
		}
		if err != nil {
			p.w.note("%s hears nothing: %v", p.name, err)
			p.noteReports(reports, nil)
			effects, fatal := p.talk.Failed(p.instant(), err)
			p.do(effects)
			if !errors.Is(err, context.Canceled) {
				p.at = p.w.anyNode()
			}
			if fatal {
				p.w.note("%s is not wanted any more", p.name)
			}
			p.next()
			return
		}
		if r.Ahead != nil {
			p.w.books.ahead += max(0, len(reply.Leases)-int(r.Want))
		}
		p.hear(reports, reply)
		p.next()
	})
}

func (p *pilot) hear(reports []*protocol.Report, reply *protocol.ExchangeReply) {
	w := p.w
	if w.trace != nil {
		var leases []protocol.LeaseID
		for i := range reply.Leases {
			leases = append(leases, reply.Leases[i].ID)
		}
		w.note("%s hears: leases %v, orders %v, answers %v", p.name, leases, reply.Orders, reply.Answers)
	}
	p.noteReports(reports, reply.Answers)
	for i := range reply.Leases {
		l := &reply.Leases[i]
		// An exchange that was carried twice may have been granted it before.
		asked := min(p.asked, w.books.proposed[w.books.at[l.ID.Index]])
		w.books.history.Claimed(p.number, l.Task, l.ID, int64(asked), int64(w.now))
	}
	p.asked, p.heard = 0, w.now
	p.do(p.talk.Heard(p.instant(), reply))
}

func (p *pilot) decode(signed []protocol.SignedReport) (reports []*protocol.Report) {
	for i := range signed {
		if r, err := signed[i].Decode(); err == nil {
			reports = append(reports, r)
		} else {
			p.w.fail(err)
		}
	}
	return reports
}

// noteReports enters reports and their answers into the history; nil are no answers.
func (p *pilot) noteReports(reports []*protocol.Report, answers []protocol.ReportAnswer) {
	p.w.noteReports(p.number, p.sent, reports, answers)
}

func (w *World) noteReports(client int, sent time.Duration, reports []*protocol.Report, answers []protocol.ReportAnswer) {
	for i, r := range reports {
		code, ret := protocol.CodeUnknown, int64(Never)
		if i < len(answers) {
			code, ret = answers[i].Code, int64(w.now)
			if code == protocol.CodeBadRequest && r.Evidence != forged {
				w.broken("I-4", "the report of lease %v is answered %s", r.Lease, answers[i].Reason)
			}
		}
		if r.Evidence != forged {
			w.books.history.Reported(client, r.Task, r.Lease, r.Verdict, code, int64(sent), ret)
		}
	}
}

// leave says good-bye, with what is in the spool.
func (p *pilot) leave(r *protocol.ExchangeRequest) {
	r.Reports = p.host.pending(protocol.MaxReports)
	reports := p.decode(r.Reports)
	p.sent = p.w.now
	p.w.note("%s leaves (%s) with %d reports", p.name, r.Reason, len(r.Reports))
	p.call = p.w.call(&p.process, p.at, request{caller: p.caller(), exchange: r}, 10*time.Second, func(answer any, err error) {
		if reply, is := answer.(*protocol.ExchangeReply); is && err == nil {
			p.noteReports(reports, reply.Answers)
			p.host.delivered(reply.Answers)
		} else {
			p.noteReports(reports, nil)
		}
		p.quit()
	})
}

// do carries effects out.
func (p *pilot) do(effects []real.Effect) {
	for _, e := range effects {
		switch a := p.attempts[e.Lease]; e.Kind {
		case real.EffectBegin:
			p.run(e.Grant)
		case real.EffectStop:
			p.w.note("%s stops %v: %v", p.name, e.Lease, e.Cause)
			if a != nil && a.cause == nil && !a.ended {
				a.cause = e.Cause
				p.after(p.w.between(50*time.Millisecond, 10*time.Second), func() { p.ended(a, protocol.VerdictPreempted) })
			} else if a != nil && a.cause == nil {
				a.cause = e.Cause
			}
		case real.EffectSettle:
			if a != nil && a.settled != nil {
				settled := a.settled
				a.settled = nil
				p.after(0, func() { settled(e.Code) })
			}
			if e.Deliver {
				delete(p.host.spool, e.Lease)
			}
		}
	}
}

// run is an attempt from lease to clean-up, as Pilot.run is.
func (p *pilot) run(l *protocol.Lease) {
	w := p.w
	a := &attempt{lease: l, begun: w.now}
	p.attempts[l.ID] = a
	staging, running, copying := w.between(100*time.Millisecond, 5*time.Second), w.between(time.Second, 100*time.Second), w.between(100*time.Millisecond, 5*time.Second)
	if w.chance(10) {
		running *= 20
	}
	if l.Task.Dataset%3 == 0 { // of these, pilots lease some ahead
		staging, running, copying = staging/500, running/500, copying/500
	}
	p.after(0, func() { p.talk.Phase(l.ID, protocol.PhaseStaging) })
	p.after(staging, func() { p.talk.Phase(l.ID, protocol.PhaseRunning) })
	p.after(staging+running, func() { p.talk.Phase(l.ID, protocol.PhaseCopying) })
	var finish func()
	finish = func() {
		if w.now < a.least && a.cause == nil {
			p.after(a.least-w.now, finish)
		} else {
			p.ended(a, w.outcome(p, l))
		}
	}
	p.after(staging+running+copying, finish)
}

// running are the attempts whose payload has not ended, and was not told to, oldest first.
func (p *pilot) running() (all []*attempt) {
	for _, a := range p.attempts {
		if !a.ended && a.cause == nil {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b *attempt) int { return a.lease.ID.Compare(b.lease.ID) })
	return all
}

// isBehindFence tells whether no payload may run any more. The pilot looks every three
// minutes at least: it makes an exchange, or a pause.
func (p *pilot) isBehindFence() bool {
	return p.w.now > max(p.heard+timing.Fence, p.stopped)+3*time.Minute
}

// outcome draws how an attempt ends.
func (w *World) outcome(p *pilot, l *protocol.Lease) protocol.Verdict {
	switch {
	case w.operator.doomed(l.Task):
		return protocol.VerdictPayload
	case p.host.broken && w.rng.IntN(10) < 8:
		return protocol.VerdictNode
	case w.chaotic && w.chance(8) || w.chance(40):
		v := protocol.Verdicts[w.rng.IntN(len(protocol.Verdicts))]
		if raises := v == protocol.VerdictMemory || v == protocol.VerdictWalltime || v == protocol.VerdictDisk; raises && l.Attempt > 3 || !v.Reportable() {
			return protocol.VerdictOK
		}
		return v
	}
	return protocol.VerdictOK
}

// checkpoint is what an attempt has saved by now, nil for nothing. Whether it saves is
// decided by its lease, so that the seed's draws are for what goes wrong.
func (a *attempt) checkpoint() *protocol.FileRecord {
	if a.lease.ID.Index%3 == 0 {
		return nil
	}
	url := savedAt + a.lease.Task.String() + "/" + a.lease.ID.String()
	return &protocol.FileRecord{Type: protocol.FileCheckpoint, Name: "checkpoint", URL: url, Size: 3, Digest: protocol.DigestOf([]byte(url))}
}

// savedAt is where checkpoints are.
const savedAt = "https://storage.example/saved/"

// savesAfter is how long an attempt runs before it saves something by itself.
const savesAfter = 30 * time.Second

// tell adds to an exchange what payloads say of themselves.
func (p *pilot) tell(r *protocol.ExchangeRequest) {
	for _, a := range p.running() {
		if c := a.checkpoint(); c != nil && p.w.now >= a.begun+savesAfter {
			p.w.books.saved[c.URL] = true
			r.Progress = append(r.Progress, protocol.Progress{Lease: a.lease.ID, Fraction: 0.5, Checkpoint: c})
		}
	}
}

// ended reports an attempt whose payload has ended, once.
func (p *pilot) ended(a *attempt, verdict protocol.Verdict) {
	w := p.w
	if a.ended {
		return
	}
	a.ended = true
	if a.cause != nil {
		verdict = protocol.VerdictPreempted
	} else if p.isBehindFence() {
		w.broken("I-10", "%s ran the payload of %v though no coordinator answered for %v", p.name, a.lease.ID, w.now-p.heard)
	}
	if errors.Is(a.cause, payload.ErrAbandoned) {
		p.over(a)
		return
	}
	publishes := verdict == protocol.VerdictOK && w.chance(2)
	l := a.lease
	a.report = &protocol.Report{
		Lease: l.ID, Task: l.Task, Pilot: p.id, Passkey: l.Passkey, Verdict: verdict, Host: p.host.name, Cleaned: !publishes,
		Usage:       protocol.Usage{WallMillis: (w.now - a.begun).Milliseconds(), Cores: 1},
		StartedUnix: epoch.Add(a.begun).Unix(), EndedUnix: epoch.Add(w.now).Unix(),
	}
	if verdict == protocol.VerdictOK {
		out := fmt.Sprintf("out.%d", l.Task.Task)
		a.report.Statistics = []protocol.Statistic{{Name: "events", Value: float64(w.rng.IntN(1000))}, {Name: "energy", Value: w.rng.Float64()}}
		a.report.Outputs = []protocol.FileRecord{{
			Type: protocol.FileJobTemp, Name: out, URL: "https://storage.example/" + l.ID.String(), Size: 3,
			Digest: protocol.DigestOf([]byte(out + l.ID.String())),
		}}
		if publishes {
			a.report.Outputs[0].Published = "https://storage.example/" + out
		}
	}
	inputs := slices.DeleteFunc(slices.Clone(l.Inputs), func(f protocol.FileRecord) bool { return f.Type == protocol.FileCheckpoint })
	if verdict == protocol.VerdictData && len(inputs) > 0 {
		a.report.BadInput = inputs[w.rng.IntN(len(inputs))].Name
	}
	if c := a.checkpoint(); c != nil && verdict.KeepsCheckpoint() {
		w.books.saved[c.URL] = true
		a.report.Outputs = append(a.report.Outputs, *c)
	}
	if verdict == protocol.VerdictOK {
		p.do(p.talk.Ended(p.instant(), l.ID))
		p.nudge()
	}
	w.books.sent[l.ID] = a.report.Statistics
	p.checkInputs(l)
	p.deliver(a, func(code protocol.Code) {
		switch real.ErrandAfter(code, a.report) {
		case real.ErrandPublish:
			p.talk.Phase(l.ID, protocol.PhaseCleaning)
			p.after(w.between(100*time.Millisecond, 20*time.Second), func() {
				if w.chance(20) {
					p.talk.Forgo(l.ID)
					p.over(a)
					return
				}
				a.report.Cleaned = true
				p.deliver(a, func(protocol.Code) { p.over(a) })
			})
		default:
			p.over(a)
		}
	})
}

// checkInputs checks that a lease names the files of attempts that counted.
func (p *pilot) checkInputs(l *protocol.Lease) {
	for i := range l.Inputs {
		f := &l.Inputs[i]
		if !bytes.Contains([]byte(f.URL), []byte("storage.example")) || f.Digest.IsZero() {
			p.w.broken("I-12", "lease %v reads %+v", l.ID, *f)
		}
		if f.Type != protocol.FileCheckpoint {
			continue
		}
		// It goes on from what an earlier attempt of the task has saved, and told.
		of, by, _ := strings.Cut(strings.TrimPrefix(f.URL, savedAt), "/")
		if id, err := protocol.ParseLeaseID(by); err != nil || of != l.Task.String() || id.Compare(l.ID) >= 0 || !p.w.books.saved[f.URL] {
			p.w.broken("I-12", "lease %v of task %v goes on from %s", l.ID, l.Task, f.URL)
		}
		p.w.books.resumed++
	}
}

// deliver keeps a report on disk and has it sent; settled hears of its fate.
func (p *pilot) deliver(a *attempt, settled func(protocol.Code)) {
	report := *a.report
	signed, err := protocol.SignReport(&report, p.key)
	if err != nil {
		p.w.fail(err)
		return
	}
	takes := p.w.between(time.Millisecond, 20*time.Millisecond)
	if p.w.chance(10) {
		takes = p.w.between(time.Second, time.Minute) // the log is not stored at once
	}
	p.after(takes, func() {
		p.host.spool[report.Lease] = signed
		if !p.talk.Report(report.Lease, &signed, report.Cleaned) {
			settled(protocol.CodeUnknown)
			return
		}
		a.settled = settled
		if p.w.chaotic && p.w.chance(10) {
			p.forge(&report)
		}
		p.nudge()
	})
}

// forge sends reports that must not count: with another passkey, or another's signature.
func (p *pilot) forge(r *protocol.Report) {
	f := *r
	f.Evidence, f.Verdict, f.Outputs = forged, protocol.VerdictOK, nil
	key := p.key
	if p.w.chance(2) {
		f.Passkey = "0000000000000000"
	} else {
		key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	}
	signed, err := protocol.SignReport(&f, key)
	if err != nil {
		p.w.fail(err)
		return
	}
	p.w.call(&p.process, p.w.anyNode(), request{site: p.site.id, reports: []protocol.SignedReport{signed}}, 30*time.Second, func(any, error) {})
}

func (p *pilot) over(a *attempt) {
	delete(p.attempts, a.lease.ID)
	p.talk.Over(a.lease.ID)
	p.nudge()
}

// noteUnanswered enters the reports of an exchange that nobody will hear of.
func (p *pilot) noteUnanswered() {
	if p.call != nil && !p.call.over && p.request != nil {
		p.noteReports(p.decode(p.request.Reports), nil)
	}
}

// crash kills a pilot, or its whole node: what is in the spool stays.
func (p *pilot) crash() {
	p.w.note("%s is killed", p.name)
	if p.call != nil && !p.call.over {
		c := p.call
		p.noteUnanswered()
		c.over = true
		if p.w.chance(2) { // its connection ends, and the coordinator sees it
			p.w.after(p.w.between(time.Millisecond, time.Second), func() {
				for _, gone := range c.gone {
					gone()
				}
			})
		}
	}
	p.quit()
}

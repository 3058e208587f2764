package server

import (
	"crypto/ed25519"
	"slices"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// Admission is the way of some reports into the record: those that are good are
// proposed, all at once so that they share entries. The answers are in the order of
// the reports.
type Admission struct {
	answers  []protocol.ReportAnswer
	commands []state.Command
	of       []int // the answer of each command
	logs     []sentLog
}

// sentLog is a log that came with its report.
type sentLog struct {
	report *state.Report // what is to be proposed
	data   []byte
}

// Sender is who delivers reports: a pilot, or a pass of a site.
type Sender struct {
	Site protocol.SiteID
	// Pilot and Key are the pilot and the public key whose possession its connection
	// proved. Reports of that pilot need no other proof; all others are believed for
	// their signature alone. Both are empty for a pass.
	Pilot protocol.PilotID
	Key   ed25519.PublicKey
}

// senderOf is the pilot of a connection. Its key counts as proved only if it is the
// one that the pilot is known by.
func senderOf(caller *transport.Caller, pilot *state.Pilot) Sender {
	s := Sender{Site: pilot.Site}
	if caller.Kind == transport.Pilot && !caller.KeyFingerprint.IsZero() && caller.KeyFingerprint == transport.KeyFingerprint(pilot.PublicKey) {
		s.Pilot, s.Key = pilot.ID, pilot.PublicKey
	}
	return s
}

// vouchesFor tells whether the sender's connection proves what the signature of a
// pilot with this key would.
func (s *Sender) vouchesFor(pilot protocol.PilotID, key ed25519.PublicKey) bool {
	return len(s.Key) > 0 && s.Pilot == pilot && s.Key.Equal(key)
}

// delivered is one report and what the record knows of it.
type delivered struct {
	report  *protocol.Report // nil when it is refused
	signer  state.Signer
	known   bool // the signer is
	lease   state.Lease
	current bool // the lease is its task's
}

// Admit judges the reports that a sender delivers.
func (c *Core) Admit(sender Sender, reports []protocol.SignedReport) *Admission {
	a := &Admission{answers: make([]protocol.ReportAnswer, len(reports))}
	all := make([]delivered, len(reports))
	for i := range reports {
		report, err := reports[i].Decode()
		if report != nil {
			a.answers[i].Lease = report.Lease // also of one that is refused, or it would stay in its spool
		}
		if err != nil {
			a.answers[i].Code, a.answers[i].Reason = protocol.CodeBadRequest, err.Error()
			continue
		}
		all[i].report = report
	}
	c.record.Read(func(m *state.Machine) {
		for i := range all {
			if d := &all[i]; d.report != nil {
				d.signer, d.known = m.Signer(d.report.Pilot)
				d.lease, d.current = m.Lease(d.report.Task)
			}
		}
	})
	for i := range all {
		d := &all[i]
		if d.report == nil {
			continue
		}
		if code, reason := c.judge(&sender, &reports[i], d); code != protocol.CodeOK {
			a.answers[i].Code, a.answers[i].Reason = code, reason
			continue
		}
		command := state.ReportFrom(d.report)
		a.commands, a.of = append(a.commands, command), append(a.of, i)
		if len(reports[i].Log) > 0 && d.current && d.lease.ID == d.report.Lease {
			a.logs = append(a.logs, sentLog{command, reports[i].Log})
		}
	}
	return a
}

// judge says why a report is refused.
func (c *Core) judge(sender *Sender, signed *protocol.SignedReport, d *delivered) (protocol.Code, string) {
	key := ed25519.PublicKey(d.signer.PublicKey)
	switch {
	case !d.known || d.signer.Site != sender.Site:
		return protocol.CodeStale, "its pilot is not known at this site any more"
	case !sender.vouchesFor(d.report.Pilot, key) && !signed.Verify(key):
		return protocol.CodeBadRequest, "the signature is not that of the pilot"
	case d.current && d.lease.ID == d.report.Lease && !c.passkey(&d.lease, key).Matches(d.report.Passkey):
		return protocol.CodeStale, "the passkey is not that of the lease"
	}
	return protocol.CodeOK, ""
}

func (c *Core) passkey(l *state.Lease, key ed25519.PublicKey) protocol.Passkey {
	return c.passkeys.Passkey(l.Task, l.ID, protocol.DigestOf(key), l.Nonce)
}

// Proposals are the commands to propose; none where every report was refused.
func (a *Admission) Proposals() []state.Command { return a.commands }

// Settle takes the fates of the proposals, in their order.
func (a *Admission) Settle(fates []Fate) {
	for i, f := range fates {
		answer := &a.answers[a.of[i]]
		answer.Code, answer.Reason = f.Answer.Code, f.Answer.Reason
		if f.Err != nil {
			answer.Code, answer.Reason = protocol.CodeOf(f.Err), f.Err.Error()
			if answer.Code != protocol.CodeBadRequest && answer.Code != protocol.CodeTooLarge {
				answer.Code = protocol.CodeUnknown
			}
		}
	}
}

// concerns tells whether a report on the lease was delivered, good or not: one whose
// report was refused as unknown must not be run again by the same pilot.
func (a *Admission) concerns(id protocol.LeaseID) bool {
	return slices.ContainsFunc(a.answers, func(x protocol.ReportAnswer) bool { return x.Lease == id })
}

// Answers are the fates of the reports, once everything is settled.
func (a *Admission) Answers() []protocol.ReportAnswer { return a.answers }

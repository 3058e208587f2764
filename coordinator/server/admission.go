package server

import (
	"floe/coordinator/state"
	"floe/protocol"
)

// Admission is the way of some reports into the record: those that are good are
// proposed, all at once so that they share entries. The answers are in the order of
// the reports.
type Admission struct {
	answers  []protocol.ReportAnswer
	commands []state.Command
	of       []int // the answer of each command
}

// Admit judges reports that came through a pilot or pass of a site.
func (c *Core) Admit(site protocol.SiteID, reports []protocol.SignedReport) *Admission {
	a := &Admission{answers: make([]protocol.ReportAnswer, len(reports))}
	for i := range reports {
		if command := c.judge(site, &reports[i], &a.answers[i]); command != nil {
			a.commands, a.of = append(a.commands, command), append(a.of, i)
		}
	}
	return a
}

// judge returns the command of a report, or nil when it is refused.
func (c *Core) judge(site protocol.SiteID, signed *protocol.SignedReport, answer *protocol.ReportAnswer) state.Command {
	report, err := signed.Decode()
	if report != nil {
		answer.Lease = report.Lease // also of one that is refused, or it would stay in its spool
	}
	if err != nil {
		answer.Code, answer.Reason = protocol.CodeBadRequest, err.Error()
		return nil
	}
	var pilot state.Pilot
	var known, current bool
	var lease state.Lease
	c.record.Read(func(m *state.Machine) {
		pilot, known = m.Pilot(report.Pilot)
		lease, current = m.Lease(report.Task)
	})
	switch {
	case !known || pilot.Site != site:
		answer.Code, answer.Reason = protocol.CodeStale, "its pilot is not known at this site any more"
	case !signed.Verify(pilot.PublicKey):
		answer.Code, answer.Reason = protocol.CodeBadRequest, "the signature is not that of the pilot"
	case current && lease.ID == report.Lease && !c.passkey(&lease, &pilot).Matches(report.Passkey):
		answer.Code, answer.Reason = protocol.CodeStale, "the passkey is not that of the lease"
	default:
		return state.ReportFrom(report)
	}
	return nil
}

func (c *Core) passkey(l *state.Lease, p *state.Pilot) protocol.Passkey {
	return c.passkeys.Passkey(l.Task, l.ID, protocol.DigestOf(p.PublicKey), l.Nonce)
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

// Answers are the fates of the reports, once everything is settled.
func (a *Admission) Answers() []protocol.ReportAnswer { return a.answers }

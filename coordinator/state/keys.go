package state

import (
	"fmt"

	"floe/protocol"
)

// KeyLifetime is how long the answer to a keyed command is remembered, at most
// MaxKeys of them. Source: design §4.
const (
	KeyLifetime = 24 * Hour
	MaxKeys     = 100_000
)

// answered is what a keyed command was answered.
type answered struct {
	Kind    Kind               `cbor:"1,keyasint"`
	Expires RecordTime         `cbor:"2,keyasint"`
	Dataset protocol.DatasetID `cbor:"3,keyasint,omitempty"`
	Moved   Moved              `cbor:"4,keyasint"`
}

// control is a command of a person, or done in a person's name.
type control interface {
	// action returns who does it, and verb and object for the audit record.
	action() (by *Action, verb, object string)
}

func datasetObject(d protocol.DatasetID) string { return fmt.Sprintf("dataset %d", d) }

// key returns what a command's key is remembered under: two people may use the
// same key.
func (a *Action) key() string { return string(a.Actor) + "\x00" + a.Key }

// answerAgain returns the answer that a command with the same key was given.
func (m *Machine) answerAgain(by *Action, k Kind) (Answer, bool) {
	if by.Key == "" {
		return Answer{}, false
	}
	a, known := m.answered.Get(by.key())
	switch {
	case !known:
		return Answer{}, false
	case a.Kind != k:
		return refuse(protocol.CodeConflict, "the key was used for another request"), true
	}
	return Answer{Reason: "done before", Dataset: a.Dataset, Moved: a.Moved}, true
}

// Answered returns what a command of a kind with this key was answered within
// KeyLifetime, or would be refused with.
func (m *Machine) Answered(by *Action, k Kind) (Answer, bool) { return m.answerAgain(by, k) }

// remember keeps an answer. Refusals are not kept: the same key may succeed later.
func (m *Machine) remember(by *Action, k Kind, a *Answer) {
	if by.Key == "" || a.Code != protocol.CodeOK {
		return
	}
	if m.answered.Len() >= MaxKeys {
		m.due.keys.popFirst(func(key string) { m.answered.Delete(key) })
	}
	kept := &answered{Kind: k, Expires: m.time + KeyLifetime, Dataset: a.Dataset, Moved: a.Moved}
	m.answered.Set(by.key(), kept)
	m.due.keys.add(kept.Expires, by.key())
}

func (s *SubmitDataset) action() (*Action, string, string) {
	return &s.By, "submit", datasetObject(s.Dataset)
}

func (a *AddJobs) action() (*Action, string, string) {
	return &a.By, "add jobs", datasetObject(a.Dataset)
}

func (s *SetDataset) action() (*Action, string, string) {
	verb := [...]string{"change", "suspend", "resume", "retire"}
	return &s.By, verb[min(int(s.Verb), len(verb)-1)], datasetObject(s.Dataset)
}

func (r *ResetTasks) action() (*Action, string, string) {
	return &r.By, "reset", datasetObject(r.Select.Dataset)
}

func (s *SuspendTasks) action() (*Action, string, string) {
	return &s.By, "suspend tasks", datasetObject(s.Select.Dataset)
}

func (r *ResumeTasks) action() (*Action, string, string) {
	return &r.By, "resume tasks", datasetObject(r.Select.Dataset)
}

func (s *SkipDatasets) action() (*Action, string, string) {
	return &s.By, "skip datasets", datasetObject(s.Next)
}

func (s *SetFormat) action() (*Action, string, string) {
	return &s.By, "raise format", fmt.Sprint(s.Format)
}
func (p *PutSite) action() (*Action, string, string)    { return &p.By, "put site", string(p.Site) }
func (r *RemoveSite) action() (*Action, string, string) { return &r.By, "remove site", string(r.Site) }

func (r *RevokeSite) action() (*Action, string, string) { return &r.By, "revoke site", string(r.Site) }

func (p *PutTicket) action() (*Action, string, string) { return &p.By, "put ticket", string(p.Site) }

func (d *DrainPilot) action() (*Action, string, string) {
	if d.Undo {
		return &d.By, "undrain pilot", string(d.Pilot)
	}
	return &d.By, "drain pilot", string(d.Pilot)
}

func (r *RevokePilot) action() (*Action, string, string) {
	return &r.By, "revoke pilot", string(r.Pilot)
}
func (p *PutUser) action() (*Action, string, string)    { return &p.By, "put user", string(p.User) }
func (r *RemoveUser) action() (*Action, string, string) { return &r.By, "remove user", string(r.User) }

func (p *PutToken) action() (*Action, string, string) { return &p.By, "put token", string(p.User) }

func (r *RevokeToken) action() (*Action, string, string) {
	return &r.By, "revoke token", r.Hash.String()
}

func (p *PutJoinToken) action() (*Action, string, string) {
	return &p.By, "invite " + p.For.String(), p.Name
}

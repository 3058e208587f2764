package pilot

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/steering"
)

// Trial is what a pilot that tries a node says of it, for whoever sets a site up.
type Trial struct {
	Host      string             `json:"host"`
	Version   string             `json:"version"`
	Resources protocol.Resources `json:"resources"`
	// End is when the slot ends, as far as is known.
	End time.Time `json:"end,omitzero"`
	// Isolated says that payloads have namespaces of their own.
	Isolated bool `json:"isolated"`
	// Notes are what is wrong with the node, or not as the batch system promised.
	Notes []string `json:"notes,omitempty"`
	// Verdict and Evidence are those of a task of the pilot's own.
	Verdict  protocol.Verdict `json:"verdict"`
	Evidence string           `json:"evidence,omitempty"`
	// Site and Pilot are as enrolled, Way the rung of the ladder.
	Site  protocol.SiteID  `json:"site,omitempty"`
	Pilot protocol.PilotID `json:"pilot,omitempty"`
	Way   string           `json:"way,omitempty"`
}

// trialDocument is a task that needs nothing of the node but floe.
const trialDocument = `version: 3
tasks: [{name: trial, trays: [{modules: [{class: floe.hello, parameters: {greeting: tasks can run here}}]}]}]
`

// try is the life of a pilot that tries its node: it measures, runs a task of its own,
// enrols, and leaves at once.
func (p *Pilot) try(ctx context.Context) error {
	defer p.clean()
	c := p.config
	t := &Trial{Version: protocol.Version, Isolated: p.isolation != nil}
	defer c.Trial(t)
	t.Host, _ = os.Hostname()
	offer, report := c.Measure(ctx, measureOptions(&c))
	t.Resources, t.End, t.Notes = offer, report.End, report.Problems
	for _, beside := range report.Comparisons {
		if beside.Warning != "" {
			t.Notes = append(t.Notes, beside.Warning)
		}
	}
	own := p.tryTask(ctx)
	t.Verdict, t.Evidence = own.Verdict, own.Evidence
	within, cancel := context.WithTimeout(ctx, enrolWithin)
	defer cancel()
	enrolled, err := p.link.Enrol(within, protocol.EnrolRequest{
		Launch: c.Launch, Host: t.Host, BatchID: c.BatchID, Resources: offer, Version: protocol.Version,
	})
	if err != nil {
		return err
	}
	t.Site, t.Pilot = enrolled.Site, p.link.ID()
	if l, ok := p.link.(*Link); ok {
		rung, _ := l.Way()
		t.Way = rung.String()
	}
	return p.leave(ctx, &protocol.ExchangeRequest{Sequence: 1, Free: offer, Leaving: true, Reason: "it tried the node"})
}

// tryTask runs a task of the pilot's own as it would run any.
func (p *Pilot) tryTask(ctx context.Context) *protocol.Report {
	a := &Attempt{
		Lease: &protocol.Lease{
			ID: protocol.LeaseID{Index: 1}, Task: protocol.TaskID{Dataset: 1}, TaskName: "trial", Attempt: 1, JobCount: 1,
			Granted: protocol.Requirements{Cores: 1, Walltime: 60}, Version: protocol.LanguageVersion,
		},
		Dir: filepath.Join(p.scratch, "trial"), Mover: &stage.Mover{Cache: p.cache, Temp: p.scratch, Logger: p.logger}, Cache: p.cache, Cores: 1,
		Groups: p.config.Groups, Isolation: p.isolation, Library: p.config.Library, Tool: p.tool, Logger: p.logger, Payload: p.config.Payload,
		System: systemParameters(p.config.System),
	}
	report := a.Run(ctx, func(context.Context, protocol.Digest) (*steering.Document, error) {
		doc, problems := steering.Parse("trial", []byte(trialDocument))
		if problems.HasErrors() {
			return nil, problems
		}
		return doc, nil
	})
	if err := a.Clean(); err != nil && report.Verdict == protocol.VerdictOK {
		report.Verdict, report.Evidence = protocol.VerdictNode, err.Error()
	}
	return report
}

package batch

import (
	"context"
	"errors"
	"strings"
	"time"

	"floe/protocol"
)

// The classes of errors of a System's methods.
var (
	// ErrTransient: the batch system could not be asked, or did not answer; the
	// outcome is unknown. Ask again in the next pass.
	ErrTransient = errors.New("batch system unreachable")
	// ErrRefused: the batch system said no, and will say so again.
	ErrRefused = errors.New("batch system refused")
	// ErrUnknownJob: the batch system does not know the job.
	ErrUnknownJob = errors.New("unknown batch job")
)

// JobID is a job's name in the batch system.
type JobID string

// State is where a job stands in the batch system.
type State uint8

// The states of a batch job that a pass tells apart.
const (
	Queued  State = iota + 1 // waiting for a slot
	Running                  // its script has started
	Held                     // will not start without a person
	Ended                    // finished, failed or removed
)

func (s State) String() string {
	switch s {
	case Queued:
		return "queued"
	case Running:
		return "running"
	case Held:
		return "held"
	case Ended:
		return "ended"
	}
	return "invalid state"
}

// Job is one pilot job as it is to be submitted.
type Job struct {
	// Launch is the launch lease the job will carry in its name (see JobName).
	Launch protocol.LaunchID
	// Directory is the job's own, made by the pass: the submit file, the script,
	// the ticket and the job's output live there.
	Directory string
	// Script is the file to run, inside Directory.
	Script string
	// Offer is what the pilot job asks of the batch system; Remaining is its walltime.
	Offer protocol.Resources
	// GPUs is how many graphics cards to ask for.
	GPUs int
	// Queue, Account and Directives are the site's own words, passed as they are.
	Queue      string
	Account    string
	Directives []string
}

// Entry is one of our jobs as the batch system lists it.
type Entry struct {
	ID     JobID
	Launch protocol.LaunchID // from the job's name; empty when it was cut
	State  State
	Since  time.Time // zero when the system does not say
}

// Properties are what a system can do. Differences between systems are data.
type Properties struct {
	Name     string
	Arrays   bool // several jobs in one submission
	GPUs     bool // can be asked for graphics cards
	Walltime bool // enforces a walltime, so the pilot is told one
}

// System is one batch system, spoken to as the site's own user. Its methods are
// called by one pass at a time; every method gives up when ctx ends.
type System interface {
	Properties() Properties
	// WriteSubmitFile writes what Submit will hand to the batch system and returns
	// its path. A dry run stops here.
	WriteSubmitFile(job Job) (string, error)
	// Submit hands in one job whose submit file was written, and returns its id.
	// On ErrTransient the job may exist all the same: the next Status finds it by name.
	Submit(ctx context.Context, job Job, submitFile string) (JobID, error)
	// Status lists all our jobs the system still has, many at once.
	Status(ctx context.Context) ([]Entry, error)
	// Remove ends a job. Removing one that has ended is no error; one the system
	// never had is ErrUnknownJob.
	Remove(ctx context.Context, id JobID) error
	// Clean removes what the system keeps of a job that has ended.
	Clean(ctx context.Context, id JobID) error
}

// namePrefix begins the name of every pilot job.
const namePrefix = "floe-"

// JobName is the name a job carries in the batch system.
func JobName(l protocol.LaunchID) string { return namePrefix + string(l) }

// LaunchOf is the launch lease in a job's name, and whether the name is ours.
func LaunchOf(name string) (protocol.LaunchID, bool) {
	l, ok := strings.CutPrefix(name, namePrefix)
	return protocol.LaunchID(l), ok && l != ""
}

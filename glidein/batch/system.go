package batch

import (
	"context"
	"errors"
	"fmt"
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

// Unknown is the error of a query that failed: whatever else it is, nothing is known
// of the jobs.
func Unknown(err error) error {
	if errors.Is(err, ErrTransient) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrTransient, err)
}

// JobID is a job's name in the batch system.
type JobID string

// State is where a job stands in the batch system.
type State uint8

// The states of a batch job that a pass tells apart.
const (
	Queued  State = iota + 1 // waiting for a slot
	Running                  // its script has started, or is about to
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
	// Files are names of other files in Directory that the script reads by these names
	// in the directory that it starts in: systems without a shared file system send
	// them along.
	Files []string
	// Cores, Memory, Disk, GPUs and Walltime are what the job asks for; 0 asks for
	// nothing and leaves it to the system's default.
	Cores    int
	Memory   protocol.ByteSize
	Disk     protocol.ByteSize
	GPUs     int
	Walltime time.Duration
	// Priority orders the site's own jobs among themselves: more is sooner, 0 is the
	// system's default. Most systems let a plain user only go below it.
	Priority int
	// Queue, Account and Directives are the site's own words, passed as they are.
	Queue      string
	Account    string
	Directives []string
}

// Output is the file that what the job prints goes to.
const Output = "output"

// Entry is one of our jobs as the batch system lists it.
type Entry struct {
	ID JobID
	// Launch is what the job's name says: its launch lease, or that of its array's
	// leader. Empty when the system does not show names.
	Launch protocol.LaunchID
	Index  int // in its array, from 0; 0 also for a job that is in none
	State  State
	Reason string    // why it waits or is held, in the system's words; may be empty
	Since  time.Time // zero when the system does not say
}

// Known is a job that the pass has in its ledger. Systems that cannot list jobs
// are asked about these; the others have no need of them.
type Known struct {
	ID     JobID // empty when the answer to its submission was lost
	Launch protocol.LaunchID
	Index  int // in the array that Launch leads
}

// Properties are what a system can do. Differences between systems are data.
type Properties struct {
	Name string
	// MaxArray is the largest number of jobs in one submission; 0 or 1 means one by one.
	MaxArray int
	// Lists: Status finds jobs by their names. Without it, a job whose submission was
	// not answered cannot be found again; its launch lease lapses.
	Lists    bool
	GPUs     bool // can be asked for graphics cards
	Walltime bool // enforces a walltime, so the pilot is told one by the system
	// Sends: a job's Files are sent along whatever their size, a program among them, to
	// nodes that do not share our directories.
	Sends bool
	// Directory is what jobs have in place of the site's directory, and Pilot where the
	// pilot program lies there; empty where they see those of the pass.
	Directory string
	Pilot     string
}

// System is one batch system, spoken to as the site's own user. Its methods are
// called by one pass at a time; every method gives up when ctx ends.
type System interface {
	Properties() Properties
	// WriteSubmitFile writes what Submit will hand to the batch system, into the first
	// job's directory, and returns its path. More than one job is an array: they ask
	// for the same. A dry run stops here.
	WriteSubmitFile(jobs []Job) (string, error)
	// Submit hands in jobs whose submit file was written, and returns an id for each.
	// On ErrTransient they may exist all the same: the next Status finds them by name.
	Submit(ctx context.Context, jobs []Job, submitFile string) ([]JobID, error)
	// Status lists all our jobs the system still has, many at once. Jobs that have
	// ended may be listed so, or not at all.
	Status(ctx context.Context, known []Known) ([]Entry, error)
	// Remove asks the system to end a job: SIGTERM first, where it can. Removing one
	// that has ended is no error; one the system never had is ErrUnknownJob, where it
	// can tell the two apart.
	Remove(ctx context.Context, id JobID) error
	// Clean removes what the system keeps of a job that has ended, having fetched what
	// it printed into its directory where that is not shared. Without a directory, the
	// pass does not know the job.
	Clean(ctx context.Context, id JobID, directory string) error
}

// namePrefix begins the name of every pilot job.
const namePrefix = "floe-"

// RunPrefix begins the launches of jobs that a person has submitted without
// coordinators. A site's pass leaves them alone. No launch lease has a dash.
const RunPrefix = "run-"

// OfRun tells whether a launch is of such a job.
func OfRun(l protocol.LaunchID) bool { return strings.HasPrefix(string(l), RunPrefix) }

// JobName is the name a job carries in the batch system.
func JobName(l protocol.LaunchID) string { return namePrefix + string(l) }

// LaunchOf is the launch lease in a job's name, and whether the name is ours.
func LaunchOf(name string) (protocol.LaunchID, bool) {
	l, ok := strings.CutPrefix(name, namePrefix)
	return protocol.LaunchID(l), ok && l != ""
}

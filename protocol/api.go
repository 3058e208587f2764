package protocol

// The structs of the people's verbs: JSON over the same API. Every list carries
// a cursor; an empty Next is the end.

// SubmitRequest is POST /v1/datasets: a steering document and how often to run it.
type SubmitRequest struct {
	// Key makes the request idempotent: the same key within 24 h answers the same dataset.
	Key      string            `json:"key" minLength:"8" maxLength:"64" doc:"client-chosen, makes the request idempotent"`
	File     string            `json:"file,omitempty" maxLength:"1024" doc:"file name, for messages"`
	Steering string            `json:"steering" minLength:"1" doc:"the steering document: XML, JSON or YAML"`
	Jobs     uint32            `json:"jobs" doc:"number of jobs; may be 0 and grow"`
	Alias    string            `json:"alias,omitempty" maxLength:"128"`
	Title    string            `json:"title,omitempty" maxLength:"256"`
	Group    GroupID           `json:"group,omitempty" maxLength:"128"`
	Priority int               `json:"priority,omitempty" minimum:"-100" maximum:"100"`
	Parent   DatasetID         `json:"parent,omitempty"`
	Sites    []SiteID          `json:"sites,omitempty" doc:"only these sites"`
	Exclude  []SiteID          `json:"exclude,omitempty" doc:"never these sites"`
	Options  map[string]string `json:"options,omitempty" doc:"options, overriding the document's"`
	Seed     uint64            `json:"seed,omitempty" doc:"dataset seed; 0 draws one"`
	// DryRun answers what would be submitted and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// SubmitReply answers a SubmitRequest.
type SubmitReply struct {
	Dataset  DatasetID `json:"dataset" doc:"0 for a dry run"`
	Jobs     uint32    `json:"jobs"`
	Tasks    uint64    `json:"tasks" doc:"jobs times tasks of a job"`
	Warnings []string  `json:"warnings,omitempty"`
	// Modules are the external modules as they were fetched.
	Modules []ModulePin `json:"modules,omitempty"`
	// Software are the builds of the catalog that the tasks may use, now and later.
	Software []SoftwareID `json:"software,omitempty"`
}

// GrowRequest is POST /v1/datasets/{dataset}/jobs: Jobs more behind the From that
// the dataset has.
type GrowRequest struct {
	Key  string `json:"key" minLength:"8" maxLength:"64" doc:"client-chosen, makes the request idempotent"`
	From uint32 `json:"from" doc:"jobs the dataset has now"`
	Jobs uint32 `json:"jobs" minimum:"1" doc:"jobs to add"`
}

// GrowReply answers a GrowRequest.
type GrowReply struct {
	Jobs uint32 `json:"jobs" doc:"jobs the dataset has then"`
}

// StateCounts counts things by the word of their state.
type StateCounts map[string]uint64

// TaskSummary is one vertex of a dataset's DAG.
type TaskSummary struct {
	Index        TaskIndex      `json:"index"`
	Name         string         `json:"name"`
	Parents      []TaskIndex    `json:"parents,omitempty"`
	Requirements []Requirements `json:"requirements" doc:"one per requirement class"`
	Counts       StateCounts    `json:"counts"`
}

// Dataset is one dataset as lists show it; Tasks and Modules are filled by GET /v1/datasets/{dataset} only.
type Dataset struct {
	ID          DatasetID     `json:"dataset"`
	Alias       string        `json:"alias,omitempty"`
	Title       string        `json:"title,omitempty"`
	Description string        `json:"description,omitempty"`
	Owner       UserID        `json:"owner"`
	Group       GroupID       `json:"group,omitempty"`
	Priority    int           `json:"priority"`
	State       DatasetState  `json:"state"`
	Parent      DatasetID     `json:"parent,omitempty"`
	Jobs        uint32        `json:"jobs"`
	JobCounts   StateCounts   `json:"job_counts"`
	TaskCounts  StateCounts   `json:"task_counts"`
	Steering    Digest        `json:"steering"`
	Software    Digest        `json:"software,omitzero" doc:"the bill of software that was pinned at submission"`
	Seed        uint64        `json:"seed"`
	Sites       []SiteID      `json:"sites,omitempty"`
	Exclude     []SiteID      `json:"exclude,omitempty"`
	Categories  []string      `json:"categories,omitempty"`
	Submitted   int64         `json:"submitted" doc:"unix milliseconds"`
	Finished    int64         `json:"finished,omitempty" doc:"unix milliseconds"`
	Tasks       []TaskSummary `json:"tasks,omitempty"`
	// Modules are the external modules as they were fetched at submission; likewise.
	Modules []ModulePin `json:"modules,omitempty"`
}

// DatasetPage is a page of datasets, newest first.
type DatasetPage struct {
	Datasets []Dataset `json:"datasets"`
	Next     string    `json:"next,omitempty"`
}

// Job is one job of a dataset; Tasks is filled by the job's own address only.
type Job struct {
	Dataset DatasetID `json:"dataset"`
	Index   JobIndex  `json:"job"`
	State   JobState  `json:"state"`
	Tasks   []Task    `json:"tasks,omitempty"`
}

// JobPage is a page of jobs in order of index.
type JobPage struct {
	Jobs []Job  `json:"jobs"`
	Next string `json:"next,omitempty"`
}

// Task is one task of one job.
type Task struct {
	ID    TaskID    `json:"id"`
	Name  string    `json:"name"`
	State TaskState `json:"state"`
	// Phase, Site, Pilot, Host and Lease are set while the task is processing.
	Phase string  `json:"phase,omitempty"`
	Lease string  `json:"lease,omitempty"`
	Site  SiteID  `json:"site,omitempty"`
	Pilot PilotID `json:"pilot,omitempty"`
	Host  string  `json:"host,omitempty"`
	// Progress is what the payload says of itself, known to the leader only.
	Progress *Progress `json:"progress,omitempty"`
	Attempts []Attempt `json:"attempts,omitempty" doc:"ended attempts, newest last; only at the task's own address"`
}

// TaskPage is a page of tasks in order of job and task.
type TaskPage struct {
	Tasks []Task `json:"tasks"`
	Next  string `json:"next,omitempty"`
}

// Attempt is one ended attempt as history has it.
type Attempt struct {
	Lease      string         `json:"lease"`
	Number     uint32         `json:"attempt"`
	Task       TaskID         `json:"task"`
	Verdict    Verdict        `json:"verdict"`
	Accepted   bool           `json:"accepted"`
	Withdrawn  bool           `json:"withdrawn,omitempty"`
	Evidence   string         `json:"evidence,omitempty"`
	ExitCode   int            `json:"exit_code"`
	Signal     int            `json:"signal,omitempty"`
	Site       SiteID         `json:"site"`
	Pilot      PilotID        `json:"pilot"`
	Host       string         `json:"host,omitempty"`
	Granted    int64          `json:"granted" doc:"unix milliseconds"`
	Ended      int64          `json:"ended" doc:"unix milliseconds"`
	Usage      Usage          `json:"usage"`
	Statistics []Statistic    `json:"statistics,omitempty"`
	Outputs    []FileRecord   `json:"outputs,omitempty"`
	Modules    []ModuleResult `json:"modules,omitempty"`
	Log        LogRecord      `json:"log"`
}

// ActionRequest is POST /v1/datasets/{dataset}/actions.
type ActionRequest struct {
	Action string      `json:"action" enum:"suspend,resume,reset,priority,retire" doc:"what to do"`
	Jobs   string      `json:"jobs,omitempty" doc:"selection such as 0-9,12; empty is all"`
	Tasks  []string    `json:"tasks,omitempty" doc:"task names; empty is all"`
	States []TaskState `json:"states,omitempty" doc:"only tasks in these states; reset takes those in error when empty"`
	Reason string      `json:"reason,omitempty" maxLength:"512"`
	Value  int         `json:"value,omitempty" doc:"the new priority"`
	// Preview answers the counts and changes nothing.
	Preview bool `json:"preview,omitempty"`
}

// ActionReply says what an action changed, or would.
type ActionReply struct {
	Tasks       uint64 `json:"tasks" doc:"tasks moved"`
	Descendants uint64 `json:"descendants,omitempty" doc:"of which only because an ancestor was reset"`
	Leases      uint64 `json:"leases,omitempty" doc:"running attempts ended"`
	Applied     bool   `json:"applied"`
}

// StatisticSummary is one named statistic over the accepted attempts of a
// dataset or of one of its tasks. The sums are exact; see coordinator/history.
type StatisticSummary struct {
	Task   string  `json:"task,omitempty" doc:"empty: over the whole dataset"`
	Name   string  `json:"name"`
	Count  uint64  `json:"count"`
	Sum    float64 `json:"sum"`
	Mean   float64 `json:"mean"`
	StdDev float64 `json:"stddev" doc:"sample standard deviation; 0 for a single value"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// UsageTotal is what attempts used in all.
type UsageTotal struct {
	Attempts   uint64 `json:"attempts"`
	WallMillis int64  `json:"wall_ms"`
	CPUMillis  int64  `json:"cpu_ms"`
	GPUMillis  *int64 `json:"gpu_ms,omitempty" doc:"time that cards were busy, summed over them; absent where that is known of no attempt"`
	KeptMillis int64  `json:"kept_ms,omitempty" doc:"wall time that checkpoints spared them"`
}

// StatisticsReply is GET /v1/datasets/{dataset}/statistics.
type StatisticsReply struct {
	Statistics []StatisticSummary `json:"statistics"`
	Used       UsageTotal         `json:"used" doc:"accepted attempts"`
	Wasted     UsageTotal         `json:"wasted" doc:"all others"`
}

// Output is one permanent output of a dataset.
type Output struct {
	Job  JobIndex `json:"job"`
	Task string   `json:"task"`
	Name string   `json:"name"`
	URL  string   `json:"url"`
	// Intended is set where the pilot never said that the file has its final name: it
	// is at URL or, if the pilot died just after the move, at Intended.
	Intended string   `json:"intended,omitempty" doc:"final name that was not confirmed; where the file is if it is not at url"`
	Size     ByteSize `json:"size"`
	Digest   Digest   `json:"digest"`
}

// OutputPage is a page of outputs in order of task and job.
type OutputPage struct {
	Outputs []Output `json:"outputs"`
	Next    string   `json:"next,omitempty"`
}

// Pilot is one pilot process.
type Pilot struct {
	ID        PilotID   `json:"pilot"`
	Site      SiteID    `json:"site"`
	Host      string    `json:"host"`
	BatchID   string    `json:"batch_id,omitempty"`
	Version   string    `json:"version"`
	State     string    `json:"state" doc:"active, draining"`
	Resources Resources `json:"resources"`
	Leases    []string  `json:"leases,omitempty" doc:"tasks it holds"`
	Enrolled  int64     `json:"enrolled" doc:"unix milliseconds"`
	LastSeen  int64     `json:"last_seen,omitempty" doc:"unix milliseconds; known to the leader only"`
	Transport string    `json:"transport,omitempty" doc:"quic, tcp, proxy or relay"`
	Why       string    `json:"transport_why,omitempty" doc:"why the ways before it were not taken"`
	// Cache is nil until the pilot has spoken of it.
	Cache *CacheFigures `json:"cache,omitempty" doc:"what the pilot's cache has done, in numbers and bytes; known to the leader only"`
}

// PilotPage is a page of pilots.
type PilotPage struct {
	Pilots []Pilot `json:"pilots"`
	Next   string  `json:"next,omitempty"`
}

// Site is one site as the record has it.
type Site struct {
	ID       SiteID `json:"site"`
	State    string `json:"state"`
	Pilots   uint64 `json:"pilots"`
	Launches uint64 `json:"launches" doc:"pilot jobs granted and not yet enrolled"`
	Running  uint64 `json:"running" doc:"tasks"`
	LastPass int64  `json:"last_pass,omitempty" doc:"unix milliseconds; known to the leader only"`
}

// SitePage lists all sites.
type SitePage struct {
	Sites []Site `json:"sites"`
}

// Explanation says why a task is where it is.
type Explanation struct {
	Task   TaskID    `json:"task"`
	Name   string    `json:"name"`
	State  TaskState `json:"state"`
	Lines  []string  `json:"lines" doc:"sentences, most decisive first"`
	Pilots uint64    `json:"pilots" doc:"pilots registered now"`
	Fit    uint64    `json:"fit" doc:"of which could run it by what they have in all"`
}

// SiteExplanation says what a site offers, what is launched there, and why no more.
type SiteExplanation struct {
	Site     SiteID             `json:"site"`
	State    string             `json:"state"`
	LastPass int64              `json:"last_pass,omitempty" doc:"unix milliseconds; zero where the leader has heard of none"`
	Lines    []string           `json:"lines" doc:"sentences, most decisive first"`
	Shapes   []ShapeExplanation `json:"shapes" doc:"kinds of pilot jobs, as the last pass told them, and others that the record knows"`
}

// ShapeExplanation is one kind of pilot job of a site.
type ShapeExplanation struct {
	Name string `json:"name"`
	// Offer and what follows until BatchError are as the last pass told; Offer is nil
	// for a shape that it did not.
	Offer      *Resources `json:"offer,omitempty"`
	Running    uint32     `json:"running" doc:"pilot jobs in the batch system"`
	Queued     uint32     `json:"queued"`
	Held       uint32     `json:"held"`
	Room       uint32     `json:"room" doc:"how many more the caps of the site allow in a pass"`
	Bound      string     `json:"bound,omitempty" doc:"the cap"`
	BatchError string     `json:"batch_error,omitempty"`

	Fit     uint64 `json:"fit" doc:"queued tasks that such a pilot could run"`
	Left    uint64 `json:"left" doc:"of which no pilot that comes or had no task yet will take"`
	Coming  uint64 `json:"coming" doc:"pilot jobs that have not enrolled"`
	Waiting uint64 `json:"waiting" doc:"pilots that had no task yet"`
	Wanted  uint64 `json:"wanted" doc:"more pilots wanted for what is left"`

	Allowance uint32 `json:"allowance" doc:"how many may be unproven at once"`
	Unproven  uint32 `json:"unproven" doc:"launched, and their pilots had no task yet"`
	Launched  uint64 `json:"launched" doc:"pilot jobs there ever were"`
	Proven    uint64 `json:"proven" doc:"whose pilots were given a task"`
	Died      uint64 `json:"died" doc:"that ended before their pilots were given one"`
	Refused   uint64 `json:"refused" doc:"by the batch system"`
	Vain      uint64 `json:"vain" doc:"whose pilots left without a task though tasks waited that they were launched for"`
	Reason    string `json:"reason,omitempty" doc:"why the last one came to nothing"`
	Failed    int64  `json:"failed,omitempty" doc:"when it did, unix milliseconds"`
	NextProbe int64  `json:"next_probe,omitempty" doc:"seconds until one more is tried"`

	Lines []string `json:"lines" doc:"sentences, most decisive first"`
}

// TokenRequest is POST /v1/tokens: an invitation for a site or a coordinator,
// or a token for a person.
type TokenRequest struct {
	Role string `json:"role" enum:"site,coordinator,viewer,producer,operator,admin"`
	Name string `json:"name" minLength:"1" maxLength:"128" doc:"of the site, coordinator or user"`
	// TTL is how long it lives; 0 takes the role's default (join tokens 1 h, people 90 d).
	TTL Seconds `json:"ttl,omitempty"`
}

// TokenReply carries the new token; it is shown once.
type TokenReply struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires" doc:"unix milliseconds"`
}

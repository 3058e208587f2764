package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/protocol"
)

// batchTools are the commands that floe calls of each batch system. One that is not
// here has none, or cannot be told by them: it is named by a person.
var batchTools = map[string][]string{
	"slurm":  {"sbatch", "squeue", "scancel"},
	"sge":    {"qsub", "qstat", "qdel", "qconf"},
	"pbs":    {"qsub", "qstat", "qdel", "qselect"},
	"condor": {"condor_submit", "condor_q", "condor_rm"},
	"globus": {"globusrun", "globus-job-status", "globus-job-cancel"},
	"local":  nil,
}

// detectOrder is in which order they are offered.
var detectOrder = []string{"slurm", "sge", "pbs", "condor", "globus", "local"}

// batchVariables are what the tools of batch systems read of the environment, which
// cron does not have.
var batchVariables = []string{"SLURM_CONF", "SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "PBS_CONF_FILE", "PBS_DEFAULT", "CONDOR_CONFIG", "X509_USER_PROXY", "X509_CERT_DIR"}

// foundSystem is a batch system that is there.
type foundSystem struct {
	Type   string        `json:"type"`
	Queues []batch.Queue `json:"queues,omitempty"`
	Err    error         `json:"-"` // it does not answer
	Says   string        `json:"says,omitempty"`
}

// detectWithin bounds how long one is asked.
const detectWithin = 30 * time.Second

// detect looks for batch systems by their tools and asks those that need no more.
func detect(ctx context.Context, dir string) []foundSystem {
	var found []foundSystem
	for _, name := range detectOrder {
		if len(missingTools(name)) > 0 || name == "pbs" && len(missingTools("sge")) == 0 {
			continue // Grid Engine has commands of the same names
		}
		f := foundSystem{Type: name}
		if name == "globus" {
			f.Says = "its tools are here; which gatekeeper, --endpoint says"
		} else {
			f.Queues, f.Err = askQueues(ctx, &glidein.Config{Directory: dir}, &glidein.Queue{Type: name})
		}
		if f.Err != nil {
			f.Says = f.Err.Error()
		}
		found = append(found, f)
	}
	return found
}

// missingTools are the commands of a batch system that are not on PATH.
func missingTools(name string) (missing []string) {
	for _, tool := range batchTools[name] {
		if _, err := osexec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	return missing
}

// askQueues asks a batch system whether it answers, and for its queues.
func askQueues(ctx context.Context, c *glidein.Config, q *glidein.Queue) ([]batch.Queue, error) {
	ctx, cancel := context.WithTimeout(ctx, detectWithin)
	defer cancel()
	system, err := newSystem(c, q)
	if err != nil {
		return nil, err
	}
	if _, err := system.Status(ctx, nil); err != nil {
		return nil, err
	}
	if l, ok := system.(batch.Lister); ok {
		return l.Queues(ctx)
	}
	return nil, nil
}

// describeQueue says what a queue has, in a line.
func describeQueue(q *batch.Queue) string {
	var parts []string
	say := func(there bool, format string, args ...any) {
		if there {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	say(q.Default && q.Name != "", "the default")
	say(q.Nodes > 1, "%d nodes", q.Nodes)
	say(q.Cores > 0, "%d cores", q.Cores)
	say(q.Memory > 0, "%v", q.Memory)
	say(q.GPUs > 0, "%d cards a node", q.GPUs)
	say(q.Walltime > 0, "at most %s", shortSpan(q.Walltime))
	say(q.Closed != "", "closed: %s", q.Closed)
	return strings.Join(parts, ", ")
}

// shortSpan writes 24h rather than 24h0m0s.
func shortSpan(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// pilotShape is a first shape for pilot jobs of a queue: a part of a node, for a day
// at most.
func pilotShape(q *batch.Queue) (shape glidein.Queue) {
	const cores, day = 8, 24 * time.Hour
	shape.Cores = max(1, min(cores, q.Cores))
	shape.Memory = memoryPart(q, shape.Cores)
	shape.Walltime = glidein.Duration(day)
	if q.Walltime > 0 && q.Walltime < day {
		shape.Walltime = glidein.Duration(q.Walltime)
	}
	return shape
}

// memoryPart is what so many cores may have of a node's memory. Not all of it: the
// node's own system runs there, too.
func memoryPart(q *batch.Queue, cores int) glidein.Size {
	if q.Memory == 0 || q.Cores == 0 {
		return 0
	}
	part := q.Memory / protocol.ByteSize(q.Cores) * protocol.ByteSize(min(cores, q.Cores)) / 100 * 90
	return glidein.Size(part / (100 * protocol.MB) * 100 * protocol.MB)
}

// cronEnvironment is what a pass run by cron needs of this environment: the directories
// of the tools, and the variables that they read.
func cronEnvironment(types []string) map[string]string {
	env := map[string]string{}
	path := []string{"/usr/local/bin", "/usr/bin", "/bin"}
	for _, name := range types {
		for _, tool := range batchTools[name] {
			file, err := osexec.LookPath(tool)
			if err != nil {
				continue
			}
			if dir := filepath.Dir(file); filepath.IsAbs(dir) && !slices.Contains(path, dir) {
				path = slices.Insert(path, 0, dir)
			}
		}
	}
	if len(path) > 3 {
		env["PATH"] = strings.Join(path, ":")
	}
	for _, name := range batchVariables {
		if value := os.Getenv(name); value != "" {
			env[name] = value
		}
	}
	return env
}

// cronLine is the line of a crontab that makes passes.
func cronLine(program, config string, types []string) string {
	var b strings.Builder
	b.WriteString("*/5 * * * *  ")
	env := cronEnvironment(types)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		b.WriteString(name + "=" + shellWord(env[name]) + " ")
	}
	fmt.Fprintf(&b, "%s glidein --config %s >>%s 2>&1", shellWord(program), shellWord(config), shellWord(filepath.Join(filepath.Dir(config), "passes.log")))
	return strings.ReplaceAll(b.String(), "%", `\%`) // cron's own line break
}

// shellWord quotes where that is needed.
func shellWord(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:=,@%", r))
	}) < 0 {
		return s
	}
	return batch.Quote(s)
}

package glidein

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/protocol"
)

// Config is a site's configuration: a TOML file with the paper's three sections.
type Config struct {
	// Directory holds the site's identity, ledger, jobs and spool. Default: the
	// directory of the file.
	Directory string `toml:"directory"`
	// Site caps what all queues have together.
	Site Caps `toml:"site"`
	// Queue is the one queue, or what those of Queues have in common.
	Queue Queue `toml:"queue"`
	// Queues are several, by the names that this site gives them. What one does not
	// say stands in Queue.
	Queues map[string]*Queue `toml:"queues"`
	System System            `toml:"system"`
	// Policy is what the owners of the site want of it.
	Policy Policy `toml:"policy"`
	// Env are variables set for every pilot, and so for every payload.
	Env map[string]string `toml:"env"`
}

// InUse are the queues that pilot jobs go to, by name: those of Queues, or Queue
// where there are none.
func (c *Config) InUse() []*Queue {
	if len(c.Queues) == 0 {
		return []*Queue{&c.Queue}
	}
	all := make([]*Queue, 0, len(c.Queues))
	for _, name := range slices.Sorted(maps.Keys(c.Queues)) {
		all = append(all, c.Queues[name])
	}
	return all
}

// Caps are bounds of the whole site; zero is none.
type Caps struct {
	// MaxPilots caps pilot jobs, running and queued, MaxQueued those that have not
	// started, PerPass those submitted in one pass.
	MaxPilots int `toml:"max_pilots"`
	MaxQueued int `toml:"max_queued"`
	PerPass   int `toml:"per_pass"`
}

// Types are the batch systems that a queue can be of.
var Types = []string{"arc", "condor", "cream", "edg", "exec", "glite", "globus", "local", "pbs", "sge", "slurm"}

// Queue is how pilot jobs go into the batch system.
type Queue struct {
	// Label is the queue's name in Queues; empty for Queue itself.
	Label string `toml:"-"`
	// Type is the batch system, one of Types.
	Type string `toml:"type"`
	// Endpoint is where the batch system is, for those that are not found by their tools.
	Endpoint string `toml:"endpoint"`
	// SSH is the machine that the batch system is spoken to from; empty is this one.
	SSH Login `json:"-" toml:"ssh"`
	// Name and Account are the batch system's queue (partition) and account.
	Name    string `toml:"name"`
	Account string `toml:"account"`
	// Priority orders the site's pilot jobs among the jobs of its own user.
	Priority int `toml:"priority"`
	// MaxPilots caps pilot jobs in the batch system, running and queued; MaxQueued
	// those that have not started; PerPass those submitted in one pass.
	MaxPilots int `toml:"max_pilots"`
	MaxQueued int `toml:"max_queued"`
	PerPass   int `toml:"per_pass"`
	// Ramp is by how much a pass lets the queue grow: by one part in so many of what
	// runs, and by a few in any case.
	Ramp int `toml:"ramp"`
	// Cores, Memory, Disk, GPUs and Walltime are the shape of one pilot job.
	Cores    int      `toml:"cores"`
	Memory   Size     `toml:"memory"`
	Disk     Size     `toml:"disk"`
	GPUs     int      `toml:"gpus"`
	Walltime Duration `toml:"walltime"`
	// OS, Tags, GPUMemory and GPUCapability (ten times the compute capability) are
	// what the nodes are known to have: tasks that ask for such launch pilots here.
	// Memory and Disk that are not said are taken to be enough.
	OS            string   `toml:"os"`
	Tags          []string `toml:"tags"`
	GPUMemory     Size     `toml:"gpu_memory"`
	GPUCapability int      `toml:"gpu_capability"`
	// MaxOutput is how much the outputs of one task may have together.
	MaxOutput Size `toml:"max_output"`
	// Directives are lines for the batch system, passed as they are.
	Directives []string `toml:"directives"`
	// SGE are words of Grid Engine alone.
	SGE GridEngine `toml:"sge"`
	// PBS are words of PBS alone.
	PBS PBS `toml:"pbs"`
	// Exec is the site's own plugin.
	Exec Plugin `toml:"exec"`
}

// Shape is the name of the queue's pilot jobs among those of the site.
func (q *Queue) Shape() string { return cmp.Or(q.Label, q.Name, q.Type) }

// Section is where the queue stands in the file.
func (q *Queue) Section() string {
	if q.Label == "" {
		return "queue"
	}
	return "queues." + q.Label
}

// Where tells batch systems apart: queues of which it is the same list the same jobs.
func (q *Queue) Where() string {
	return strings.TrimSpace(q.Type + " " + q.Endpoint + q.Exec.where() + " " + string(q.SSH))
}

// PBS is what its tools are not to be asked.
type PBS struct {
	// Dialect is openpbs or torque; empty asks the tools.
	Dialect string `toml:"dialect"`
}

// GridEngine are the names that a site's administrators gave to what Grid Engine
// has no names of its own for.
type GridEngine struct {
	// ParallelEnvironment is the one for several cores of one node.
	ParallelEnvironment string `toml:"parallel_environment"`
	// Memory and GPU are the resources that memory and cards are asked by. Defaults:
	// mem_free, gpu. Memory "none" asks for none.
	Memory string `toml:"memory"`
	GPU    string `toml:"gpu"`
}

// System is where things are at the site.
type System struct {
	// Pilot is the floe-pilot binary. Default: the one that the cluster releases to the
	// site, or else beside the floe that runs the pass.
	Pilot string `toml:"pilot"`
	// FollowsReleases says that the file names no pilot.
	FollowsReleases bool `toml:"-"`
	// Scratch is where attempts run; Cache the directory of software and inputs that
	// successive pilots of a node share. Defaults: scratch and cache in Directory.
	Scratch string `toml:"scratch"`
	Cache   string `toml:"cache"`
	// CacheQuota is how much of a disk Cache may take; 0 is no bound but the disk.
	// CacheShare lets other users of a node read its software, and CacheFrom are cache
	// directories of such users. SiteCache is the address of the site's cache.
	CacheQuota Size     `toml:"cache_quota"`
	CacheShare bool     `toml:"cache_share"`
	CacheFrom  []string `toml:"cache_from"`
	SiteCache  string   `toml:"site_cache"`
	// Relay is the address, host:port, of the site's relay for nodes without a way out,
	// which passes start and watch on this machine; empty wants none. RelayListen is where
	// it listens, by default its port on all interfaces, and RelayStorage are addresses of
	// storage that pilots reach through it: by tunnels, or by files in RelayStage, a
	// directory on a file system that the nodes share with this machine.
	Relay        string   `toml:"relay"`
	RelayListen  string   `toml:"relay_listen"`
	RelayStorage []string `toml:"relay_storage"`
	RelayStage   string   `toml:"relay_stage"`
	// Idle is how long a pilot waits without work before it leaves.
	Idle Duration `toml:"idle"`
	// Isolation is whether payloads get namespaces of their own: auto (where a node
	// allows it), none, or require. Writable are directories that they may write to all
	// the same.
	Isolation string   `toml:"isolation"`
	Writable  []string `toml:"writable"`
	// Workstation has pilots keep out of the way of the machine's owner.
	Workstation bool `toml:"workstation"`
	// GPUTest is a program that exits 0 on a sound card, which pilots run in place of
	// their own test; or none. Cards are the only ones that pilots offer.
	GPUTest string   `toml:"gpu_test"`
	Cards   []string `toml:"cards"`
	// Values are what the dataset language's $system names, beside what the pilot knows:
	// texts, numbers or booleans. Every payload can read them.
	Values map[string]any `toml:"values"`
	// Publishers are the only keys whose published software is used here; none is all
	// that the cluster's root has certified.
	Publishers []string `toml:"publishers"`
}

// Size is an amount of bytes written as 2GB, 500MB or a plain number of bytes.
type Size protocol.ByteSize

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	unit := protocol.ByteSize(1)
	for _, u := range []struct {
		suffix string
		size   protocol.ByteSize
	}{{"TB", 1000 * protocol.GB}, {"GB", protocol.GB}, {"MB", protocol.MB}, {"kB", protocol.KB}, {"B", 1}} {
		if t, ok := strings.CutSuffix(text, u.suffix); ok {
			text, unit = strings.TrimSpace(t), u.size
			break
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v < 0 || v*float64(unit) > float64(protocol.MaxByteSize) {
		return fmt.Errorf("size %q: want such as 2GB or 500MB", b)
	}
	*s = Size(v * float64(unit))
	return nil
}

// MarshalText writes a size as UnmarshalText reads it.
func (s Size) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(s), 10), nil }

// Duration is a span written as 24h or 90m.
type Duration time.Duration

// UnmarshalText reads a span.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("duration %q: want such as 24h or 90m", b)
	}
	*d = Duration(v)
	return nil
}

// Publishers reads the keys that the site trusts.
func (c *Config) Publishers() (trusted []protocol.PublisherKey, err error) {
	for _, text := range c.System.Publishers {
		var k protocol.PublisherKey
		if err := k.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		trusted = append(trusted, k)
	}
	return trusted, nil
}

// MarshalText writes a span as UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

package pilot

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"floe/pilot/hardware"
	"floe/pilot/payload"
	"floe/protocol"
)

// Config of a pilot.
type Config struct {
	Link LinkConfig
	// Launch is the launch lease of the pilot job, BatchID the batch system's name for it.
	Launch  protocol.LaunchID
	BatchID string
	// Scratch is where attempts run, Cache what pilots of this node share, Spool where
	// undelivered reports wait. All are made if needed.
	Scratch, Cache, Spool string
	// CacheQuota bounds the cache; 0 is no bound but the disk. CacheShare lets other
	// users of the node read its software, CacheFrom are directories of such users, and
	// SiteCache is the address of the site's cache; empty without.
	CacheQuota protocol.ByteSize
	CacheShare bool
	CacheFrom  []string
	SiteCache  string
	// Offer caps what is measured: what the batch system granted. Zero fields do not.
	Offer protocol.Resources
	// Tags are the site's own, added to those found on the node.
	Tags []string
	// GPUTest and Cards say how cards are tested and which are offered; see
	// hardware.Options.
	GPUTest string
	Cards   []string
	// Walltime is how long this pilot may run; 0 leaves it to the batch system's variables.
	Walltime time.Duration
	// Idle is how long to wait without work before leaving.
	Idle time.Duration
	// Trial hears how this node is: the pilot enrols, runs a task of its own, takes no
	// others, and leaves. Nil is the life of a pilot.
	Trial func(*Trial)
	// Owner is how a pilot of somebody's workstation keeps out of the way; nil takes the
	// machine to be its own.
	Owner *OwnerPolicy
	// Claims is where pilots of this node say what they take of it, see ClaimDir; empty
	// takes whatever is measured.
	Claims string
	// MaxOutput is how much one attempt may bring out; 0 sets no bound.
	MaxOutput protocol.ByteSize
	// Groups are control groups to run payloads in; nil does without.
	Groups *payload.Groups
	// Isolation says whether payloads get namespaces of their own; zero leaves
	// everything as it is. Hidden are more places that they do not see, beside
	// Scratch, Cache and Spool, and Writable those that they may write to.
	Isolation        payload.IsolationMode
	Hidden, Writable []string
	// Publishers are the only keys whose published software is used; empty is all that
	// the cluster's root has certified.
	Publishers []protocol.PublisherKey
	// System is what $system names at this site, beside what the pilot finds itself.
	System map[string]string
	// Policies are files with the site's own policy, the best first; none is no policy.
	// SiteLog is the directory of the site's log of whose payloads ran (protocol/sitelog);
	// empty keeps none.
	Policies []string
	SiteLog  string
	// Network is how many bytes the pilot moves in a second for its tasks; 0 sets no bound.
	Network protocol.ByteSize
	// Library runs the predefined modules; see payload.Options.
	Library []string
	Logger  *slog.Logger

	// Silent says which repositories do not answer; nil takes hardware.Silent.
	Silent func(ctx context.Context, o hardware.Options, repositories []string) map[string]string
	// Measure says what the node has, Faults what is wrong with cards, Payload runs what
	// is leased, and BootTime is the clock of the fence; nil takes hardware.Measure,
	// hardware.Faults, payload.Run and the kernel's.
	Measure  func(context.Context, hardware.Options) (protocol.Resources, hardware.Report)
	Faults   func(ctx context.Context, o hardware.Options, cards []string) map[string]string
	Payload  Payload
	BootTime func() time.Duration
}

// Payload runs the trays of a task in an attempt's directory (payload.Run).
type Payload func(ctx context.Context, task payload.Task, limits payload.Limits, dir payload.Dir, o payload.Options) payload.Outcome

func measureOptions(c *Config) hardware.Options {
	o := hardware.Options{Scratch: c.Scratch, Limit: c.Offer, Tags: c.Tags, GPUTest: c.GPUTest, Cards: c.Cards}
	if c.Walltime > 0 {
		o.End = time.Now().Add(c.Walltime)
	}
	return o
}

// systemParameters are what $system names on this node, at a site that says more of it.
func systemParameters(site map[string]string) map[string]string {
	host, _ := os.Hostname()
	all := map[string]string{"hostname": host}
	for name, value := range site {
		if name != "hostname" {
			all[name] = value
		}
	}
	return all
}

// environParameters are the variables that $environ may name: none that hold secrets.
func environParameters() map[string]string {
	all := map[string]string{}
	for _, v := range os.Environ() {
		name, value, ok := strings.Cut(v, "=")
		if ok && !payload.Withheld(name) {
			all[name] = value
		}
	}
	return all
}

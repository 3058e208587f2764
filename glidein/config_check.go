package glidein

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode"

	"floe/protocol"
)

// Defaults of the caps. Source: research on glidein factories: small first,
// because a broken site then wastes little.
const (
	defaultMaxQueued = 10
	defaultPerPass   = 100
	defaultRamp      = 3
	defaultIdle      = Duration(10 * time.Minute)
	defaultWalltime  = Duration(24 * time.Hour)
)

func (c *Config) fill(dir string) {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&c.Directory, dir)
	set(&c.System.Scratch, filepath.Join(c.Directory, "scratch"))
	set(&c.System.Cache, filepath.Join(c.Directory, "cache"))
	set(&c.System.Isolation, "auto")
	if c.System.Pilot == "" {
		c.System.FollowsReleases = true
		if exe, err := os.Executable(); err == nil {
			c.System.Pilot = filepath.Join(filepath.Dir(exe), "floe-pilot")
		}
	}
	for _, q := range c.InUse() {
		q.fill()
	}
	if c.System.Idle == 0 {
		c.System.Idle = defaultIdle
	}
}

func (q *Queue) fill() {
	if q.Cores == 0 {
		q.Cores = 1
	}
	if q.MaxPilots == 0 {
		q.MaxPilots = 1
	}
	if q.MaxQueued == 0 {
		q.MaxQueued = min(defaultMaxQueued, max(0, q.MaxPilots))
	}
	if q.PerPass == 0 {
		q.PerPass = defaultPerPass
	}
	if q.Ramp == 0 {
		q.Ramp = defaultRamp
	}
	if q.Walltime == 0 {
		q.Walltime = defaultWalltime
	}
}

// Validate returns all mistakes joined.
func (c *Config) Validate() error {
	var all []error
	say := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	c.validateQueues(say)
	c.Policy.validate(say)
	for key := range c.Env {
		if key == "" || strings.ContainsAny(key, "= \n\x00") || strings.HasPrefix(key, "FLOE_") {
			say("env.%q: not a name for a variable, or one of floe's own (FLOE_…)", key)
		}
	}
	if i := c.System.Isolation; i != "auto" && i != "none" && i != "require" {
		say("system.isolation %q: want auto, none or require", i)
	}
	for _, d := range c.System.Writable {
		if !filepath.IsAbs(d) || strings.Contains(d, ",") {
			say("system.writable %q: want an absolute path without commas", d)
		}
	}
	c.validateValues(say)
	if _, err := c.Publishers(); err != nil {
		say("system.publishers: %v", err)
	}
	for _, d := range c.System.CacheFrom {
		if !filepath.IsAbs(d) || strings.Contains(d, ",") {
			say("system.cache_from %q: want an absolute path without commas", d)
		}
	}
	if a := c.System.SiteCache; a != "" && !strings.HasPrefix(a, "https://") {
		say("system.site_cache %q: want https://host:port", a)
	}
	c.System.checkRelay(say)
	if _, err := os.Stat(c.System.Pilot); err != nil && !c.System.FollowsReleases {
		say("system.pilot: %v", err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Error() < all[j].Error() })
	return errors.Join(all...)
}

// validatePilots checks what pilot jobs need of a queue. Jobs that are submitted
// without pilots ask for what their tasks say.
func (c *Config) validatePilots() (err error) {
	for _, q := range c.InUse() {
		if q.Type == "condor" && (q.Memory == 0 || q.Disk == 0) {
			err = errors.Join(err, fmt.Errorf("%s: HTCondor gives a job that does not ask as little as its script needs, 2MB of disk: say memory and disk of a pilot job", q.Section()))
		}
	}
	return err
}

// validateQueues checks the queues and the caps over them.
func (c *Config) validateQueues(say func(string, ...any)) {
	for key, n := range map[string]int{"max_pilots": c.Site.MaxPilots, "max_queued": c.Site.MaxQueued, "per_pass": c.Site.PerPass} {
		if n < 0 {
			say("site.%s %d: want a number above 0, or 0 for no bound", key, n)
		}
	}
	if len(c.Queues) > protocol.MaxShapes {
		say("queues: there are %d, at most %d are possible", len(c.Queues), protocol.MaxShapes)
	}
	for name := range c.Queues {
		if !isLabel(name) {
			say("queues.%q: want a name of at most %d letters, digits, dots, dashes and underscores", name, maxLabel)
		}
	}
	for _, q := range c.InUse() {
		common := &c.Queue
		if q == common {
			common = new(Queue)
		}
		q.validate(common, func(format string, args ...any) { say(q.Section()+"."+format, args...) })
	}
}

// maxLabel bounds the name of a queue: it stands in messages and in the record.
const maxLabel = 40

func isLabel(s string) bool {
	return s != "" && len(s) <= maxLabel && strings.IndexFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
	}) < 0
}

// validate checks a queue. Words of another batch system that it has from common are
// no mistake.
func (q *Queue) validate(common *Queue, say func(string, ...any)) {
	if !slices.Contains(Types, q.Type) {
		say("type %q: want one of %s", q.Type, strings.Join(Types, ", "))
	}
	if q.Cores < 0 || q.Cores > protocol.MaxCores {
		say("cores %d: want 1 to %d", q.Cores, protocol.MaxCores)
	}
	if q.GPUs < 0 || q.GPUs > protocol.MaxGPUs {
		say("gpus %d: want 0 to %d", q.GPUs, protocol.MaxGPUs)
	}
	if q.SSH != "" {
		if err := q.SSH.Check(); err != nil {
			say("%v", err)
		}
	}
	q.Exec.validate(q.Type, &common.Exec, say)
	for key, n := range map[string]int{"max_pilots": q.MaxPilots, "max_queued": q.MaxQueued, "per_pass": q.PerPass, "ramp": q.Ramp} {
		if n < 0 {
			say("%s %d: want a number above 0", key, n)
		}
	}
	for _, d := range q.Directives {
		if strings.ContainsAny(d, "\n\r\x00") {
			say("directives %q: a directive is one line", d)
		}
	}
	if g := q.SGE; g != common.SGE && q.Type != "sge" {
		say("sge: the queue is of the type %q", q.Type)
	}
	for key, name := range map[string]string{"parallel_environment": q.SGE.ParallelEnvironment, "memory": q.SGE.Memory, "gpu": q.SGE.GPU} {
		if strings.ContainsAny(name, " =,\t\n\r\x00") {
			say("sge.%s %q: want one name", key, name)
		}
	}
	if p := q.PBS; p != common.PBS && q.Type != "pbs" {
		say("pbs: the queue is of the type %q", q.Type)
	}
	if d := q.PBS.Dialect; d != "" && d != "openpbs" && d != "torque" {
		say("pbs.dialect %q: want openpbs or torque", d)
	}
}

package glidein

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"floe/protocol"

	"github.com/pelletier/go-toml/v2"
)

// Config is a site's configuration: a TOML file with the paper's three sections.
type Config struct {
	// Directory holds the site's identity, ledger, jobs and spool. Default: the
	// directory of the file.
	Directory string `toml:"directory"`
	Queue     Queue  `toml:"queue"`
	System    System `toml:"system"`
	// Env are variables set for every pilot, and so for every payload.
	Env map[string]string `toml:"env"`
}

// Types are the batch systems that a queue can be of.
var Types = []string{"arc", "globus", "local", "pbs", "sge", "slurm"}

// Queue is how pilot jobs go into the batch system.
type Queue struct {
	// Type is the batch system, one of Types.
	Type string `toml:"type"`
	// Endpoint is where the batch system is, for those that are not found by their tools.
	Endpoint string `toml:"endpoint"`
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
	// Pilot is the floe-pilot binary. Default: beside the floe that runs the pass.
	Pilot string `toml:"pilot"`
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

// Defaults of the caps. Source: research on glidein factories: small first,
// because a broken site then wastes little.
const (
	defaultMaxQueued = 10
	defaultPerPass   = 10
	defaultIdle      = Duration(10 * time.Minute)
	defaultWalltime  = Duration(24 * time.Hour)
)

// LoadConfig reads and checks a site's configuration. Every unknown key and every
// wrong value is reported, with its line.
func LoadConfig(file string) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := readConfig(f, file)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	c.fill(filepath.Dir(abs))
	return c, c.Validate()
}

func readConfig(r io.Reader, file string) (*Config, error) {
	c := new(Config)
	d := toml.NewDecoder(r)
	d.DisallowUnknownFields()
	err := d.Decode(c)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &unknown):
		var all []error
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			row, column := e.Position()
			key := strings.Join(e.Key(), ".")
			all = append(all, fmt.Errorf("%s:%d:%d: unknown key %q%s", file, row, column, key, nearest(key)))
		}
		return nil, errors.Join(all...)
	case errors.As(err, &wrong):
		row, column := wrong.Position()
		return nil, fmt.Errorf("%s:%d:%d: %s: %s", file, row, column, strings.Join(wrong.Key(), "."), strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	return nil, fmt.Errorf("%s: %w", file, err)
}

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
		if exe, err := os.Executable(); err == nil {
			c.System.Pilot = filepath.Join(filepath.Dir(exe), "floe-pilot")
		}
	}
	if c.Queue.Cores == 0 {
		c.Queue.Cores = 1
	}
	if c.Queue.MaxPilots == 0 {
		c.Queue.MaxPilots = 1
	}
	if c.Queue.MaxQueued == 0 {
		c.Queue.MaxQueued = min(defaultMaxQueued, c.Queue.MaxPilots)
	}
	if c.Queue.PerPass == 0 {
		c.Queue.PerPass = defaultPerPass
	}
	if c.Queue.Walltime == 0 {
		c.Queue.Walltime = defaultWalltime
	}
	if c.System.Idle == 0 {
		c.System.Idle = defaultIdle
	}
}

// Validate returns all mistakes joined.
func (c *Config) Validate() error {
	var all []error
	say := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if !slices.Contains(Types, c.Queue.Type) {
		say("queue.type %q: want one of %s", c.Queue.Type, strings.Join(Types, ", "))
	}
	if c.Queue.Cores < 0 || c.Queue.Cores > protocol.MaxCores {
		say("queue.cores %d: want 1 to %d", c.Queue.Cores, protocol.MaxCores)
	}
	if c.Queue.GPUs < 0 || c.Queue.GPUs > protocol.MaxGPUs {
		say("queue.gpus %d: want 0 to %d", c.Queue.GPUs, protocol.MaxGPUs)
	}
	for key, n := range map[string]int{"max_pilots": c.Queue.MaxPilots, "max_queued": c.Queue.MaxQueued, "per_pass": c.Queue.PerPass} {
		if n < 0 {
			say("queue.%s %d: want a number above 0", key, n)
		}
	}
	for _, d := range c.Queue.Directives {
		if strings.ContainsAny(d, "\n\r\x00") {
			say("queue.directives %q: a directive is one line", d)
		}
	}
	if g := c.Queue.SGE; g != (GridEngine{}) && c.Queue.Type != "sge" {
		say("queue.sge: the queue is of the type %q", c.Queue.Type)
	}
	for key, name := range map[string]string{"parallel_environment": c.Queue.SGE.ParallelEnvironment, "memory": c.Queue.SGE.Memory, "gpu": c.Queue.SGE.GPU} {
		if strings.ContainsAny(name, " =,\t\n\r\x00") {
			say("queue.sge.%s %q: want one name", key, name)
		}
	}
	if p := c.Queue.PBS; p != (PBS{}) && c.Queue.Type != "pbs" {
		say("queue.pbs: the queue is of the type %q", c.Queue.Type)
	}
	if d := c.Queue.PBS.Dialect; d != "" && d != "openpbs" && d != "torque" {
		say("queue.pbs.dialect %q: want openpbs or torque", d)
	}
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
	if _, err := os.Stat(c.System.Pilot); err != nil {
		say("system.pilot: %v", err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Error() < all[j].Error() })
	return errors.Join(all...)
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

// keys are all keys of the file, for the nearest right one.
var keys = strings.Fields(`directory queue.type queue.endpoint queue.name queue.account queue.priority queue.max_pilots queue.max_queued queue.per_pass
	queue.cores queue.memory queue.disk queue.gpus queue.walltime queue.directives
	queue.sge.parallel_environment queue.sge.memory queue.sge.gpu queue.pbs.dialect
	queue.os queue.tags queue.gpu_memory queue.gpu_capability
	system.pilot system.scratch system.cache system.cache_quota system.cache_share system.cache_from system.site_cache system.idle system.isolation system.writable system.gpu_test system.cards system.publishers`)

// nearest suggests the key that differs least from a wrong one.
func nearest(key string) string {
	best, distance := "", 4
	for _, k := range keys {
		if d := editDistance(key, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is the Levenshtein distance of two short texts.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

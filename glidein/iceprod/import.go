package iceprod

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/glidein"
	"floe/protocol"

	"github.com/pelletier/go-toml/v2"
)

// Line is what became of one key, or of a line that is none.
type Line struct {
	Line    int    `json:"line"`
	Section string `json:"section,omitempty"`
	Key     string `json:"key"`
	// To is the new file's key; empty when it was not carried over.
	To string `json:"to,omitempty"`
	// Why says why not, or what is to be looked at.
	Why string `json:"why,omitempty"`
}

// Import is a site.toml made of an old file.
type Import struct {
	TOML  string `json:"toml"`
	Lines []Line `json:"lines"`
	// Mistakes is what is still wrong with the new file; empty when it can be used.
	Mistakes string `json:"mistakes,omitempty"`
}

// importer collects the new file.
type importer struct {
	entries []entry
	lines   []Line
	queue   map[string]any
	system  map[string]any
	values  map[string]any
	env     map[string]any
}

// Read translates an old file; name is for messages.
func Read(text, name string) *Import {
	im := &importer{queue: map[string]any{}, system: map[string]any{}, values: map[string]any{}, env: map[string]any{}}
	entries, mistakes := parseINI(text)
	im.entries = entries
	for _, m := range mistakes {
		im.lines = append(im.lines, Line{Line: m.line, Key: m.text, Why: m.why})
	}
	for i := range entries {
		im.entry(&entries[i], entries[i+1:])
	}
	slices.SortStableFunc(im.lines, func(a, b Line) int { return cmp.Compare(a.Line, b.Line) })
	r := &Import{Lines: im.lines, TOML: im.write(name)}
	if err := glidein.CheckForJobs([]byte(r.TOML), "site.toml"); err != nil {
		r.Mistakes = err.Error()
	}
	return r
}

// sections are the paper's three under the names they are known by.
var sections = map[string]string{
	"queue": "queue", "queueing": "queue", "queuing": "queue",
	"system": "system", "sys": "system",
	"env": "env", "environment": "env", "job environment": "env", "job_environment": "env", "jobenv": "env",
}

func (im *importer) entry(e *entry, later []entry) {
	l := Line{Line: e.line, Section: e.section, Key: e.key}
	section := sections[e.section]
	again := slices.IndexFunc(later, func(o entry) bool {
		return o.section == e.section && strings.EqualFold(o.key, e.key) && (section != "env" || o.key == e.key)
	})
	value, err := interpolate(im.entries, e)
	switch {
	case e.section == defaults:
		l.Why = "it is in [DEFAULT]: carried where another value names it"
	case section == "":
		l.Why = "no section of a site: it was IceProd's server's or client's; coordinators have their own"
	case again >= 0:
		l.Why = fmt.Sprintf("line %d says it again, and counts", later[again].line)
	case err != nil:
		l.Why = err.Error()
	case section == "queue":
		l.To, l.Why = im.queueKey(e.key, value)
	case section == "system":
		l.To, l.Why = im.systemKey(e.key, value)
	default:
		l.To, l.Why = im.variable(e.key, value)
	}
	im.lines = append(im.lines, l)
}

// plain is a key without what people write in different ways.
func plain(key string) string {
	return strings.NewReplacer("_", "", "-", "", ".", "", " ", "").Replace(strings.ToLower(key))
}

// queueKeys are keys of [queue] by their plain names.
var queueKeys = map[string]string{
	"batchsystem": "type", "batchsys": "type", "type": "type", "grid": "type", "plugin": "type", "system": "type",
	"queue": "name", "queuename": "name", "name": "name", "partition": "name", "destination": "name",
	"account": "account", "accountinggroup": "account", "project": "account", "group": "account",
	"endpoint": "endpoint", "ce": "endpoint", "contact": "endpoint", "gatekeeper": "endpoint", "cehost": "endpoint",
	"maxjobs": "max_pilots", "maxrunning": "max_pilots", "maxpilots": "max_pilots", "maxq": "max_pilots",
	"maxqueued": "max_queued", "maxpending": "max_queued", "maxidle": "max_queued",
	"jobspercycle": "per_pass", "submitpercycle": "per_pass", "perpass": "per_pass", "maxsubmit": "per_pass",
	"cores": "cores", "cpus": "cores", "ncpus": "cores", "ppn": "cores",
	"gpus": "gpus", "ngpus": "gpus", "priority": "priority", "prio": "priority",
	"memory": "memory", "mem": "memory", "maxmemory": "memory", "disk": "disk", "diskspace": "disk",
	"walltime": "walltime", "maxwalltime": "walltime", "maxtime": "walltime",
	"directives": "directives", "directive": "directives", "batchopts": "directives", "batchopt": "directives", "batchoptions": "directives", "options": "directives",
	"interval": "", "queueinterval": "", "sleep": "", "delay": "", "cycle": "",
}

// types are batch systems by the names IceProd and people had for them.
var types = map[string]string{
	"htcondor": "condor", "torque": "pbs", "openpbs": "pbs", "pbspro": "pbs", "gridengine": "sge", "n1ge": "sge", "oge": "sge", "sunge": "sge",
	"nordugrid": "arc", "gram": "globus", "globusgram": "globus", "fork": "local", "bash": "local", "shell": "local",
}

// queueKey carries a key of [queue].
func (im *importer) queueKey(key, value string) (to, why string) {
	name := plain(key)
	to, known := queueKeys[strings.TrimRight(name, "0123456789")]
	switch {
	case !known:
		return "", "floe has no such option; what the batch system is to be told goes into queue.directives"
	case to == "":
		return "", "a site's pass is run by cron as often as its line says"
	case value == "":
		return "", "it is empty"
	}
	var v any = value
	switch to {
	case "type":
		word := plain(value)
		if t, ok := types[word]; ok {
			word = t
		}
		if !slices.Contains(glidein.Types, word) {
			return "", fmt.Sprintf("batch system %q: floe has %s", value, strings.Join(glidein.Types, ", "))
		}
		v = word
	case "max_pilots", "max_queued", "per_pass", "cores", "gpus", "priority":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 && to != "priority" {
			return "", fmt.Sprintf("%q is no number", value)
		}
		v = n
	case "memory", "disk":
		size := inUnits(value)
		var s glidein.Size
		if _, err := strconv.ParseFloat(value, 64); err == nil {
			return "", fmt.Sprintf("%q has no unit; write such as %s = %q", value, to, value+"MB")
		}
		if err := s.UnmarshalText([]byte(size)); err != nil {
			return "", err.Error()
		}
		v = size
	case "walltime":
		d, ok := span(value)
		if !ok {
			return "", fmt.Sprintf("%q has no unit, or is no time; write such as walltime = \"8h\"", value)
		}
		v = d
	case "directives":
		lines, _ := im.queue[to].([]string)
		for line := range strings.SplitSeq(value, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		im.queue[to] = lines
		return "queue.directives", "passed to the batch system as it is: see that it is a line of its submit file"
	}
	if _, twice := im.queue[to]; twice {
		return "", "an earlier line gave queue." + to
	}
	if strings.Contains(value, "\n") {
		return "", "it has several lines"
	}
	im.queue[to] = v
	if to == "max_pilots" {
		why = "it counted jobs, and counts pilot jobs, which run many"
	}
	return "queue." + to, why
}

// inUnits writes a size with floe's units.
func inUnits(value string) string {
	number := strings.TrimRight(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	switch strings.ToLower(strings.TrimSpace(value[len(number):])) {
	case "k", "kb":
		return number + "kB"
	case "m", "mb":
		return number + "MB"
	case "g", "gb":
		return number + "GB"
	case "t", "tb":
		return number + "TB"
	}
	return value
}

// span reads 48:00:00, 2-12:00:00, 30h, 90m, 90 min, 2d.
func span(value string) (string, bool) {
	if d, err := time.ParseDuration(value); err == nil && d > 0 && d != 0 {
		return value, true
	}
	if parts := strings.Split(value, ":"); len(parts) == 3 || len(parts) == 4 {
		days, hours, dashed := strings.Cut(parts[0], "-")
		if dashed {
			parts[0] = hours
		} else if days = "0"; len(parts) == 4 {
			days, parts = parts[0], parts[1:]
		}
		var n [4]int
		for i, text := range append([]string{days}, parts...) {
			var err error
			if n[i], err = strconv.Atoi(text); err != nil || n[i] < 0 || n[i] > 1e6 {
				return "", false
			}
		}
		d := time.Duration(n[0]*24+n[1])*time.Hour + time.Duration(n[2])*time.Minute + time.Duration(n[3])*time.Second
		return d.String(), d > 0
	}
	number := strings.TrimRight(value, "abcdefghijklmnopqrstuvwxyz ")
	n, err := strconv.Atoi(number)
	if err != nil || n <= 0 || n > 1e6 {
		return "", false
	}
	switch strings.TrimSpace(value[len(number):]) {
	case "d", "day", "days":
		return strconv.Itoa(n*24) + "h", true
	case "hour", "hours":
		return strconv.Itoa(n) + "h", true
	case "min", "minutes":
		return strconv.Itoa(n) + "m", true
	case "sec", "seconds":
		return strconv.Itoa(n) + "s", true
	}
	return "", false
}

// secrets are words in the names of what payloads must not read.
var secrets = []string{"passwd", "password", "secret", "token", "credential", "private", "dbpass"}

func isSecret(key string) bool {
	name := plain(key)
	return slices.ContainsFunc(secrets, func(word string) bool { return strings.Contains(name, word) }) || strings.HasSuffix(name, "key") || strings.HasSuffix(name, "pass")
}

// systemKey carries a key of [system]: to $system, and the scratch directory to where
// pilots look for it.
func (im *importer) systemKey(key, value string) (to, why string) {
	switch {
	case isSecret(key):
		return "", "it looks like a secret, and every payload can read values"
	case strings.Contains(value, "\n"):
		return "", "it has several lines"
	case len(value) > 1024:
		return "", "it is longer than 1024 bytes"
	case protocol.CheckName("key", key) != nil || strings.ContainsAny(value, "\x00\r"):
		return "", "floe's names have letters, digits, dots, dashes and underscores"
	case slices.Contains([]string{"batch_system", "queue", "hostname", "remaining_walltime"}, key):
		return "", "floe itself says that to $system(" + key + ")"
	}
	im.values[key] = value
	to = "system.values." + key
	switch plain(key) {
	case "scratch", "scratchdir", "scratchdirectory", "tmpdir", "workdir":
		if _, twice := im.system["scratch"]; !twice && filepath.IsAbs(value) && !strings.Contains(value, "$") {
			im.system["scratch"] = value
			return to, "and to system.scratch"
		}
		why = "system.scratch was not set from it: want one absolute path without variables"
	case "download", "downloaddir", "downloaddirectory", "cache", "cachedir":
		why = "floe's own cache of inputs and software is system.cache"
	}
	return to, why
}

// variable carries a key of the job environment.
func (im *importer) variable(name, value string) (to, why string) {
	switch {
	case strings.ContainsAny(name, "= \x00") || strings.HasPrefix(name, "FLOE_"):
		return "", "no name for a variable, or one of floe's own"
	case strings.ContainsRune(value, 0):
		return "", "it holds a zero byte"
	case isSecret(name):
		why = "it looks like a secret: every payload sees it, and it stands in the pilots' scripts"
	case strings.Contains(value, "$"):
		why = "it is carried as it stands: site.toml replaces no variables"
	}
	im.env[name] = value
	return "env." + name, why
}

// write writes the new file, with what was left out beside it.
func (im *importer) write(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# From %q, by floe config import.\n", name)
	table := func(title string, m map[string]any, order []string) {
		if len(m) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n[%s]\n", title)
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		place := func(k string) int {
			if at := slices.Index(order, k); at >= 0 {
				return at
			}
			return len(order)
		}
		slices.SortFunc(keys, func(x, y string) int { return cmp.Or(cmp.Compare(place(x), place(y)), cmp.Compare(x, y)) })
		for _, k := range keys {
			line, err := toml.Marshal(map[string]any{k: m[k]})
			if err == nil {
				b.Write(line)
			}
		}
	}
	var order []string
	for _, k := range glidein.Keys() {
		if key, ok := strings.CutPrefix(k, "queue."); ok {
			order = append(order, key)
		}
	}
	if im.queue["type"] == nil {
		b.WriteString("\n# [queue] lacks its type.\n")
	}
	table("queue", im.queue, order)
	table("system", im.system, nil)
	table("system.values", im.values, nil)
	table("env", im.env, nil)
	var left []string
	for _, l := range im.lines {
		if l.To == "" && sections[l.Section] != "" {
			left = append(left, fmt.Sprintf("# line %d: [%s] %q: %q\n", l.Line, l.Section, l.Key, l.Why))
		}
	}
	if len(left) > 0 {
		b.WriteString("\n# Not carried over:\n" + strings.Join(left, ""))
	}
	return b.String()
}

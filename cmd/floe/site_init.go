package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/protocol"

	"github.com/google/renameio/v2"
	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// siteInitCommand is the wizard that writes a site.toml.
func siteInitCommand() *cobra.Command {
	var w wizard
	c := &cobra.Command{
		Use: "init", Short: "Find the batch system and its queues, and write a first site.toml", Args: exactArgs(),
		Long: "Find the batch system and its queues, ask what pilot jobs are to be like, and write a site.toml\n" +
			"with a word on each key. At the end stand the line for cron, and what to do next. Flags answer\n" +
			"questions beforehand; with --yes, or where nobody can be asked, the defaults answer the rest: the\n" +
			"first batch system that is found, and its default queue.\n\n" +
			"A site.toml that is there stays, unless --force replaces it.",
		Example: "  floe site init --dir ~/floe\n" +
			"  floe site init --dir ~/floe --yes --type slurm --queue long --queue gpu --max-pilots 50",
		RunE: func(c *cobra.Command, _ []string) error { return w.run(c) },
	}
	f := c.Flags()
	f.StringVar(&w.dir, "dir", ".", "the site's directory")
	f.StringVar(&w.kind, "type", "", "the batch system: "+strings.Join(glidein.Types, ", "))
	f.StringVar(&w.endpoint, "endpoint", "", "where the batch system is, for those that are not found by their tools")
	f.StringSliceVar(&w.queues, "queue", nil, "a queue of the batch system; may be repeated")
	f.StringVar(&w.account, "account", "", "the batch system's account")
	f.IntVar(&w.maxPilots, "max-pilots", 0, "pilot jobs in a queue, running and waiting (default 10; local: as many as fit)")
	f.IntVar(&w.cores, "cores", 0, "cores of a pilot job (default up to 8)")
	f.Var(&w.memory, "memory", "memory of a pilot job, such as 16GB (default its cores' part of a node)")
	f.IntVar(&w.gpus, "gpus", 0, "cards of a pilot job")
	f.DurationVar(&w.walltime, "walltime", 0, "walltime of a pilot job (default the queue's, at most 24h)")
	f.StringVar(&w.scratch, "scratch", "", "where attempts run: a disk of the nodes' own (default scratch in the directory)")
	f.BoolVarP(&w.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&w.force, "force", false, "replace a site.toml that is there")
	f.BoolVar(&w.systemd, "systemd", false, "write user units of systemd as well, for machines without cron")
	return c
}

// sizeFlag is a size on the command line.
type sizeFlag glidein.Size

// String, Set and Type implement pflag.Value.
func (s *sizeFlag) String() string {
	if *s == 0 {
		return ""
	}
	return protocol.ByteSize(*s).String()
}

func (s *sizeFlag) Set(text string) error { return (*glidein.Size)(s).UnmarshalText([]byte(text)) }
func (s *sizeFlag) Type() string          { return "size" }

// wizard is the answers, given or to be asked for.
type wizard struct {
	dir, kind, endpoint, account, scratch string
	queues                                []string
	maxPilots, cores, gpus                int
	memory                                sizeFlag
	walltime                              time.Duration
	yes, force, systemd                   bool

	in  *bufio.Reader // nil asks nobody
	out io.Writer
}

// chosen is a queue and the shape of its pilot jobs.
type chosen struct {
	found batch.Queue
	glidein.Queue
}

func (w *wizard) run(c *cobra.Command) error {
	dir, err := filepath.Abs(w.dir)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "site.toml")
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) && !w.force {
		return usageErrorf("%s is there already; --force replaces it", file)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return withExit(exitFailure, err)
	}
	w.out = c.OutOrStdout()
	if f, isFile := c.InOrStdin().(*os.File); !w.yes && (!isFile || term.IsTerminal(int(f.Fd()))) {
		w.in = bufio.NewReader(c.InOrStdin())
	}
	system, err := w.system(c, dir)
	if err != nil {
		return err
	}
	queues, err := w.choose(system)
	if err != nil {
		return err
	}
	if w.scratch == "" {
		w.scratch = w.ask("a directory on a disk of the nodes' own, for the work; empty for scratch in "+dir, "")
	}
	text, err := w.write(queues)
	if err != nil {
		return err
	}
	if err := glidein.CheckForJobs(text, file); err != nil {
		return withExit(exitUsage, err)
	}
	if err := renameio.WriteFile(file, text, 0o600); err != nil {
		return withExit(exitFailure, err)
	}
	return w.next(dir, file)
}

// ask asks a question, or answers it by its default.
func (w *wizard) ask(question, preset string) string {
	if w.in == nil {
		return preset
	}
	fmt.Fprintf(w.out, "%s [%s]: ", question, preset)
	line, err := w.in.ReadString('\n')
	if err != nil && line == "" {
		w.in = nil // nobody is there any more
		fmt.Fprintln(w.out)
	}
	return cmp.Or(strings.TrimSpace(line), preset)
}

// until asks until an answer can be used; nobody is asked twice who cannot answer.
func (w *wizard) until(question, preset string, use func(string) error) error {
	for {
		err := use(w.ask(question, preset))
		if err == nil || w.in == nil {
			return err
		}
		fmt.Fprintf(w.out, "  %v\n", err)
	}
}

// system finds the batch system.
func (w *wizard) system(c *cobra.Command, dir string) (*foundSystem, error) {
	var found []foundSystem
	if w.kind == "" {
		found = detect(c.Context(), dir)
		for i := range found {
			f := &found[i]
			says := cmp.Or(f.Says, "it answers")
			if f.Type == "local" {
				says = "this machine alone: " + describeQueue(&f.Queues[0])
			}
			fmt.Fprintf(w.out, "found %s: %s\n", f.Type, visible(says))
		}
		preset := "local"
		if at := slices.IndexFunc(found, func(f foundSystem) bool { return f.Err == nil && f.Says == "" }); at >= 0 {
			preset = found[at].Type
		}
		w.kind = w.ask("batch system", preset)
	}
	if !slices.Contains(glidein.Types, w.kind) {
		return nil, usageErrorf("batch system %q: want one of %s", w.kind, strings.Join(glidein.Types, ", "))
	}
	if at := slices.IndexFunc(found, func(f foundSystem) bool { return f.Type == w.kind }); at >= 0 && w.endpoint == "" && found[at].Err == nil && found[at].Says == "" {
		return &found[at], nil
	}
	if missing := missingTools(w.kind); len(missing) > 0 {
		return nil, withExit(exitFailure, fmt.Errorf("%s: no %s on PATH: %s", w.kind, strings.Join(missing, ", "), os.Getenv("PATH")))
	}
	f := &foundSystem{Type: w.kind}
	f.Queues, f.Err = askQueues(c.Context(), &glidein.Config{Directory: dir}, &glidein.Queue{Type: w.kind, Endpoint: w.endpoint})
	if f.Err != nil {
		if len(w.queues) == 0 {
			return nil, withExit(exitUnreachable, fmt.Errorf("%w; name a queue by --queue to write a site.toml all the same", f.Err))
		}
		fmt.Fprintf(w.out, "%s does not answer: %s\n", w.kind, visible(f.Err.Error()))
	}
	return f, nil
}

// choose picks queues and gives their pilot jobs a shape.
func (w *wizard) choose(system *foundSystem) ([]chosen, error) {
	named := slices.ContainsFunc(system.Queues, func(q batch.Queue) bool { return q.Name != "" })
	if named {
		for i := range system.Queues {
			fmt.Fprintf(w.out, "  %s: %s\n", visible(system.Queues[i].Name), visible(describeQueue(&system.Queues[i])))
		}
	}
	pick := func(text string) error {
		w.queues = nil
		for name := range strings.SplitSeq(text, ",") {
			name = strings.TrimSpace(name)
			if name == "" {
				continue
			}
			if named && !slices.ContainsFunc(system.Queues, func(q batch.Queue) bool { return q.Name == name }) {
				return withExit(exitUsage, fmt.Errorf("queue %q: %s has %s", name, system.Type, strings.Join(queueNames(system.Queues), ", ")))
			}
			w.queues = append(w.queues, name)
		}
		return nil
	}
	var err error
	switch {
	case len(w.queues) > 0:
		err = pick(strings.Join(w.queues, ","))
	case named:
		preset := system.Queues[0].Name
		if at := slices.IndexFunc(system.Queues, func(q batch.Queue) bool { return q.Closed == "" }); at >= 0 {
			preset = system.Queues[at].Name
		}
		err = w.until("queues, separated by commas", preset, pick)
	}
	if err != nil {
		return nil, err
	}
	if len(w.queues) == 0 {
		w.queues = []string{""} // the one that has no name, or that the batch system chooses
	}
	var all []chosen
	for _, name := range w.queues {
		q := chosen{found: batch.Queue{Name: name}}
		if at := slices.IndexFunc(system.Queues, func(x batch.Queue) bool { return x.Name == name }); at >= 0 {
			q.found = system.Queues[at]
		}
		q.Queue = pilotShape(&q.found)
		q.Type, q.Name, q.Endpoint, q.Account = system.Type, name, w.endpoint, w.account
		if err := w.shape(&q); err != nil {
			return nil, err
		}
		all = append(all, q)
	}
	return all, nil
}

func queueNames(queues []batch.Queue) []string {
	names := make([]string, len(queues))
	for i := range queues {
		names[i] = queues[i].Name
	}
	return names
}

// ofQueue names a queue in a title.
func ofQueue(name string) string {
	if name == "" {
		return ""
	}
	return " of " + name
}

// shape asks for the shape of a queue's pilot jobs, as far as flags do not say it.
func (w *wizard) shape(q *chosen) error {
	if w.in != nil {
		fmt.Fprintf(w.out, "pilot jobs%s:\n", ofQueue(q.Name))
	}
	number := func(given int, question string, preset, least int, to *int) error {
		if *to = given; given != 0 {
			return nil
		}
		return w.until(question, strconv.Itoa(preset), func(text string) error {
			n, err := strconv.Atoi(text)
			if err != nil || n < least {
				return usageErrorf("%s: %q: want a number from %d", question, text, least)
			}
			*to = n
			return nil
		})
	}
	pilots := 10
	if q.Type == "local" {
		pilots = max(1, q.found.Cores/max(1, cmp.Or(w.cores, q.Cores)))
	}
	err := errors.Join(
		number(w.cores, "cores of one", q.Cores, 1, &q.Cores),
		number(w.maxPilots, "how many at most, running and waiting", pilots, 1, &q.MaxPilots))
	if q.found.GPUs > 0 || w.gpus > 0 {
		err = errors.Join(err, number(w.gpus, "cards of one", 0, 0, &q.GPUs))
	}
	if err != nil {
		return err
	}
	memory := ""
	if part := memoryPart(&q.found, q.Cores); part > 0 {
		memory = sizeText(part)
	}
	if q.Type == "condor" { // it gives next to nothing to who does not ask
		memory, q.Disk = cmp.Or(memory, fmt.Sprintf("%dGB", 2*q.Cores)), glidein.Size(10*protocol.GB)
	}
	if q.Memory = glidein.Size(w.memory); q.Memory == 0 {
		err = w.until("memory of one, empty for what the batch system gives", memory, func(text string) error {
			if text == "" {
				return nil
			}
			return q.Memory.UnmarshalText([]byte(text))
		})
	}
	if w.walltime > 0 {
		q.Walltime = glidein.Duration(w.walltime)
	} else {
		err = errors.Join(err, w.until("walltime of one", shortSpan(time.Duration(q.Walltime)), func(text string) error {
			return q.Walltime.UnmarshalText([]byte(text))
		}))
	}
	if limit := q.found.Walltime; err == nil && limit > 0 && time.Duration(q.Walltime) > limit {
		err = usageErrorf("walltime %s: queue %s has at most %s", shortSpan(time.Duration(q.Walltime)), q.Name, shortSpan(limit))
	}
	return err
}

// sizeText writes a size as site.toml reads it.
func sizeText(s glidein.Size) string {
	switch n := protocol.ByteSize(s); {
	case n%protocol.GB == 0:
		return fmt.Sprintf("%dGB", n/protocol.GB)
	case n%protocol.MB == 0:
		return fmt.Sprintf("%dMB", n/protocol.MB)
	default:
		return strconv.FormatInt(int64(n), 10)
	}
}

// tomlLine writes a key with a word on it.
func tomlLine(b *strings.Builder, key string, value any, word string) {
	line, err := toml.Marshal(map[string]any{key: value})
	if err != nil {
		return // texts and numbers can be written
	}
	text := strings.TrimRight(string(line), "\n")
	if word != "" {
		text = fmt.Sprintf("%-26s # %s", text, word)
	}
	b.WriteString(text + "\n")
}

// write is the new site.toml.
func (w *wizard) write(queues []chosen) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Made by floe site init. docs/sites.md has all that can stand here.\n\n[queue]\n")
	first := &queues[0]
	tomlLine(&b, "type", first.Type, "the batch system")
	if first.Endpoint != "" {
		tomlLine(&b, "endpoint", first.Endpoint, "")
	}
	if first.Account != "" {
		tomlLine(&b, "account", first.Account, "")
	}
	sections := map[string]bool{}
	for i := range queues {
		q := &queues[i]
		if len(queues) > 1 {
			label := labelOf(q.Name, sections)
			fmt.Fprintf(&b, "\n[queues.%s]\n", label)
		}
		if q.Name != "" {
			tomlLine(&b, "name", q.Name, strings.ReplaceAll(describeQueue(&q.found), "\n", " "))
		}
		tomlLine(&b, "max_pilots", q.MaxPilots, "pilot jobs, running and waiting")
		tomlLine(&b, "cores", q.Cores, "of one pilot job, as what follows")
		if q.Memory > 0 {
			tomlLine(&b, "memory", sizeText(q.Memory), "")
		}
		if q.GPUs > 0 {
			tomlLine(&b, "gpus", q.GPUs, "")
		}
		tomlLine(&b, "walltime", shortSpan(time.Duration(q.Walltime)), "")
		if q.Disk > 0 {
			tomlLine(&b, "disk", sizeText(q.Disk), "change it to what tasks here want")
		} else {
			b.WriteString("# disk = \"20GB\"            # say it, so that no pilot comes that is too small\n")
		}
	}
	b.WriteString("\n[system]\n")
	if w.scratch != "" {
		tomlLine(&b, "scratch", w.scratch, "where attempts run")
	}
	tomlLine(&b, "idle", "10m", "a pilot without work leaves after this")
	b.WriteString(`
# What steering files read here as $system(NAME):
# [system.values]
# downloads = "/data/in"

# Variables for pilots and payloads, such as the way out of the nodes:
# [env]
# https_proxy = "http://proxy.example.org:3128"
`)
	return []byte(b.String()), nil
}

// labelOf is a queue's name as a section of the file may have it.
func labelOf(name string, taken map[string]bool) string {
	label := strings.Map(func(r rune) rune {
		if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return r
		}
		return '-'
	}, name)
	if label = label[:min(len(label), 30)]; label == "" {
		label = "queue"
	}
	for n := 2; taken[label]; n++ {
		label = fmt.Sprintf("%.30s-%d", label, n)
	}
	taken[label] = true
	return label
}

// next says what was made and what to do now.
func (w *wizard) next(dir, file string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(w.out, "wrote %s\n", file)
	if _, err := os.Stat(filepath.Join(dir, siteClusterFile)); err != nil {
		fmt.Fprintf(w.out, "this site has not joined a cluster yet: floe site join @TOKEN --dir %s\n", shellWord(dir))
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(program), "floe-pilot")); err != nil {
		fmt.Fprintf(w.out, "there is no floe-pilot beside %s: put it there, or floe site fetch-pilot --dir %s and set pilot in [system]\n", program, shellWord(dir))
	}
	fmt.Fprintf(w.out, "look at it:  floe site check --config %[1]s --dry-run\ntry it:      floe site doctor --config %[1]s\n", shellWord(file))
	fmt.Fprintf(w.out, "then, by crontab -e, one line:\n\n%s\n", cronLine(program, file, []string{w.kind}))
	if !w.systemd {
		return nil
	}
	units, err := writeUnits(dir, program, file, cronEnvironment([]string{w.kind}))
	if err != nil {
		return withExit(exitFailure, err)
	}
	fmt.Fprintf(w.out, "\nor, where there is no cron:\n\nsystemctl --user link %s %s\nsystemctl --user enable --now %s\nloginctl enable-linger\n",
		shellWord(units[0]), shellWord(units[1]), filepath.Base(units[1]))
	return nil
}

// Units of systemd that make passes. The service ends when its pass does; a timer does
// not start it again meanwhile.
const (
	unitService = `[Unit]
Description=One pass of a floe site

[Service]
Type=oneshot
%sExecStart=%s glidein --config %s
TimeoutStartSec=10min
`
	unitTimer = `[Unit]
Description=Passes of a floe site

[Timer]
OnCalendar=*:0/5
RandomizedDelaySec=60
Persistent=false

[Install]
WantedBy=timers.target
`
)

// writeUnits writes a service and its timer and returns their paths.
func writeUnits(dir, program, config string, env map[string]string) ([]string, error) {
	units := filepath.Join(dir, "systemd")
	if err := os.MkdirAll(units, 0o700); err != nil {
		return nil, err
	}
	var variables strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&variables, "Environment=%s\n", unitWord(name+"="+env[name], "$"))
	}
	service, timer := filepath.Join(units, "floe-glidein.service"), filepath.Join(units, "floe-glidein.timer")
	return []string{service, timer}, errors.Join(
		renameio.WriteFile(service, fmt.Appendf(nil, unitService, variables.String(), unitWord(program, "$$"), unitWord(config, "$$")), 0o600),
		renameio.WriteFile(timer, []byte(unitTimer), 0o600))
}

// unitWord quotes a word of a unit file, in which a dollar is written so.
func unitWord(s, dollar string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", dollar).Replace(s) + `"`
}

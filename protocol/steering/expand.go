package steering

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// ExpandInput is what a job's expressions can ask for besides the document.
type ExpandInput struct {
	Dataset  protocol.DatasetID
	Job      protocol.JobIndex
	JobCount uint32 // $(jobs_submitted)
	// Seed is the dataset's seed; with job, task and place it decides each $choice.
	Seed uint64
	// Options override the document's options. Args are what $args looks at
	// first. Values of all five maps are taken as they are: phrases in them are
	// not expanded.
	Options, Args, Metadata map[string]string
	// System and Environ are known on the node only. While such a map is nil,
	// phrases that need it stay as they stand and are no problem.
	System, Environ map[string]string
}

// ExpandedJob is one job with every expression replaced by its value.
type ExpandedJob struct {
	Dataset  protocol.DatasetID `json:"dataset"`
	Job      protocol.JobIndex  `json:"job"`
	JobCount uint32             `json:"jobs_submitted"`
	Seed     uint64             `json:"seed"`
	// Parameters are the header's.
	Parameters *expr.Dict     `json:"parameters"`
	Tasks      []ExpandedTask `json:"tasks"`
}

// ExpandedTask is one task of one job. Lists of files begin with the header's.
type ExpandedTask struct {
	Index        protocol.TaskIndex    `json:"index"`
	Name         string                `json:"name"`
	Requirements protocol.Requirements `json:"requirements"`
	Container    string                `json:"container,omitempty"`
	Credentials  []string              `json:"credentials,omitempty"`
	// MaxOutput is how large all outputs may be together; 0 is without bound.
	MaxOutput  protocol.ByteSize  `json:"max_output,omitempty"`
	Parameters *expr.Dict         `json:"parameters"`
	BatchSys   []ExpandedBatchSys `json:"batchsys,omitempty"`
	ExpandedFiles
	Trays []ExpandedTray `json:"trays"`
	// NodeDependent reports that some expression asked for $system or $environ.
	NodeDependent bool `json:"node_dependent,omitempty"`
}

// ExpandedTray is one iteration of a tray.
type ExpandedTray struct {
	Index     int    `json:"index"` // of the tray in the document
	Iteration int    `json:"iteration"`
	Name      string `json:"name,omitempty"`
	// Container is the tray's own, or its task's.
	Container  string     `json:"container,omitempty"`
	EnvShell   string     `json:"env_shell,omitempty"`
	EnvClear   Flag       `json:"env_clear,omitempty"`
	Parameters *expr.Dict `json:"parameters"`
	ExpandedFiles
	// Modules have their tray's checkpoint where they have none of their own.
	Modules []ExpandedModule `json:"modules"`
}

// ExpandedModule is one step.
type ExpandedModule struct {
	Index int    `json:"index"`
	Name  string `json:"name,omitempty"`
	Class string `json:"class,omitempty"`
	Src   string `json:"src,omitempty"`
	// Args is a string (a command line), an expr.List, an *expr.Dict, or nil.
	Args     expr.Value `json:"args,omitempty"`
	EnvShell string     `json:"env_shell,omitempty"`
	EnvClear Flag       `json:"env_clear,omitempty"`
	// Checkpoint is nil where the document says nothing of it.
	Checkpoint *ExpandedCheckpoint `json:"checkpoint,omitempty"`
	Parameters *expr.Dict          `json:"parameters"`
	// Configs are files to write before the module runs: name to content.
	Configs *expr.Dict `json:"configs,omitempty"`
	ExpandedFiles
}

// ExpandedFiles are the files and software of a task, tray or module.
type ExpandedFiles struct {
	Resources []ExpandedResource `json:"resources,omitempty"`
	Data      []ExpandedData     `json:"data,omitempty"`
	Classes   []ExpandedClass    `json:"classes,omitempty"`
	Projects  []ExpandedProject  `json:"projects,omitempty"`
}

// ExpandedBatchSys holds properties for one batch system.
type ExpandedBatchSys struct {
	Name       string     `json:"name"`
	Parameters *expr.Dict `json:"parameters"`
}

// ExpandedResource is a Resource with its expressions resolved.
type ExpandedResource struct {
	Remote      string      `json:"remote"`
	Local       string      `json:"local"`
	Compression Compression `json:"compression,omitempty"`
	Transfer    Transfer    `json:"transfer,omitempty"`
	Arch        string      `json:"arch,omitempty"`
	Checksum    string      `json:"checksum,omitempty"`
	Cache       Flag        `json:"cache,omitempty"`
}

// ExpandedData is a Data with its expressions resolved.
type ExpandedData struct {
	Type        DataType    `json:"type"`
	Movement    Movement    `json:"movement"`
	Remote      string      `json:"remote"`
	Local       string      `json:"local"`
	Compression Compression `json:"compression,omitempty"`
	Transfer    Transfer    `json:"transfer,omitempty"`
	Checksum    string      `json:"checksum,omitempty"`
	Cache       Flag        `json:"cache,omitempty"`
	// MaxSize is how large an output may be; 0 is without bound.
	MaxSize protocol.ByteSize `json:"max_size,omitempty"`
}

// ExpandedClass is a Class with its expressions resolved.
type ExpandedClass struct {
	Name         string `json:"name"`
	Src          string `json:"src,omitempty"`
	ResourceName string `json:"resource_name,omitempty"`
	Recursive    Flag   `json:"recursive,omitempty"`
	Libs         string `json:"libs,omitempty"`
	EnvVars      string `json:"env_vars,omitempty"`
}

// ExpandedProject is a Project with its expressions resolved.
type ExpandedProject struct {
	Name    string `json:"name"`
	Class   string `json:"class,omitempty"`
	Version string `json:"version,omitempty"`
}

// MarshalJSON writes a flag as true, false or null.
func (f Flag) MarshalJSON() ([]byte, error) {
	if f == FlagUnset {
		return []byte("null"), nil
	}
	return strconv.AppendBool(nil, f == FlagYes), nil
}

// MaxIterations bounds how often a tray runs.
const MaxIterations = 10_000

// ExpandJob resolves every expression of one job. Phrases without a value stay
// as they stand and are warnings; errors mean that a number the job needs
// (iterations, requirements) is none. The job is never nil.
func ExpandJob(doc *Document, in ExpandInput) (*ExpandedJob, Problems) {
	e := newExpansion(doc, in)
	job := &ExpandedJob{
		Dataset: in.Dataset, Job: in.Job, JobCount: in.JobCount, Seed: in.Seed,
		Tasks: make([]ExpandedTask, 0, len(doc.Tasks)),
	}
	for i := range doc.Tasks {
		job.Tasks = append(job.Tasks, e.task(i))
	}
	job.Parameters = e.header()
	return job, e.problems.Sort()
}

// ExpandHeader resolves the parameters of the document's header, as ExpandJob does.
func ExpandHeader(doc *Document, in ExpandInput) *expr.Dict { return newExpansion(doc, in).header() }

// header are the header's parameters. They may be meant for a task or an iteration
// ($(iter)): what they leave here is a problem only where it is used.
func (e *expansion) header() *expr.Dict {
	return e.quietly(func() *expr.Dict { return e.parameters(e.doc.Steering.Parameters, headerPlace("parameters")) })
}

// ExpandTask resolves the expressions of one task, as ExpandJob does: given
// the same input, coordinator and pilot see the same task.
func ExpandTask(doc *Document, in ExpandInput, task protocol.TaskIndex) (*ExpandedTask, Problems) {
	e := newExpansion(doc, in)
	if int(task) >= len(doc.Tasks) {
		e.errorf(doc.Position, "there is no task %d; the document has %d", task, len(doc.Tasks))
		return &ExpandedTask{Index: task}, e.problems
	}
	expanded := e.task(int(task))
	return &expanded, e.problems.Sort()
}

// expansion walks a document for one job.
type expansion struct {
	doc      *Document
	in       ExpandInput
	scope    *scope
	problems Problems
	silent   bool
	sources  expr.Sources // of everything since it was last cleared
	// divisions are the $eval phrases that divided integers with "/".
	divisions map[expr.At]bool
}

func newExpansion(doc *Document, in ExpandInput) *expansion {
	return &expansion{doc: doc, in: in, scope: newScope(doc, in), divisions: map[expr.At]bool{}}
}

func (e *expansion) errorf(at Position, format string, args ...any) {
	e.add(SeverityError, at, fmt.Sprintf(format, args...))
}

func (e *expansion) add(severity Severity, at Position, message string) {
	if !e.silent {
		e.problems = append(e.problems, Problem{Line: at.Line, Column: at.Column, Severity: severity, Message: message})
	}
}

// quietly expands without reporting.
func (e *expansion) quietly(f func() *expr.Dict) *expr.Dict {
	e.silent = true
	defer func() { e.silent = false }()
	return f()
}

func (e *expansion) options() expr.Options { return e.scope.options() }

// expand resolves a value written at place.
func (e *expansion) expand(v expr.Value, place expr.Place, at Position) expr.Value {
	e.scope.positions[place] = at
	r := expr.Expand(v, place, e.scope, e.options())
	e.sources |= r.Sources
	for _, u := range r.Unresolved {
		if e.silent || e.awaitsNode(u) {
			continue
		}
		at := e.scope.position(u.Place)
		problem := Problem{
			Line: at.Line, Column: at.Column, Severity: SeverityWarning,
			Message: fmt.Sprintf("%s stays as it stands: %s", u.Text, u.Reason), Suggestion: e.suggestion(u),
		}
		if name, ok := asksSite(u); ok {
			names := e.scope.systemNames()
			problem.Severity = SeverityError
			problem.Message = fmt.Sprintf("%s: this site says nothing of %q, and <system> of the header has no default; it says %s", u.Text, name, strings.Join(names, ", "))
			problem.Suggestion = quoteWord(nearest(name, names))
		}
		e.problems = append(e.problems, problem)
	}
	for _, at := range r.IntDivisions {
		e.divisions[at] = true
	}
	return r.Value
}

// asksSite reports whether a phrase names what the node's site does not say.
func asksSite(u expr.Unresolved) (name string, ok bool) {
	name, ok = strings.CutPrefix(u.Text, "$system(")
	if !ok || !errors.Is(u.Err, expr.ErrUnknown) {
		return "", false
	}
	name, _, _ = strings.Cut(name, ")")
	return name, true
}

// suggestion is the nearest name to one that is not there.
func (e *expansion) suggestion(u expr.Unresolved) string {
	if !errors.Is(u.Err, expr.ErrUnknown) {
		return ""
	}
	_, name, _ := strings.Cut(u.Text, "(")
	name, _, _ = strings.Cut(name, ")")
	return quoteWord(nearest(name, e.scope.names()))
}

// awaitsNode reports whether a phrase can only be resolved on the node, and
// nobody claims to be one.
func (e *expansion) awaitsNode(u expr.Unresolved) bool {
	return e.in.System == nil && strings.HasPrefix(u.Text, "$system(") ||
		e.in.Environ == nil && strings.HasPrefix(u.Text, "$environ(")
}

// text resolves an expression to text.
func (e *expansion) text(x Expression, place expr.Place) string {
	if !strings.ContainsAny(x.Text, `$\`) {
		return x.Text
	}
	return expr.Text(e.expand(x.Text, place, x.Position))
}

// value resolves a parameter's value; text takes the type it reads as.
func (e *expansion) value(v Value, place expr.Place) expr.Value {
	return infer(e.expand(exprValue(v), place, v.Position))
}

func (e *expansion) parameters(ps Parameters, place expr.Place) *expr.Dict {
	d := &expr.Dict{Keys: make([]string, len(ps)), Values: make([]expr.Value, len(ps))}
	for i := range ps {
		inner := below(place, ps[i].Name)
		d.Keys[i], d.Values[i] = ps[i].Name, e.value(ps[i].Value, inner)
	}
	return d
}

func (e *expansion) task(index int) ExpandedTask {
	t := &e.doc.Tasks[index]
	e.sources = 0
	e.scope.enterTask(index)
	defer e.scope.enterHeader()
	place := expr.Place{Task: t.Name}
	task := ExpandedTask{
		Index: protocol.TaskIndex(index), Name: t.Name, Credentials: t.Credentials,
		Requirements: e.requirements(&t.Requirements, place),
		Container:    e.text(t.Container, below(place, "container")),
		MaxOutput:    e.size("max_output", t.MaxOutput, below(place, "max_output")),
		Parameters:   e.parameters(t.Parameters, below(place, "parameters")),
		Trays:        []ExpandedTray{},
	}
	for _, b := range [][]BatchSys{e.doc.Steering.BatchSys, t.BatchSys} {
		for i := range b {
			task.BatchSys = append(task.BatchSys, ExpandedBatchSys{
				Name:       b[i].Name,
				Parameters: e.parameters(b[i].Parameters, below(place, "batchsys", b[i].Name)),
			})
		}
	}
	header := &e.doc.Steering
	files := e.files(headerPlace("files"), header.Resources, header.Data, nil, nil)
	own := e.files(place, t.Resources, t.Data, t.Classes, t.Projects)
	task.ExpandedFiles = ExpandedFiles{
		append(files.Resources, own.Resources...), append(files.Data, own.Data...), own.Classes, own.Projects,
	}
	for i := range t.Trays {
		n := e.iterations(&t.Trays[i], below(place, "trays", i, "iterations"))
		for iteration := range n {
			tray := e.tray(&t.Trays[i], i, iteration)
			if tray.Container == "" {
				tray.Container = task.Container
			}
			task.Trays = append(task.Trays, tray)
		}
	}
	task.NodeDependent = e.sources.Has(expr.SourceNode)
	return task
}

// iterations resolves how often a tray runs.
func (e *expansion) iterations(t *Tray, place expr.Place) int {
	if t.Iterations.Empty() {
		return 1
	}
	n, ok := wholeNumber(e.text(t.Iterations, place))
	if !ok || n < 0 || n > MaxIterations {
		e.errorf(t.Iterations.Position, "iterations %q: want a whole number from 0 to %d", t.Iterations, MaxIterations)
		return 0
	}
	return int(n)
}

func (e *expansion) tray(t *Tray, index, iteration int) ExpandedTray {
	place := e.scope.enterTray(t, index, iteration)
	defer e.scope.leave()
	tray := ExpandedTray{
		Index: index, Iteration: iteration, Name: t.Name, EnvClear: t.EnvClear,
		Container:     e.text(t.Container, below(place, "container")),
		EnvShell:      e.text(t.EnvShell, below(place, "env_shell")),
		Parameters:    e.parameters(t.Parameters, below(place, "parameters")),
		ExpandedFiles: e.files(place, t.Resources, t.Data, t.Classes, t.Projects),
		Modules:       make([]ExpandedModule, 0, len(t.Modules)),
	}
	for i := range t.Modules {
		tray.Modules = append(tray.Modules, e.module(&t.Modules[i], &t.Checkpoint, i, below(place, "modules", i)))
	}
	return tray
}

func (e *expansion) module(m *Module, tray *Checkpoint, index int, place expr.Place) ExpandedModule {
	e.scope.enter(m.Parameters, m.Data, place)
	defer e.scope.leave()
	module := ExpandedModule{
		Index: index, Name: m.Name, EnvClear: m.EnvClear,
		Class:         e.text(m.Class, below(place, "class")),
		Src:           e.text(m.Src, below(place, "src")),
		Args:          e.args(m.Args, below(place, "args")),
		EnvShell:      e.text(m.EnvShell, below(place, "env_shell")),
		Checkpoint:    e.checkpoint(&m.Checkpoint, tray, place),
		Parameters:    e.parameters(m.Parameters, below(place, "parameters")),
		ExpandedFiles: e.files(place, m.Resources, m.Data, m.Classes, m.Projects),
	}
	if len(m.Configs) > 0 {
		module.Configs = e.parameters(m.Configs, below(place, "configs"))
	}
	return module
}

// args resolves a module's arguments. A command line stays text whatever it
// reads as, unless it is a list or map written as text.
func (e *expansion) args(v Value, place expr.Place) expr.Value {
	if v.Kind != KindString {
		return e.value(v, place)
	}
	expanded := e.expand(v.Text, place, v.Position)
	switch inferred := infer(expanded).(type) {
	case expr.List, *expr.Dict:
		return inferred
	}
	return expr.Text(expanded)
}

func (e *expansion) files(place expr.Place, resources []Resource, data []Data, classes []Class, projects []Project) ExpandedFiles {
	var f ExpandedFiles
	text := func(x Expression, path ...any) string { return e.text(x, below(place, path...)) }
	for i := range resources {
		r := &resources[i]
		f.Resources = append(f.Resources, ExpandedResource{
			Remote: text(r.Remote, "resources", i, "remote"), Local: text(r.Local, "resources", i, "local"),
			Checksum:    text(r.Checksum, "resources", i, "checksum"),
			Compression: r.Compression, Transfer: r.Transfer, Arch: r.Arch, Cache: r.Cache,
		})
	}
	for i := range data {
		d := &data[i]
		f.Data = append(f.Data, ExpandedData{
			Remote: text(d.Remote, "data", i, "remote"), Local: text(d.Local, "data", i, "local"),
			Checksum: text(d.Checksum, "data", i, "checksum"),
			Type:     d.Type, Movement: d.Movement, Compression: d.Compression, Transfer: d.Transfer, Cache: d.Cache,
			MaxSize: e.size("max_size", d.MaxSize, below(place, "data", i, "max_size")),
		})
	}
	for i := range classes {
		c := &classes[i]
		f.Classes = append(f.Classes, ExpandedClass{
			Name: c.Name, Recursive: c.Recursive,
			Src: text(c.Src, "classes", i, "src"), ResourceName: text(c.ResourceName, "classes", i, "resource_name"),
			Libs: text(c.Libs, "classes", i, "libs"), EnvVars: text(c.EnvVars, "classes", i, "env_vars"),
		})
	}
	for i := range projects {
		p := &projects[i]
		f.Projects = append(f.Projects, ExpandedProject{
			Name: text(p.Name, "projects", i, "name"), Class: text(p.Class, "projects", i, "class"),
			Version: text(p.Version, "projects", i, "version"),
		})
	}
	return f
}

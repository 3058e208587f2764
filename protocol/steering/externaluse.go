package steering

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"path"
	"slices"
	"strings"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// MaxExternals is how many different external modules a dataset may name.
// Source: paper §3.4 has them fetched at submission; design §6 bounds them.
const MaxExternals = 1000

// maxExternalTexts bounds the jobs times iterations that one src is resolved for: a
// million take half a minute.
const maxExternalTexts = MaxJobsEvaluated

// ExternalUse is one external module of a dataset, at the first place that names it.
type ExternalUse struct {
	External
	// Text is the URL as jobs see it: the document's, with expressions resolved.
	Text     string
	Position Position
	// Where names the module or class and its task, for people.
	Where string
	// Class is the Python class of a module, which must have the parameters Given.
	Class string
	Given []GivenParameter
	// Program says that a module without a class runs it.
	Program bool
}

// GivenParameter is a parameter's name where it is given.
type GivenParameter struct {
	Name     string
	Position Position
}

// Externals lists the external modules that the jobs of a dataset name, each URL
// once, in the document's order. A src that a resource or an input brings is none.
// With no jobs yet, those of job 0 are listed.
func Externals(doc *Document, in CompileInput) ([]ExternalUse, Problems) {
	return collectExternals(doc, ExpandInput{Dataset: in.Dataset, JobCount: in.JobCount, Seed: in.Seed, Options: in.Options}, true)
}

// JobExternals is Externals for one job.
func JobExternals(doc *Document, in ExpandInput) ([]ExternalUse, Problems) {
	return collectExternals(doc, in, false)
}

func collectExternals(doc *Document, in ExpandInput, all bool) ([]ExternalUse, Problems) {
	e := newExpansion(doc, in)
	e.silent = true // what does not resolve is told by others
	c := externalCollector{expansion: e, found: map[string]bool{}, addresses: holdsAddress(doc, in.Options), first: in.Job, end: in.Job + 1}
	if all {
		c.first, c.end = 0, protocol.JobIndex(max(in.JobCount, 1))
	}
	for i := range doc.Tasks {
		t := &doc.Tasks[i]
		c.classes(t.Classes, externalPlace{task: i, tray: -1, module: -1})
		for j := range t.Trays {
			c.classes(t.Trays[j].Classes, externalPlace{task: i, tray: j, module: -1})
			for k := range t.Trays[j].Modules {
				m := &t.Trays[j].Modules[k]
				at := externalPlace{task: i, tray: j, module: k}
				c.classes(m.Classes, at)
				c.module(m, at)
			}
		}
	}
	if n := len(c.found); n > MaxExternals && !c.problems.HasErrors() {
		e.silent = false
		e.errorf(c.uses[len(c.uses)-1].Position, "%s: with it the dataset names %d different external modules, at most %d are possible", c.uses[len(c.uses)-1].Where, n, MaxExternals)
	}
	return c.uses, e.problems.Sort()
}

type externalCollector struct {
	*expansion
	uses  []ExternalUse
	found map[string]bool // Text
	// addresses says that a parameter or option holds something like one.
	addresses bool
	// first to end, exclusive, are the jobs looked at.
	first, end protocol.JobIndex
}

// externalPlace is a task, a tray of it and a module of that; -1 is none.
type externalPlace struct{ task, tray, module int }

// within calls f where expressions of the place are seen, for one iteration.
func (c *externalCollector) within(at externalPlace, iteration int, f func(expr.Place)) {
	t := &c.doc.Tasks[at.task]
	c.scope.enterTask(at.task)
	defer c.scope.enterHeader()
	place := expr.Place{Task: t.Name}
	if at.tray >= 0 {
		tray := &t.Trays[at.tray]
		place = c.scope.enterTray(tray, at.tray, iteration)
		if at.module >= 0 {
			m := &tray.Modules[at.module]
			place = below(place, "modules", at.module)
			c.scope.enter(m.Parameters, m.Data, place)
		}
	}
	f(place)
}

// where names a place for people.
func (c *externalCollector) where(at externalPlace, what string) string {
	return fmt.Sprintf("%s of task %q", what, cut(c.doc.Tasks[at.task].Name, 60))
}

func (c *externalCollector) module(m *Module, at externalPlace) {
	if !c.mayBeExternal(m.Src) {
		return
	}
	name := fmt.Sprintf("module %d", at.module)
	if label := cmp.Or(m.Name, m.Class.Text); label != "" {
		name = fmt.Sprintf("module %q", cut(label, 60))
	}
	use := ExternalUse{Position: m.Src.Position, Where: c.where(at, name)}
	use.Program = m.Class.Empty()
	if !m.Class.Empty() && !isExpression(m.Class.Text) {
		use.Class = m.Class.Text
		use.Given = givenParameters(m)
	}
	c.each(at, use, func(place expr.Place) string {
		text := c.text(m.Src, below(place, "src"))
		if !isExternal(text) || c.isBrought(at, place, text) {
			return ""
		}
		return text
	})
}

// givenParameters are those that must exist, as the shim has it: those of args, and
// the module's own unless there are args.
func givenParameters(m *Module) []GivenParameter {
	var args []GivenParameter
	if m.Args.Kind == KindMap {
		for _, p := range m.Args.Map {
			args = append(args, GivenParameter{p.Name, p.Value.Position})
		}
		if _, both := m.Args.Map.Find("kwargs"); both && len(args) == 2 {
			args = nil
			if v, _ := m.Args.Map.Find("kwargs"); v.Kind == KindMap {
				for _, p := range v.Map {
					args = append(args, GivenParameter{p.Name, p.Value.Position})
				}
			}
		}
	}
	var own []GivenParameter
	for _, p := range m.Parameters {
		own = append(own, GivenParameter{p.Name, p.Value.Position})
	}
	if len(args) > 0 {
		return args
	}
	return own
}

func (c *externalCollector) classes(classes []Class, at externalPlace) {
	for i := range classes {
		class := &classes[i]
		if !class.ResourceName.Empty() || !c.mayBeExternal(class.Src) {
			continue
		}
		use := ExternalUse{Position: class.Src.Position, Where: c.where(at, fmt.Sprintf("class %q", cut(class.Name, 60)))}
		c.each(at, use, func(place expr.Place) string {
			one := ExpandedClass{Name: class.Name, Src: c.text(class.Src, below(place, "classes", i, "src")), Recursive: class.Recursive}
			text := one.External()
			if !isExternal(text) || c.isResource(at, place, one.Name) {
				return ""
			}
			return text
		})
	}
}

// mayBeExternal spares the look at every job for a src that is surely none: programs
// that differ between jobs are no addresses if nothing around them is.
func (c *externalCollector) mayBeExternal(src Expression) bool {
	return isExternal(src.Text) || isExpression(src.Text) && (c.addresses || strings.Contains(src.Text, "://"))
}

// holdsAddress looks through all that a src can name for the mark of an address.
func holdsAddress(doc *Document, options map[string]string) bool {
	for _, text := range options {
		if strings.Contains(text, "://") {
			return true
		}
	}
	all := []Parameters{doc.Options, doc.DIFPlus, doc.Labels, doc.Steering.Parameters, doc.Steering.System}
	for i := range doc.Tasks {
		t := &doc.Tasks[i]
		all = append(all, t.Parameters)
		for j := range t.Trays {
			all = append(all, t.Trays[j].Parameters)
			for k := range t.Trays[j].Modules {
				all = append(all, t.Trays[j].Modules[k].Parameters)
			}
		}
	}
	return slices.ContainsFunc(all, func(p Parameters) bool { return (&Value{Kind: KindMap, Map: p}).contains("://") })
}

// contains looks for a text in a value and all it holds.
func (v *Value) contains(text string) bool {
	return strings.Contains(v.Text, text) ||
		slices.ContainsFunc(v.List, func(v Value) bool { return v.contains(text) }) ||
		slices.ContainsFunc(v.Map, func(p Parameter) bool { return p.Value.contains(text) })
}

// External is the URL that a class's src stands for, as Externals has it: with
// recursive it is a folder of an svn repository, as IceProd had it.
func (c *ExpandedClass) External() string {
	if c.Recursive == FlagYes && !isArchive(c.Src) && (strings.HasPrefix(c.Src, "https://") || strings.HasPrefix(c.Src, "http://")) {
		return "svn+" + c.Src
	}
	return c.Src
}

// isArchive reports whether a URL's path ends as those of archives do.
func isArchive(address string) bool {
	plain, _, _ := strings.Cut(address, "#")
	plain, _, _ = strings.Cut(plain, "?")
	for _, suffix := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".git", ".zip", ".egg", ".whl"} {
		if strings.HasSuffix(plain, suffix) {
			return true
		}
	}
	return strings.Contains(path.Base(plain), ".git@")
}

// each resolves a text for every job and iteration that it can differ in.
func (c *externalCollector) each(at externalPlace, use ExternalUse, text func(expr.Place) string) {
	defer c.setJob(c.first)
	c.sources = 0
	iterations := c.iterationsOf(at)
	again := c.sources.Has(expr.SourceJob)
	take := func(iteration int) (resolved string) {
		c.within(at, iteration, func(place expr.Place) { resolved = text(place) })
		return resolved
	}
	first := take(0)
	if c.sources.Has(expr.SourceNode) && isExternal(first) {
		c.refuse(use, "its address cannot depend on $system or $environ, which are known only when a node was chosen")
		return
	}
	end := c.first + 1
	if c.sources.Has(expr.SourceJob) {
		end = c.end
	}
	many := c.sources.Has(expr.SourceIteration)
	// Distinct ones are counted to the end, so that the refusal can say how many.
	distinct, taken := map[uint64]struct{}{}, map[string]bool{}
	var order []string
	for job, looked := c.first, 0; job < end; job++ {
		c.setJob(job)
		if again {
			iterations = c.iterationsOf(at)
		}
		for iteration := range iterations {
			if iteration > 0 && !many {
				break
			}
			if looked++; looked > maxExternalTexts {
				if len(order) == 0 {
					return // programs, as far as anybody looks
				}
				c.refuse(use, fmt.Sprintf("its address depends on the job, and %d jobs with their iterations are too many to look at each", end-c.first))
				return
			}
			resolved := take(iteration)
			if resolved == "" {
				continue
			}
			h := fnv.New64a()
			_, _ = h.Write([]byte(resolved))
			distinct[h.Sum64()] = struct{}{}
			if len(order) <= MaxExternals && !taken[resolved] {
				taken[resolved] = true
				order = append(order, resolved)
			}
		}
	}
	if len(distinct) > MaxExternals {
		c.refuse(use, fmt.Sprintf("its address has %d different values over the jobs, at most %d are possible: let the address depend on less, and give the rest as parameters", len(distinct), MaxExternals))
		return
	}
	for _, resolved := range order {
		c.add(use, resolved)
	}
}

// iterationsOf is how often the tray of a place runs in the present job.
func (c *externalCollector) iterationsOf(at externalPlace) int {
	if at.tray < 0 {
		return 1
	}
	t, n := &c.doc.Tasks[at.task].Trays[at.tray], 0
	c.within(externalPlace{at.task, -1, -1}, 0, func(place expr.Place) {
		n = c.iterations(t, below(place, "trays", at.tray, "iterations"))
	})
	return n
}

func (c *externalCollector) add(use ExternalUse, text string) {
	if c.found[text] {
		return
	}
	external, err := ParseExternal(text)
	if err != nil {
		c.refuse(use, fmt.Sprintf("%s: %v", withoutUser(text), err))
		return
	}
	c.found[text] = true
	use.Text, use.External = text, external
	c.uses = append(c.uses, use)
}

func (c *externalCollector) refuse(use ExternalUse, why string) {
	c.silent = false
	c.errorf(use.Position, "%s: %s", use.Where, why)
	c.silent = true
}

// withoutUser is a URL for messages, without a user and password.
func withoutUser(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return cut(address, 120)
	}
	host, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = "…" + host[at:]
	}
	return cut(scheme+"://"+host+"/"+path, 120)
}

// isBrought reports whether a resource or an input of the place gives a src's file.
func (c *externalCollector) isBrought(at externalPlace, place expr.Place, src string) bool {
	base := path.Base(src)
	brings := func(remote, local string) bool {
		return remote == src || local == base || local == "" && path.Base(remote) == base
	}
	for _, f := range c.filesAround(at, place) {
		if slices.ContainsFunc(f.Resources, func(r ExpandedResource) bool { return brings(r.Remote, r.Local) }) ||
			slices.ContainsFunc(f.Data, func(d ExpandedData) bool { return d.Movement != MovementOutput && brings(d.Remote, d.Local) }) {
			return true
		}
	}
	return false
}

// isResource reports whether a resource of the place holds a class.
func (c *externalCollector) isResource(at externalPlace, place expr.Place, name string) bool {
	for _, f := range c.filesAround(at, place) {
		if slices.ContainsFunc(f.Resources, func(r ExpandedResource) bool {
			return isArchive(r.Local) && trimArchive(r.Local) == name || r.Local == name
		}) {
			return true
		}
	}
	return false
}

// filesAround are the files of the header and of every element around a place.
func (c *externalCollector) filesAround(at externalPlace, place expr.Place) []ExpandedFiles {
	header, t := &c.doc.Steering, &c.doc.Tasks[at.task]
	files := []ExpandedFiles{
		c.files(headerPlace("files"), header.Resources, header.Data, nil, nil),
		c.files(expr.Place{Task: t.Name}, t.Resources, t.Data, nil, nil),
	}
	if at.tray >= 0 {
		tray := &t.Trays[at.tray]
		files = append(files, c.files(place, tray.Resources, tray.Data, nil, nil))
		if at.module >= 0 {
			m := &tray.Modules[at.module]
			files = append(files, c.files(place, m.Resources, m.Data, nil, nil))
		}
	}
	return files
}

// Nearest is the nearest of the words to one that was typed, quoted; empty for none.
func Nearest(typed string, words []string) string { return quoteWord(nearest(typed, words)) }

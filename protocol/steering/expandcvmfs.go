package steering

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// mounted is a path in a CVMFS repository, wherever it stands in a text. Their names
// are those of hosts.
var mounted = regexp.MustCompile(`(?:^|[^A-Za-z0-9_.-])/cvmfs/([A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)+)`)

// unescaped takes away what JSON puts before a path at the beginning of a line or of a
// quoted word.
var unescaped = strings.NewReplacer(`\\`, `\\`, `\n`, "\n", `\t`, "\t", `\r`, "\r", `\"`, `"`)

// repositories lists the CVMFS repositories that a task's commands, classes,
// parameters and files name. Job 0 and first iterations stand for all: a repository
// is software, and all jobs of a task run the same.
func (e *expansion) repositories(index int) []string {
	silent, sources := e.silent, e.sources
	e.silent = true
	defer func() { e.silent, e.sources = silent, sources }()
	t := &e.doc.Tasks[index]
	place := expr.Place{Task: t.Name}
	parts := []any{
		e.text(t.Container, below(place, "container")),
		e.parameters(t.Parameters, below(place, "parameters")),
		e.files(headerPlace("files"), e.doc.Steering.Resources, e.doc.Steering.Data, nil, nil),
		e.files(place, t.Resources, t.Data, t.Classes, t.Projects),
	}
	for i := range t.Trays {
		parts = append(parts, e.tray(&t.Trays[i], i, 0))
	}
	// As JSON, the form in which commands print a task, it has every text there is.
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(parts); err != nil {
		return nil
	}
	var names []string
	for _, found := range mounted.FindAllStringSubmatch(unescaped.Replace(text.String()), -1) {
		names = append(names, found[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// requireRepositories makes a task go only where the CVMFS repositories are that it
// names: pilots advertise those that answer as tags.
func (e *expansion) requireRepositories(index int, planned *PlannedTask) {
	for _, name := range e.repositories(index) {
		for i := range planned.Classes {
			requireTag(&planned.Classes[i].Requirements, protocol.RepositoryTag(name))
		}
	}
}

// requireTag adds a tag to requirements and their alternatives.
func requireTag(r *protocol.Requirements, tag string) {
	if !slices.Contains(r.Tags, tag) {
		r.Tags = append(slices.Clone(r.Tags), tag)
	}
	for i := range r.Alternatives {
		requireTag(&r.Alternatives[i], tag)
	}
}

package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"floe/coordinator/blob"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/software"
	"floe/protocol/steering"
)

// softwarePins are the versions of the catalog that a dataset may use: all active
// builds of each, for good. What is retired or published later changes nothing for it.
type softwarePins struct {
	bill software.Bill
	// byTask are the versions that each task of the document uses.
	byTask map[int][]softwareVersion
	// versions are their builds.
	versions map[softwareVersion][]protocol.Build
}

type softwareVersion struct{ name, version string }

// pinSoftware finds what the projects of a document are in the catalog. A project
// that a resource of the document gives is left to that: it is the more exact word.
// The tasks of the plan are made to go where it runs. The pins are nil where the
// document uses nothing of the catalog.
func (s *Server) pinSoftware(doc *steering.Document, in steering.CompileInput, plan *steering.Plan) (*softwarePins, steering.Problems) {
	all := steering.Projects(doc, in)
	problems := unsummed(all)
	uses := slices.DeleteFunc(all, func(u steering.ProjectUse) bool { return u.Resource != nil })
	if len(uses) == 0 || problems.HasErrors() {
		return nil, problems
	}
	p := &softwarePins{byTask: map[int][]softwareVersion{}, versions: map[softwareVersion][]protocol.Build{}}
	p.bill.Root = s.Authority.Root()
	s.Record.Read(func(m *state.Machine) {
		for i := range uses {
			v, note, why := p.find(m, &uses[i])
			severity := steering.SeverityWarning
			if why != "" {
				severity = steering.SeverityError
			} else if of := p.byTask[uses[i].Task]; !slices.Contains(of, v) {
				p.byTask[uses[i].Task] = append(of, v)
			}
			if note != "" || why != "" {
				at := uses[i].Position
				problems = append(problems, steering.Problem{Line: at.Line, Column: at.Column, Severity: severity, Message: note + why})
			}
		}
	})
	if problems.HasErrors() {
		return nil, problems
	}
	// In a record that was restored signatures and certificates may be those of another
	// cluster: then tasks would fail one after the other.
	if _, err := p.bill.Verified(s.trust()); err != nil {
		at := uses[0].Position
		return nil, append(problems, steering.Problem{
			Line: at.Line, Column: at.Column, Severity: steering.SeverityError,
			Message: fmt.Sprintf("published software: %v; if this cluster was restored from the backup of another, its publishers must be certified again", err),
		})
	}
	p.bill.Sort()
	return p, append(problems, p.require(doc, plan)...)
}

// unsummed finds resources that no node could use as software: it comes through the
// cache, by its SHA-256. What only a node can resolve is left to it.
func unsummed(uses []steering.ProjectUse) (problems steering.Problems) {
	for _, u := range uses {
		if u.Resource == nil || strings.Contains(u.Resource.Checksum, "$") {
			continue
		}
		if _, err := protocol.ParseDigest(u.Resource.Checksum); err != nil {
			problems = append(problems, steering.Problem{
				Line: u.Position.Line, Column: u.Position.Column, Severity: steering.SeverityError,
				Message: fmt.Sprintf("project %s: its resource %s has the checksum %q: software needs its SHA-256, as sha256: and 64 digits", u.Project.Name, u.Resource.Local, u.Resource.Checksum),
			})
		}
	}
	return problems
}

// find finds one project, and adds its version to the bill. It says why there is
// none, or what was taken for granted.
func (p *softwarePins) find(m *state.Machine, u *steering.ProjectUse) (v softwareVersion, note, why string) {
	v.name, v.version = u.Project.Software()
	if u.Varies {
		return v, "", fmt.Sprintf("project %s %s: the catalog is looked up once, for all jobs; name and version must not depend on job, iteration or node", v.name, v.version)
	}
	if v.version == "" {
		switch versions := m.SoftwareVersions(v.name); len(versions) {
		case 0:
			return v, "", fmt.Sprintf("project %s: no resource of the document has that name, and %s", v.name, unknownSoftware(m, v.name, ""))
		case 1:
			v.version = versions[0]
			note = fmt.Sprintf("project %s: no version; %s is taken, the only active one", v.name, v.version)
		default:
			return v, "", fmt.Sprintf("project %s: no version; active are %s", v.name, few(versions))
		}
	}
	if _, known := p.versions[v]; known {
		return v, note, ""
	}
	builds := m.SoftwareVersion(v.name, v.version)
	active := slices.DeleteFunc(slices.Clone(builds), func(x state.Software) bool { return x.Retired != 0 })
	switch {
	case len(builds) == 0:
		return v, "", fmt.Sprintf("project %s %s: no resource of the document has that name, and %s", v.name, v.version, unknownSoftware(m, v.name, v.version))
	case len(active) == 0:
		why := fmt.Sprintf("project %s %s is retired", v.name, v.version)
		if versions := m.SoftwareVersions(v.name); len(versions) > 0 {
			why += "; active are " + few(versions)
		}
		return v, "", why
	}
	for _, x := range active {
		publisher, _ := m.Publisher(x.Item.Key) // the record keeps every key that signed something
		p.versions[v] = append(p.versions[v], x.Item.Build)
		p.bill.Builds = append(p.bill.Builds, x.Item)
		if !slices.ContainsFunc(p.bill.Certificates, func(c []byte) bool { return slices.Equal(c, publisher.Certificate) }) {
			p.bill.Certificates = append(p.bill.Certificates, publisher.Certificate)
		}
	}
	return v, note, ""
}

// require makes each task go only where the software runs that it uses.
func (p *softwarePins) require(doc *steering.Document, plan *steering.Plan) (problems steering.Problems) {
	if p == nil {
		return nil
	}
	for i := range plan.Tasks {
		var versions [][]protocol.Build
		for _, v := range p.byTask[i] {
			versions = append(versions, p.versions[v])
		}
		for c := range plan.Tasks[i].Classes {
			if err := software.Require(&plan.Tasks[i].Classes[c].Requirements, versions); err != nil {
				at := doc.Tasks[i].Position
				problems = append(problems, steering.Problem{
					Line: at.Line, Column: at.Column, Severity: steering.SeverityError, Message: fmt.Sprintf("task %q: %v", doc.Tasks[i].Name, err),
				})
				break
			}
		}
	}
	return problems
}

// storeBill stores the bill of what was pinned; its digest is zero where nothing was.
func (s *Server) storeBill(ctx context.Context, p *softwarePins) (protocol.Digest, error) {
	if p == nil {
		return protocol.Digest{}, nil
	}
	text, err := p.bill.Encode()
	if err != nil {
		return protocol.Digest{}, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	return s.keep(ctx, blob.Durable, billOwner(protocol.DigestOf(text)), text)
}

// billOwner is whose file a bill of software is.
func billOwner(d protocol.Digest) string { return "software of datasets " + d.Hex() }

// list names the builds that are pinned.
func (p *softwarePins) list() (ids []protocol.SoftwareID) {
	if p == nil {
		return nil
	}
	for i := range p.bill.Builds {
		ids = append(ids, p.bill.Builds[i].Build.ID())
	}
	return ids
}

// softwareOf reads what a dataset was given when it was submitted.
func (s *Server) softwareOf(ctx context.Context, d *state.Dataset, doc *steering.Document, in steering.CompileInput) (*softwarePins, error) {
	if d.Facts.Software.IsZero() {
		return nil, nil
	}
	body, size, err := s.openBlob(ctx, d.Facts.Software, true)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := protocol.ReadUpTo(body, int64(size), software.MaxBillBytes)
	if err != nil {
		return nil, err
	}
	bill, err := software.DecodeBill(text)
	if err != nil {
		return nil, err
	}
	p := &softwarePins{bill: *bill, byTask: map[int][]softwareVersion{}, versions: map[softwareVersion][]protocol.Build{}}
	for i := range bill.Builds {
		b := &bill.Builds[i].Build
		v := softwareVersion{b.Name, b.Version}
		p.versions[v] = append(p.versions[v], *b)
	}
	for _, u := range steering.Projects(doc, in) {
		if u.Resource != nil {
			continue
		}
		name, version := u.Project.Software()
		for v := range p.versions {
			if v.name == name && (v.version == version || version == "") && !slices.Contains(p.byTask[u.Task], v) {
				p.byTask[u.Task] = append(p.byTask[u.Task], v)
			}
		}
	}
	return p, nil
}

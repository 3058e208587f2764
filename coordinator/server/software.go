package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/software"
	"floe/protocol/steering"
)

// Verbs whose rights depend on whose a name is, in the table of rights.
const (
	patternPublish     = "POST /v1/software"
	patternActSoftware = "POST /v1/software/{name}/{version}/actions"
)

type softwareInput struct {
	Name string `query:"name" maxLength:"128" doc:"only versions of this software"`
	All  bool   `query:"all" doc:"retired ones, too"`
	Page
}

// listSoftware lists the catalog.
func (s *Server) listSoftware(_ context.Context, in *softwareInput) (*body[protocol.SoftwarePage], error) {
	skip, err := in.after(0)
	if err != nil {
		return nil, err
	}
	limit := in.limit()
	reply := protocol.SoftwarePage{Software: []protocol.Software{}}
	s.Record.Read(func(m *state.Machine) {
		n := int64(0)
		for x := range m.Software(protocol.SoftwareID{}) {
			if in.Name != "" && x.Item.Build.Name != in.Name || x.Retired != 0 && !in.All {
				continue
			}
			if n++; n <= skip {
				continue
			}
			if len(reply.Software) == limit {
				reply.Next = strconv.FormatInt(skip+int64(limit), 10)
				break
			}
			reply.Software = append(reply.Software, softwareInfo(&x))
		}
	})
	return &body[protocol.SoftwarePage]{reply}, nil
}

func softwareInfo(x *state.Software) protocol.Software {
	return protocol.Software{SignedBuild: x.Item, Group: x.Group, Published: int64(x.Published), Retired: int64(x.Retired)}
}

// VersionPath is the part of an address that names a version of some software.
type VersionPath struct {
	Name    string `path:"name" maxLength:"128"`
	Version string `path:"version" maxLength:"128"`
}

// showSoftware shows a version, with all that it takes to verify it.
func (s *Server) showSoftware(_ context.Context, in *VersionPath) (*body[protocol.SoftwareProof], error) {
	reply := protocol.SoftwareProof{Software: []protocol.Software{}, Publishers: []protocol.Publisher{}, Root: s.Authority.Root()}
	var unknown error
	s.Record.Read(func(m *state.Machine) {
		for _, x := range m.SoftwareVersion(in.Name, in.Version) {
			reply.Software = append(reply.Software, softwareInfo(&x))
			if slices.ContainsFunc(reply.Publishers, func(p protocol.Publisher) bool { return slices.Equal(p.Key, x.Item.Key) }) {
				continue
			}
			if p, known := m.Publisher(x.Item.Key); known {
				reply.Publishers = append(reply.Publishers, publisherOf(&p))
			}
		}
		if len(reply.Software) == 0 {
			unknown = protocol.Errorf(protocol.CodeNotFound, "%s", unknownSoftware(m, in.Name, in.Version))
		}
	})
	return &body[protocol.SoftwareProof]{reply}, unknown
}

// unknownSoftware says that there is no such version, and what there is.
func unknownSoftware(m *state.Machine, name, version string) string {
	versions := m.SoftwareVersions(name)
	if len(versions) > 0 {
		text := fmt.Sprintf("the catalog has no %s %s", name, version)
		if near := steering.Nearest(version, versions); near != "" {
			text += fmt.Sprintf("; did you mean %s?", near)
		}
		return text + " (active: " + few(versions) + ")"
	}
	var names []string
	for x := range m.Software(protocol.SoftwareID{}) {
		if n := x.Item.Build.Name; len(names) == 0 || names[len(names)-1] != n {
			names = append(names, n)
		}
	}
	text := fmt.Sprintf("the catalog has no software named %s", name)
	switch near := steering.Nearest(name, names); {
	case slices.Contains(names, name):
		text = fmt.Sprintf("every version of %s is retired", name)
	case near != "":
		text += fmt.Sprintf("; did you mean %s?", near)
	case len(names) > 0:
		text += "; it has " + few(names)
	}
	return text
}

// few lists words, and says how many more there are.
func few(words []string) string {
	const most = 8
	text := strings.Join(words[:min(len(words), most)], ", ")
	if more := len(words) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// trust is what a coordinator believes: all that the cluster's root has certified.
func (s *Server) trust() *software.Trust {
	return &software.Trust{Cluster: s.Cluster, Pin: s.Authority.Pin()}
}

// publish puts a build into the catalog. The tarball and its manifest are in the
// blob store by then.
func (s *Server) publish(ctx context.Context, in *struct{ Body protocol.PublishRequest }) (*body[protocol.PublishReply], error) {
	request := &in.Body
	b := &request.Build
	if err := request.Check(); err != nil {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	by := actionOf(ctx, request.Reason)
	if b.Publisher != by.Actor {
		return nil, protocol.Errorf(protocol.CodeForbidden, "%v is signed for %s, and you are %s", b.ID(), b.Publisher, by.Actor)
	}
	command := &state.PublishSoftware{By: by, Item: request.SignedBuild, Group: request.Group}
	var group protocol.GroupID
	var publisher state.Publisher
	var known, certified bool
	s.Record.Read(func(m *state.Machine) {
		command.Owner, group, known = m.SoftwareOwner(b.Name)
		publisher, certified = m.Publisher(request.Key)
	})
	owner := command.Owner
	if !known {
		owner = by.Actor
	}
	if err := s.Policy.AllowOn(principalOf(ctx), patternPublish, owner, group); err != nil {
		return nil, err
	}
	if !certified {
		return nil, protocol.Errorf(protocol.CodeForbidden, "the key %v is not certified in this cluster: whoever has the root's key does it with floe software trust %s %[1]v", request.Key, b.Publisher)
	}
	certificate, err := s.trust().Certificate(s.Authority.Root(), publisher.Certificate)
	if err == nil {
		err = errors.Join(certificate.Good(time.Now()), s.trust().Verify(&request.SignedBuild, certificate))
	}
	if err != nil {
		return nil, protocol.Errorf(protocol.CodeForbidden, "%v", err)
	}
	if err := s.checkPublished(ctx, &request.SignedBuild); err != nil {
		return nil, err
	}
	a, err := s.propose(ctx, command)
	if err != nil {
		return nil, err
	}
	reply := protocol.PublishReply{Before: a.Reason != ""}
	s.Record.Read(func(m *state.Machine) {
		for _, x := range m.SoftwareVersion(b.Name, b.Version) {
			if x.Item.Build.ID() == b.ID() {
				reply.Software = softwareInfo(&x)
			}
		}
	})
	s.Logger.Info("software published", "name", b.ID().String(), "digest", b.Digest, "user", by.Actor)
	return &body[protocol.PublishReply]{reply}, nil
}

// checkPublished looks for what a build consists of, and that its manifest says
// what the build says.
func (s *Server) checkPublished(ctx context.Context, x *protocol.SignedBuild) error {
	b := &x.Build
	if x.URL == "" {
		in, size, err := s.openBlob(ctx, b.Digest, true)
		if err != nil {
			return protocol.Errorf(protocol.CodeOf(err), "%v: its tarball: %v", b.ID(), err)
		}
		_ = in.Close()
		if size != b.Size {
			return protocol.Errorf(protocol.CodeBadRequest, "%v: the tarball has %d bytes, not %d", b.ID(), size, b.Size)
		}
	}
	in, size, err := s.openBlob(ctx, b.Manifest, true)
	if err != nil {
		return protocol.Errorf(protocol.CodeOf(err), "%v: its manifest: %v", b.ID(), err)
	}
	defer in.Close()
	text, err := protocol.ReadUpTo(in, int64(size), software.MaxManifest)
	if err != nil {
		return err
	}
	m, err := software.DecodeManifest(text)
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "%v: %v", b.ID(), err)
	}
	if files, unpacked := m.Totals(); files != b.Files || unpacked != b.Unpacked {
		return protocol.Errorf(protocol.CodeBadRequest, "%v: its manifest lists %d files of %v, not %d of %v", b.ID(), files, unpacked, b.Files, b.Unpacked)
	}
	return nil
}

// actOnSoftware retires a version, or lets new datasets have it again.
func (s *Server) actOnSoftware(ctx context.Context, in *struct {
	VersionPath
	Body protocol.SoftwareAction
},
) (*body[protocol.DoneReply], error) {
	by, undo := actionOf(ctx, in.Body.Reason), in.Body.Action == "restore"
	var owner protocol.UserID
	var group protocol.GroupID
	var unknown string
	s.Record.Read(func(m *state.Machine) {
		if owner, group, _ = m.SoftwareOwner(in.Name); len(m.SoftwareVersion(in.Name, in.Version)) == 0 {
			unknown = unknownSoftware(m, in.Name, in.Version)
		}
	})
	if unknown != "" {
		return nil, protocol.Errorf(protocol.CodeNotFound, "%s", unknown)
	}
	if err := s.Policy.AllowOn(principalOf(ctx), patternActSoftware, owner, group); err != nil {
		return nil, err
	}
	a, err := s.propose(ctx, &state.RetireSoftware{By: by, Name: in.Name, Version: in.Version, Platform: in.Body.Platform, Undo: undo})
	if err != nil {
		return nil, err
	}
	what := in.Name + " " + in.Version
	if in.Body.Platform != "" {
		what += " for " + in.Body.Platform
	}
	s.Logger.Info("software controlled", "name", what, "action", in.Body.Action, "user", by.Actor)
	if undo {
		return done(&a, "new datasets can have "+what+" again", what+" is active already"), nil
	}
	return done(&a, what+" is retired: no new dataset can have it; those that have it go on", what+" was retired before"), nil
}

func publisherOf(p *state.Publisher) protocol.Publisher {
	return protocol.Publisher{User: p.User, Key: p.Key, Certificate: p.Certificate, Added: int64(p.Added), Revoked: int64(p.Revoked)}
}

// publishers lists the keys that builds may be signed with.
func (s *Server) publishers(context.Context, *struct{}) (*body[protocol.PublisherList], error) {
	reply := protocol.PublisherList{Publishers: []protocol.Publisher{}}
	s.Record.Read(func(m *state.Machine) {
		for p := range m.Publishers() {
			reply.Publishers = append(reply.Publishers, publisherOf(&p))
		}
	})
	return &body[protocol.PublisherList]{reply}, nil
}

// putPublisher makes a certified key known, or revokes one.
func (s *Server) putPublisher(ctx context.Context, in *struct{ Body protocol.PutPublisherRequest }) (*body[protocol.DoneReply], error) {
	request := &in.Body
	by := actionOf(ctx, request.Reason)
	if (len(request.Certificate) == 0) == (len(request.Revoke) == 0) {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "want either a certificate or a key to revoke")
	}
	if len(request.Revoke) > 0 {
		a, err := s.propose(ctx, &state.RevokePublisher{By: by, Key: request.Revoke, Retire: request.Retire})
		if err != nil {
			return nil, err
		}
		s.Logger.Info("publisher revoked", "name", request.Revoke.String(), "user", by.Actor)
		what := fmt.Sprintf("nothing signed with %v is published any more", request.Revoke)
		if request.Retire {
			what += "; " + a.Reason
		}
		a.Reason = ""
		return done(&a, what, what), nil
	}
	c, err := s.trust().Certificate(s.Authority.Root(), request.Certificate)
	if err == nil {
		err = c.Good(time.Now())
	}
	if err != nil {
		return nil, protocol.Errorf(protocol.CodeForbidden, "%v", err)
	}
	a, err := s.propose(ctx, &state.PutPublisher{By: by, User: c.User, Key: c.Key, Certificate: c.Bytes})
	if err != nil {
		return nil, err
	}
	s.Logger.Info("publisher trusted", "name", string(c.User), "user", by.Actor)
	what := fmt.Sprintf("%s may publish with %v until %s", c.User, c.Key, c.Leaf.NotAfter.UTC().Format(time.DateOnly))
	return done(&a, what, what), nil
}

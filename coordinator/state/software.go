package state

import (
	"fmt"
	"iter"
	"strings"

	"floe/protocol"
)

// PublishSoftware puts a build into the catalog, for good: another digest under the
// same name, version and platform is refused with CodeConflict, the same one is
// answered as at first. Only a signature for another cluster, from which the record
// was restored, gives way to one for this. The server has verified the signature.
type PublishSoftware struct {
	By   Action               `cbor:"1,keyasint"`
	Item protocol.SignedBuild `cbor:"2,keyasint"`
	// Owner is whose name it is, as the server judged by; empty where the name is new.
	// It is refused with CodeConflict where that is not so any more.
	Owner protocol.UserID `cbor:"3,keyasint,omitempty"`
	// Group is that of a new name.
	Group protocol.GroupID `cbor:"4,keyasint,omitempty"`
}

// RetireSoftware keeps a version from new datasets, or with Undo lets them have it
// again. Datasets that have it go on. A version of the pilot that sites run is refused
// with CodeConflict.
type RetireSoftware struct {
	By      Action `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Version string `cbor:"3,keyasint"`
	// Platform names one build; empty is all.
	Platform string `cbor:"4,keyasint,omitempty"`
	Undo     bool   `cbor:"5,keyasint,omitempty"`
}

// PutPublisher makes a publisher's key known, or gives it a new certificate. The
// server has verified it.
type PutPublisher struct {
	By          Action                `cbor:"1,keyasint"`
	User        protocol.UserID       `cbor:"2,keyasint"`
	Key         protocol.PublisherKey `cbor:"3,keyasint"`
	Certificate []byte                `cbor:"4,keyasint"`
}

// RevokePublisher ends what can be published with a key, for good. What it signed
// stays, and is retired where Retire says so.
type RevokePublisher struct {
	By     Action                `cbor:"1,keyasint"`
	Key    protocol.PublisherKey `cbor:"2,keyasint"`
	Retire bool                  `cbor:"3,keyasint,omitempty"`
}

// Software is one build of the catalog. What differs from another under the same
// names is only whether it is retired.
type Software struct {
	Item protocol.SignedBuild `cbor:"1,keyasint"`
	// Owner and Group are those of the name: of whoever published under it first.
	Owner     protocol.UserID  `cbor:"2,keyasint"`
	Group     protocol.GroupID `cbor:"3,keyasint,omitempty"`
	Published UnixMillis       `cbor:"4,keyasint"`
	// Retired is when it was retired; zero while it is active.
	Retired UnixMillis `cbor:"5,keyasint,omitempty"`
}

// Publisher is a key that builds may be signed with.
type Publisher struct {
	User        protocol.UserID       `cbor:"1,keyasint"`
	Key         protocol.PublisherKey `cbor:"2,keyasint"`
	Certificate []byte                `cbor:"3,keyasint"`
	Added       UnixMillis            `cbor:"4,keyasint"`
	// Revoked is when it was revoked; zero while it is good.
	Revoked UnixMillis `cbor:"5,keyasint,omitempty"`
}

// Limits of the catalog.
const (
	MaxSoftware    = 100_000 // builds
	MaxPublishers  = 1_000   // keys
	maxCertificate = 4 << 10
)

// softwareKey orders builds by name, version and platform: none of them holds a zero.
func softwareKey(id protocol.SoftwareID) string {
	return id.Name + "\x00" + id.Version + "\x00" + id.Platform
}

func (s *Software) key() string { return softwareKey(s.Item.Build.ID()) }

func (p *Publisher) key() string { return string(p.Key) }

// Kind returns the command's number in the log.
func (*PublishSoftware) Kind() Kind { return KindPublishSoftware }

// Kind returns the command's number in the log.
func (*RetireSoftware) Kind() Kind { return KindRetireSoftware }

// Kind returns the command's number in the log.
func (*PutPublisher) Kind() Kind { return KindPutPublisher }

// Kind returns the command's number in the log.
func (*RevokePublisher) Kind() Kind { return KindRevokePublisher }

func (*PublishSoftware) needs() uint32 { return formatSoftware }
func (*RetireSoftware) needs() uint32  { return formatSoftware }
func (*PutPublisher) needs() uint32    { return formatSoftware }
func (*RevokePublisher) needs() uint32 { return formatSoftware }

func (p *PublishSoftware) action() (*Action, string, string) {
	return &p.By, "publish software", p.Item.Build.ID().String()
}

func (r *RetireSoftware) action() (*Action, string, string) {
	verb, what := "retire software", r.Name+" "+r.Version
	if r.Undo {
		verb = "restore software"
	}
	if r.Platform != "" {
		what += " for " + r.Platform
	}
	return &r.By, verb, what
}

func (p *PutPublisher) action() (*Action, string, string) {
	return &p.By, "trust publisher", string(p.User) + " " + p.Key.String()
}

func (r *RevokePublisher) action() (*Action, string, string) {
	return &r.By, "revoke publisher", r.Key.String()
}

// Validate implements Command.
func (p *PublishSoftware) Validate() error {
	var c check
	c.action(&p.By)
	c.wrap(p.Item.Check())
	if p.Owner != "" {
		c.name("owner", string(p.Owner))
	}
	if p.Group != "" {
		c.name("group", string(p.Group))
	}
	return c.err
}

// Validate implements Command.
func (r *RetireSoftware) Validate() error {
	var c check
	c.action(&r.By)
	c.name("software", r.Name)
	c.name("version", r.Version)
	c.text("platform", r.Platform, protocol.MaxName)
	return c.err
}

func (c *check) publisherKey(k protocol.PublisherKey) {
	c.that(len(k) == publicKeySize, "publisher's key of %d bytes, want %d", len(k), publicKeySize)
}

// Validate implements Command.
func (p *PutPublisher) Validate() error {
	var c check
	c.action(&p.By)
	c.name("publisher", string(p.User))
	c.publisherKey(p.Key)
	c.that(len(p.Certificate) > 0 && len(p.Certificate) <= maxCertificate, "certificate of %d bytes, want 1 to %d", len(p.Certificate), maxCertificate)
	return c.err
}

// Validate implements Command.
func (r *RevokePublisher) Validate() error {
	var c check
	c.action(&r.By)
	c.publisherKey(r.Key)
	return c.err
}

func (p *PublishSoftware) apply(m *Machine) Answer {
	b := &p.Item.Build
	id := b.ID()
	old, again := m.software.Get(softwareKey(id))
	switch {
	case again && old.Item.Build.Digest != b.Digest:
		return refuse(protocol.CodeConflict, fmt.Sprintf("%v is %v, published by %s: what is published never changes; give %v another version", id, old.Item.Build.Digest, old.Item.Build.Publisher, b.Digest))
	case again && old.Item.Build.Cluster == b.Cluster:
		return Answer{Reason: "published before"}
	}
	publisher, known := m.publishers.Get(string(p.Item.Key))
	switch {
	case !known || publisher.User != b.Publisher:
		return refuse(protocol.CodeForbidden, fmt.Sprintf("the key %v is not certified for %s in this cluster", p.Item.Key, b.Publisher))
	case publisher.Revoked != 0:
		return refuse(protocol.CodeForbidden, fmt.Sprintf("the key %v of %s was revoked", p.Item.Key, publisher.User))
	case !again && m.software.Len() >= MaxSoftware:
		return refuse(protocol.CodeTooLarge, fmt.Sprintf("the catalog is full: %d builds", MaxSoftware))
	}
	owner, group, known := m.SoftwareOwner(id.Name)
	if owner != p.Owner {
		return refuse(protocol.CodeConflict, fmt.Sprintf("the name %s has come to be of %s meanwhile", id.Name, owner))
	}
	if again {
		// This record was restored from another cluster's: the same bytes, signed for this
		// one, are what they were.
		next := *old
		next.Item = p.Item
		m.software.Set(next.key(), &next)
		return Answer{Reason: "signed anew"}
	}
	if !known {
		owner, group = b.Publisher, p.Group
	}
	s := &Software{Item: p.Item, Owner: owner, Group: group, Published: m.wall}
	m.software.Set(s.key(), s)
	return Answer{}
}

func (r *RetireSoftware) apply(m *Machine) Answer {
	var builds []*Software
	changed := 0
	for s := range m.versionOf(r.Name, r.Version) {
		if r.Platform == "" || s.Item.Build.Platform == r.Platform {
			builds = append(builds, s)
		}
	}
	if !r.Undo && r.Name == protocol.PilotSoftware && len(builds) > 0 && m.release.uses(r.Version) {
		return refuse(protocol.CodeConflict, fmt.Sprintf("sites run %s %s, or would when a release is taken back: release another version first", r.Name, r.Version))
	}
	for _, s := range builds {
		if r.Undo == (s.Retired == 0) {
			continue
		}
		changed++
		next := *s
		next.Retired = 0
		if !r.Undo {
			next.Retired = m.wall
		}
		m.software.Set(next.key(), &next)
	}
	switch _, _, what := r.action(); {
	case len(builds) == 0:
		return refuse(protocol.CodeNotFound, "the catalog has no "+what)
	case changed == 0 && r.Undo:
		return Answer{Reason: "active already"}
	case changed == 0:
		return Answer{Reason: "retired before"}
	}
	return Answer{}
}

func (p *PutPublisher) apply(m *Machine) Answer {
	next := &Publisher{User: p.User, Key: p.Key, Certificate: p.Certificate, Added: m.wall}
	if old, known := m.publishers.Get(next.key()); known {
		switch {
		case old.User != p.User:
			return refuse(protocol.CodeConflict, fmt.Sprintf("the key %v is that of %s", p.Key, old.User))
		case old.Revoked != 0:
			return refuse(protocol.CodeConflict, fmt.Sprintf("the key %v of %s was revoked; make a new one", p.Key, old.User))
		}
		next.Added = old.Added
	} else if m.publishers.Len() >= MaxPublishers {
		return refuse(protocol.CodeTooLarge, fmt.Sprintf("%d publishers' keys are known, the limit", MaxPublishers))
	}
	m.publishers.Set(next.key(), next)
	return Answer{}
}

func (r *RevokePublisher) apply(m *Machine) Answer {
	old, known := m.publishers.Get(string(r.Key))
	if !known {
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no publisher has the key %v", r.Key))
	}
	if old.Revoked == 0 {
		next := *old
		next.Revoked = m.wall
		m.publishers.Set(next.key(), &next)
	}
	if !r.Retire {
		return Answer{}
	}
	var theirs []*Software
	m.software.Scan(func(_ string, s *Software) bool {
		if string(s.Item.Key) == string(r.Key) && s.Retired == 0 {
			theirs = append(theirs, s)
		}
		return true
	})
	for _, s := range theirs {
		next := *s
		next.Retired = m.wall
		m.software.Set(next.key(), &next)
	}
	return Answer{Reason: fmt.Sprintf("%d builds retired", len(theirs))}
}

// SoftwareOwner tells whose a name is.
func (r *Record) SoftwareOwner(name string) (owner protocol.UserID, group protocol.GroupID, known bool) {
	for s := range r.softwareFrom(name + "\x00") {
		if s.Item.Build.Name == name {
			return s.Owner, s.Group, true
		}
		break
	}
	return "", "", false
}

// softwareFrom are the builds from a key on.
func (r *Record) softwareFrom(key string) iter.Seq[*Software] {
	return func(yield func(*Software) bool) {
		r.software.Ascend(key, func(_ string, s *Software) bool { return yield(s) })
	}
}

// versionOf are the builds of a version.
func (r *Record) versionOf(name, version string) iter.Seq[*Software] {
	return func(yield func(*Software) bool) {
		prefix := name + "\x00" + version + "\x00"
		for s := range r.softwareFrom(prefix) {
			if !strings.HasPrefix(s.key(), prefix) || !yield(s) {
				return
			}
		}
	}
}

// Software lists the builds of the catalog in order, those behind after; a zero
// after is before all.
func (r *Record) Software(after protocol.SoftwareID) iter.Seq[Software] {
	return func(yield func(Software) bool) {
		from := softwareKey(after)
		for s := range r.softwareFrom(from) {
			if s.key() != from && !yield(*s) {
				return
			}
		}
	}
}

// SoftwareVersion lists the builds of one version.
func (r *Record) SoftwareVersion(name, version string) (builds []Software) {
	for s := range r.versionOf(name, version) {
		builds = append(builds, *s)
	}
	return builds
}

// SoftwareVersions lists the versions of a name that have an active build.
func (r *Record) SoftwareVersions(name string) (versions []string) {
	for s := range r.softwareFrom(name + "\x00") {
		b := &s.Item.Build
		if b.Name != name {
			break
		}
		if s.Retired == 0 && (len(versions) == 0 || versions[len(versions)-1] != b.Version) {
			versions = append(versions, b.Version)
		}
	}
	return versions
}

// Publisher finds a publisher by the key.
func (r *Record) Publisher(key protocol.PublisherKey) (Publisher, bool) {
	return value(r.publishers.Get(string(key)))
}

// Publishers lists the publishers' keys.
func (r *Record) Publishers() iter.Seq[Publisher] { return values(r.publishers.Scan) }

// software demands that a name is one person's, and that every build is signed with
// a key that is known as its publisher's.
func (a *audit) software(r *Record) {
	var last *Software
	r.software.Scan(func(_ string, s *Software) bool {
		b := &s.Item.Build
		if last != nil && last.Item.Build.Name == b.Name && (last.Owner != s.Owner || last.Group != s.Group) {
			a.fault("", "software %s is of %s and of %s", b.Name, last.Owner, s.Owner)
		}
		if p, known := r.publishers.Get(string(s.Item.Key)); !known || p.User != b.Publisher {
			a.fault("", "software %v is signed with a key that is not known as that of %s", b.ID(), b.Publisher)
		}
		last = s
		return true
	})
}

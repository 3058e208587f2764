package state

import (
	"fmt"
	"slices"

	"floe/protocol"
)

// SetRelease says which sites run which version of the pilot. Version goes to Sites
// and to Percent of the others; with 100 it goes to all. Where Sites is empty and the
// version is the one being tried already, the sites stay that have it. Back takes what
// is being tried from all that have it, or else gives all sites what they had before.
type SetRelease struct {
	By      Action            `cbor:"1,keyasint"`
	Version string            `cbor:"2,keyasint,omitempty"`
	Sites   []protocol.SiteID `cbor:"3,keyasint,omitempty"`
	Percent uint8             `cbor:"4,keyasint,omitempty"`
	Back    bool              `cbor:"5,keyasint,omitempty"`
}

// Release is which version of the pilot which sites run. It is replaced, never changed.
type Release struct {
	// Stable is for every site that has none of its own; empty leaves them what they have.
	Stable string `cbor:"1,keyasint,omitempty"`
	// Before is what was stable before.
	Before string `cbor:"2,keyasint,omitempty"`
	// Tried is being tried by Sites, in order, and by Percent of the others; empty is none.
	Tried   string            `cbor:"3,keyasint,omitempty"`
	Sites   []protocol.SiteID `cbor:"4,keyasint,omitempty"`
	Percent uint8             `cbor:"5,keyasint,omitempty"`
	// Since is when it was last changed.
	Since UnixMillis `cbor:"6,keyasint"`
}

// maxCanaries bounds the sites that a release names.
const maxCanaries = 1000

// shownCanaries is how many sites an action's text names.
const shownCanaries = 8

// Version is the version that a site runs; empty leaves it what it has.
func (r *Release) Version(site protocol.SiteID) string {
	if r == nil {
		return ""
	}
	_, canary := slices.BinarySearch(r.Sites, site)
	if r.Tried != "" && (canary || site.Share() < r.Percent) {
		return r.Tried
	}
	return r.Stable
}

// uses tells whether some site may run a version, now or when another is taken back.
func (r *Release) uses(version string) bool {
	return r != nil && version != "" && (r.Stable == version || r.Tried == version || r.Before == version)
}

// Kind returns the command's number in the log.
func (*SetRelease) Kind() Kind { return KindSetRelease }

func (*SetRelease) needs() uint32 { return formatSoftware }

func (s *SetRelease) action() (*Action, string, string) {
	what := s.Version
	for i, site := range s.Sites {
		if i == shownCanaries {
			what += fmt.Sprintf(" and %d more", len(s.Sites)-i)
			break
		}
		what += " " + string(site)
	}
	switch {
	case s.Back:
		return &s.By, "take back release", protocol.PilotSoftware
	case s.Percent == 100:
		what = s.Version + " to all sites"
	case s.Percent > 0:
		what += fmt.Sprintf(" to %d %% of sites", s.Percent)
	}
	return &s.By, "release pilot", what
}

// Validate implements Command.
func (s *SetRelease) Validate() error {
	var c check
	c.action(&s.By)
	c.that(!s.Back || s.Version == "" && len(s.Sites) == 0 && s.Percent == 0, "release: taking back names no version")
	if !s.Back {
		c.name("version", s.Version)
	}
	c.that(s.Percent <= 100, "release: %d %%, want 0 to 100", s.Percent)
	c.that(len(s.Sites) <= maxCanaries, "release: %d sites, limit %d", len(s.Sites), maxCanaries)
	for i, site := range s.Sites {
		c.name("site", string(site))
		c.that(i == 0 || s.Sites[i-1] < site, "release: sites must be in order, each once")
	}
	return c.err
}

func (s *SetRelease) apply(m *Machine) Answer {
	next := Release{}
	if m.release != nil {
		next = *m.release
	}
	next.Since = m.wall
	if s.Back {
		switch {
		case next.Tried != "":
			next.Tried, next.Sites, next.Percent = "", nil, 0
		case next.Before != "":
			next.Stable, next.Before = next.Before, ""
		case next.Stable != "":
			return refuse(protocol.CodeConflict, fmt.Sprintf("nothing was released before %s: release another version", next.Stable))
		default:
			return refuse(protocol.CodeConflict, "no version was released")
		}
		m.release = &next
		return Answer{}
	}
	if a := m.releasable(s.Version); a != nil {
		return *a
	}
	switch {
	case s.Version == next.Stable && next.Tried == "":
		return Answer{Reason: "all sites have it"}
	case s.Version == next.Stable:
		return refuse(protocol.CodeConflict, fmt.Sprintf("all sites have %s but those that try %s; take that back first", s.Version, next.Tried))
	case s.Percent == 100:
		next.Before, next.Stable = next.Stable, s.Version
		next.Tried, next.Sites, next.Percent = "", nil, 0
	default:
		if s.Version != next.Tried || len(s.Sites) > 0 {
			next.Sites = s.Sites
		}
		next.Tried, next.Percent = s.Version, s.Percent
		if len(next.Sites) == 0 && next.Percent == 0 {
			return refuse(protocol.CodeBadRequest, "a release goes to some sites, to a percentage of them, or to all")
		}
	}
	m.release = &next
	return Answer{}
}

// releasable refuses a version of the pilot that the catalog does not have.
func (m *Machine) releasable(version string) *Answer {
	known := false
	for s := range m.versionOf(protocol.PilotSoftware, version) {
		if s.Retired == 0 {
			return nil
		}
		known = true
	}
	a := refuse(protocol.CodeNotFound, fmt.Sprintf("no %s %s is published", protocol.PilotSoftware, version))
	if known {
		a = refuse(protocol.CodeConflict, fmt.Sprintf("%s %s is retired", protocol.PilotSoftware, version))
	}
	return &a
}

// PilotRelease is which version of the pilot which sites run; nil is none yet.
func (r *Record) PilotRelease() *Release { return r.release }

// pilotRelease demands that what sites run was published.
func (a *audit) pilotRelease(r *Record) {
	if r.release == nil {
		return
	}
	for _, version := range []string{r.release.Stable, r.release.Before, r.release.Tried} {
		if version != "" && len(r.SoftwareVersion(protocol.PilotSoftware, version)) == 0 {
			a.fault("", "sites run %s %s, which was never published", protocol.PilotSoftware, version)
		}
	}
	if !slices.IsSorted(r.release.Sites) || r.release.Percent > 99 || (r.release.Tried == "") != (len(r.release.Sites) == 0 && r.release.Percent == 0) {
		a.fault("", "release %+v is not one that a command makes", *r.release)
	}
}

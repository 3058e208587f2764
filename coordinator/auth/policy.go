package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"floe/protocol"
	"floe/protocol/transport"
)

// Role is one of the columns of the table: what a machine's certificate or a
// person's token makes of its holder. Roles combine into sets by |.
type Role uint16

// The roles. A person's role is written in the record by its word.
const (
	Anonymous   Role = 1 << iota // nobody known: may enrol or join with a secret
	Viewer                       // a person who looks
	Producer                     // a person who submits, and controls datasets of their own
	Operator                     // a person who controls all datasets, pilots and sites
	Admin                        // a person who may also invite and give roles
	Site                         // a glidein pass or relay
	Pilot                        // a pilot
	Coordinator                  // another coordinator
)

// Sets of roles.
const (
	People    = Viewer | Producer | Operator | Admin
	Operators = Operator | Admin
	Machines  = Site | Pilot | Coordinator
	Everybody = Anonymous | People | Machines
)

var roles = []struct {
	role Role
	word string
}{
	{Anonymous, "anonymous"},
	{Viewer, "viewer"},
	{Producer, "producer"},
	{Operator, "operator"},
	{Admin, "admin"},
	{Site, "site"},
	{Pilot, "pilot"},
	{Coordinator, "coordinator"},
}

func (r Role) String() string {
	var words []string
	for _, x := range roles {
		if r&x.role != 0 {
			words = append(words, x.word)
		}
	}
	if len(words) == 0 {
		return "nobody"
	}
	return strings.Join(words, ", ")
}

// Principal is whoever is judged: a machine by its kind, a person by the word of
// the role in the record.
type Principal struct {
	Kind   transport.Kind
	Role   string // of a User: viewer, producer, operator or admin
	User   protocol.UserID
	Groups []protocol.GroupID
	Token  protocol.Digest // of a User: by which they came
}

// role finds the column; 0, which nothing allows, for a word nobody knows.
func (p Principal) role() Role {
	switch p.Kind {
	case transport.Anonymous:
		return Anonymous
	case transport.Site:
		return Site
	case transport.Pilot:
		return Pilot
	case transport.Coordinator:
		return Coordinator
	case transport.User:
		for _, x := range roles {
			if x.role&People != 0 && x.word == p.Role {
				return x.role
			}
		}
	}
	return 0
}

// Rule is one row of the table.
type Rule struct {
	// Pattern is METHOD /path as http.ServeMux takes it.
	Pattern string
	// Any may use the verb on every object.
	Any Role
	// Own may use it on what is theirs: a dataset of their own or of a group of
	// theirs. The verb asks Policy.AllowOn once it knows the object.
	Own Role
}

// Policy is the table of rights, read-only once made.
type Policy struct{ rules map[string]Rule }

// NewPolicy makes a table; a pattern with two rules is an error.
func NewPolicy(rules []Rule) (*Policy, error) {
	p := &Policy{rules: make(map[string]Rule, len(rules))}
	for _, r := range rules {
		if _, twice := p.rules[r.Pattern]; twice {
			return nil, fmt.Errorf("policy: two rules for %s", r.Pattern)
		}
		p.rules[r.Pattern] = r
	}
	return p, nil
}

// Allow refuses a principal that may not use the verb on any object at all. It
// returns a *protocol.Error: CodeUnauthorized to those who are nobody yet,
// CodeForbidden to the others.
func (p *Policy) Allow(who Principal, pattern string) error {
	r := p.rules[pattern] // none: deny
	return allow(who, pattern, r.Any|r.Own)
}

// AllowOn is Allow for an object with an owner and a group.
func (p *Policy) AllowOn(who Principal, pattern string, owner protocol.UserID, group protocol.GroupID) error {
	r := p.rules[pattern]
	allowed := r.Any
	if owner != "" && owner == who.User || group != "" && slices.Contains(who.Groups, group) {
		allowed |= r.Own
	}
	if allowed&who.role() == 0 && r.Own&who.role() != 0 {
		return protocol.Errorf(protocol.CodeForbidden, "%s: this belongs to %s; a %s may do that only to what is their own", pattern, owner, who.role())
	}
	return allow(who, pattern, allowed)
}

func allow(who Principal, pattern string, allowed Role) error {
	role := who.role()
	switch {
	case allowed&role != 0:
		return nil
	case role == Anonymous:
		return protocol.Errorf(protocol.CodeUnauthorized, "%s: show a token or certificate", pattern)
	case role == 0:
		return protocol.Errorf(protocol.CodeForbidden, "%s: role %q gives no rights", pattern, who.Role)
	}
	return protocol.Errorf(protocol.CodeForbidden, "%s: not for a %s", pattern, role)
}

// Covers returns an error that names every pattern without a rule: a verb that
// nobody could use.
func (p *Policy) Covers(patterns []string) error {
	var errs []error
	for _, pattern := range patterns {
		if _, ok := p.rules[pattern]; !ok {
			errs = append(errs, fmt.Errorf("policy: no rule for %s", pattern))
		}
	}
	return errors.Join(errs...)
}

// Rules returns the table, sorted by pattern, for its printed form.
func (p *Policy) Rules() []Rule {
	all := make([]Rule, 0, len(p.rules))
	for _, r := range p.rules {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Rule) int { return strings.Compare(a.Pattern, b.Pattern) })
	return all
}

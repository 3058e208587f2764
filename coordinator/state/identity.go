package state

import (
	"fmt"
	"slices"

	"floe/protocol"
)

func (p *PutUser) apply(m *Machine) Answer {
	u := User{ID: p.User, Created: m.wall}
	if old, known := m.users.Get(p.User); known {
		u = *old
	}
	u.Role, u.Groups, u.Disabled = p.Role, p.Groups, p.Disabled
	if p.PasswordHash != nil {
		u.PasswordHash = *p.PasswordHash
	}
	m.users.Set(u.ID, &u)
	m.emit(&TokenChanged{User: u.ID})
	return Answer{}
}

func (r *RemoveUser) apply(m *Machine) Answer {
	if _, known := m.users.Delete(r.User); !known {
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no user %s", r.User))
	}
	var theirs []*Token
	m.tokens.Scan(func(_ string, t *Token) bool {
		if t.User == r.User {
			theirs = append(theirs, t)
		}
		return true
	})
	for _, t := range theirs {
		m.dropToken(t)
	}
	m.emit(&TokenChanged{User: r.User})
	return Answer{}
}

func (p *PutToken) apply(m *Machine) Answer {
	key := string(p.Hash[:])
	if old, known := m.tokens.Get(key); known {
		if old.User != p.User || old.Role != p.Role {
			return refuse(protocol.CodeConflict, "the token exists for somebody else")
		}
		return Answer{Reason: "exists"}
	}
	m.tokens.Set(key, &Token{
		Hash: p.Hash, User: p.User, Role: p.Role, Expires: p.Expires, Created: m.wall, Description: p.Description,
	})
	if p.Expires > 0 {
		m.due.tokens.add(p.Expires, key)
	}
	m.emit(&TokenChanged{Hash: p.Hash, User: p.User})
	return Answer{}
}

func (m *Machine) dropToken(t *Token) {
	key := string(t.Hash[:])
	m.tokens.Delete(key)
	if t.Expires > 0 {
		m.due.tokens.remove(t.Expires, key)
	}
	m.emit(&TokenChanged{Hash: t.Hash, User: t.User})
}

func (r *RevokeToken) apply(m *Machine) Answer {
	key := string(r.Hash[:])
	if t, known := m.tokens.Get(key); known {
		m.dropToken(t)
		return Answer{}
	}
	if j, known := m.joins.Get(key); known {
		m.dropJoin(j)
		return Answer{}
	}
	return refuse(protocol.CodeNotFound, "no such token")
}

func (m *Machine) dropJoin(j *JoinToken) {
	key := string(j.Hash[:])
	m.joins.Delete(key)
	m.due.joins.remove(j.Expires, key)
	m.emit(&TokenChanged{Hash: j.Hash})
}

// dropJoins ends the invitations for one name.
func (m *Machine) dropJoins(kind JoinKind, name string) {
	var joins []*JoinToken
	m.joins.Scan(func(_ string, j *JoinToken) bool {
		if j.For == kind && j.Name == name {
			joins = append(joins, j)
		}
		return true
	})
	for _, j := range joins {
		m.dropJoin(j)
	}
}

func (p *PutJoinToken) apply(m *Machine) Answer {
	key := string(p.Hash[:])
	if old, known := m.joins.Get(key); known {
		if old.For != p.For || old.Name != p.Name {
			return refuse(protocol.CodeConflict, "the join token exists for another")
		}
		return Answer{Reason: "exists"}
	}
	m.joins.Set(key, &JoinToken{Hash: p.Hash, For: p.For, Name: p.Name, Uses: p.Uses, Expires: p.Expires})
	m.due.joins.add(p.Expires, key)
	m.emit(&TokenChanged{Hash: p.Hash})
	return Answer{}
}

func (u *UseJoinToken) apply(m *Machine) Answer {
	key := string(u.Hash[:])
	j, known := m.joins.Get(key)
	if !known || j.For != u.For || j.Expires <= m.time {
		return refuse(protocol.CodeUnauthorized, "the join token is unknown, for something else, or has expired")
	}
	if slices.Contains(j.Holders, u.Holder) {
		return Answer{Name: j.Name, Reason: "joined before"}
	}
	if j.Uses == 0 {
		return refuse(protocol.CodeUnauthorized, "the join token was used")
	}
	used := *j
	used.Uses--
	used.Holders = append(slices.Clone(j.Holders), u.Holder)
	m.joins.Set(key, &used)
	m.emit(&TokenChanged{Hash: u.Hash})
	m.emit(&ActionTaken{
		By: Action{Actor: protocol.UserID("<" + j.For.String() + ">"), From: u.From}, Verb: "join", Object: j.Name,
	})
	if j.For == JoinSite {
		s := m.site(protocol.SiteID(j.Name))
		if s == nil {
			s = m.newSite(protocol.SiteID(j.Name), u.Holder)
		}
		s.Holder, s.Revoked = u.Holder, false
		m.emitSite(s, false)
	}
	return Answer{Name: j.Name}
}

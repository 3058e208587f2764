package server

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"floe/coordinator/state"
	"floe/protocol"
)

// tokens lists what lets people in, and whom invitations let in.
func (s *Server) tokens(_ context.Context, in *struct{ Page }) (*body[protocol.TokenList], error) {
	skip, err := in.after(0)
	if err != nil {
		return nil, err
	}
	var all []protocol.TokenInfo
	s.Record.Read(func(m *state.Machine) { all = tokensOf(m) })
	reply := protocol.TokenList{Tokens: []protocol.TokenInfo{}}
	rest := all[min(int(skip), len(all)):]
	reply.Tokens = append(reply.Tokens, rest[:min(in.limit(), len(rest))]...)
	if end := int(skip) + len(reply.Tokens); end < len(all) {
		reply.Next = strconv.Itoa(end)
	}
	return &body[protocol.TokenList]{reply}, nil
}

// tokensOf lists the tokens that are good: of people by name, then invitations.
func tokensOf(m *state.Machine) (all []protocol.TokenInfo) {
	now := m.Time()
	for t := range m.Tokens() {
		x := protocol.TokenInfo{Digest: t.Hash, Kind: "user", Name: string(t.User), Role: t.Role, Description: t.Description, Created: int64(t.Created)}
		if t.Expires > 0 {
			if x.Left = millis(t.Expires - now); x.Left <= 0 {
				continue
			}
		}
		all = append(all, x)
	}
	people := len(all)
	for j := range m.JoinTokens() {
		if left := millis(j.Expires - now); left > 0 && j.Uses > 0 {
			all = append(all, protocol.TokenInfo{Digest: j.Hash, Kind: j.For.String(), Name: j.Name, Left: left, Uses: j.Uses})
		}
	}
	order := func(a, b protocol.TokenInfo) int {
		return strings.Compare(a.Kind+"/"+a.Name+"/"+a.Digest.Hex(), b.Kind+"/"+b.Name+"/"+b.Digest.Hex())
	}
	slices.SortFunc(all[:people], order)
	slices.SortFunc(all[people:], order)
	return all
}

// revokeToken ends a token or an invitation.
func (s *Server) revokeToken(ctx context.Context, in *struct{ Body protocol.RevokeRequest }) (*body[protocol.DoneReply], error) {
	prefix := strings.ToLower(strings.TrimPrefix(in.Body.Digest, "sha256:"))
	if _, err := hex.DecodeString(prefix[:len(prefix)/2*2]); err != nil {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "digest %q: want hexadecimal digits", in.Body.Digest)
	}
	if len(prefix) < 8 {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "digest %q: want at least 8 of its hexadecimal digits", in.Body.Digest)
	}
	var found []protocol.TokenInfo
	s.Record.Read(func(m *state.Machine) {
		for _, t := range tokensOf(m) {
			if strings.HasPrefix(t.Digest.Hex(), prefix) {
				found = append(found, t)
			}
		}
	})
	switch {
	case len(found) == 0:
		return nil, protocol.Errorf(protocol.CodeNotFound, "no token with the digest %s", prefix)
	case len(found) > 1:
		return nil, protocol.Errorf(protocol.CodeConflict, "%d tokens begin with %s; give more digits", len(found), prefix)
	}
	by, t := actionOf(ctx, in.Body.Reason), &found[0]
	a, err := s.propose(ctx, &state.RevokeToken{By: by, Hash: t.Digest})
	if err != nil {
		return nil, err
	}
	s.Logger.Info("token revoked", "digest", t.Digest, "name", t.Name, "user", by.Actor)
	what := fmt.Sprintf("the token of %s (%s) is refused from now on", t.Name, t.Role)
	if t.Kind != "user" {
		what = fmt.Sprintf("nobody can join as %s %s by this invitation any more", t.Kind, t.Name)
	}
	return done(&a, what, what), nil
}

type usersInput struct{ Page }

// users lists the people.
func (s *Server) users(_ context.Context, in *usersInput) (*body[protocol.UserPage], error) {
	limit := in.limit()
	reply := protocol.UserPage{Users: []protocol.UserInfo{}}
	s.Record.Read(func(m *state.Machine) {
		tokens := map[string]int{}
		for _, t := range tokensOf(m) {
			if t.Kind == "user" {
				tokens[t.Name]++
			}
		}
		for u := range m.Users() {
			if string(u.ID) <= in.Cursor {
				continue
			}
			if len(reply.Users) == limit {
				reply.Next = string(reply.Users[limit-1].User)
				break
			}
			reply.Users = append(reply.Users, protocol.UserInfo{
				User: u.ID, Role: u.Role, Groups: u.Groups, Disabled: u.Disabled, Created: int64(u.Created), Tokens: tokens[string(u.ID)],
			})
		}
	})
	return &body[protocol.UserPage]{reply}, nil
}

type userActionInput struct {
	User protocol.UserID `path:"user" maxLength:"128"`
	Body protocol.UserAction
}

// actOnUser keeps a person out, or lets them in again. Their tokens stay.
func (s *Server) actOnUser(ctx context.Context, in *userActionInput) (*body[protocol.DoneReply], error) {
	by, disable := actionOf(ctx, in.Body.Reason), in.Body.Action == "disable"
	var user state.User
	var known bool
	s.Record.Read(func(m *state.Machine) { user, known = m.User(in.User) })
	switch {
	case !known:
		return nil, protocol.Errorf(protocol.CodeNotFound, "no user %s", in.User)
	case disable && in.User == by.Actor:
		return nil, protocol.Errorf(protocol.CodeConflict, "nobody disables themselves: another administrator may, and somebody must be left")
	case user.Disabled == disable:
		return &body[protocol.DoneReply]{protocol.DoneReply{Detail: fmt.Sprintf("user %s is %sd already", in.User, in.Body.Action)}}, nil
	}
	a, err := s.propose(ctx, &state.PutUser{By: by, User: user.ID, Role: user.Role, Groups: user.Groups, Disabled: disable})
	if err != nil {
		return nil, err
	}
	s.Logger.Info("user controlled", "name", in.User, "action", in.Body.Action, "user", by.Actor)
	what := fmt.Sprintf("user %s is let in again, by the tokens that are still good", in.User)
	if disable {
		what = fmt.Sprintf("every token of user %s is refused; what they submitted goes on", in.User)
	}
	return done(&a, what, what), nil
}

package server

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// What is revoked loses its connections as soon as the record says so, on whatever
// coordinator, and is refused where it comes again (I-35); all others keep theirs.
func TestRevocationsCloseConnections(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		revoke func(r *rig, p *worker)
		gone   []string
	}{
		{"a pilot", func(r *rig, p *worker) { r.do(&state.RevokePilot{Pilot: p.caller.Pilot}) }, []string{"pilot"}},
		{"a site", func(r *rig, _ *worker) { r.do(&state.RevokeSite{Site: "mill"}) }, []string{"pilot", "site"}},
		{"a site that joins again", func(r *rig, _ *worker) { join(r, "mill", "another key") }, []string{"site"}},
		{"a coordinator", func(r *rig, _ *worker) { r.do(&state.RemoveMember{Node: "c2"}) }, []string{"coordinator"}},
		{"while a snapshot was installed", func(r *rig, _ *worker) {
			applied := r.record.applied
			r.record.applied = func(uint64, []state.Event) {} // its events are not seen here
			r.do(&state.RevokeSite{Site: "mill"})
			r.record.applied = applied
			r.Restored()
		}, []string{"pilot", "site"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan []string, 16)
			callers := map[string]transport.Caller{}
			r := newRig(t, func(c *Config) {
				c.Disconnect = func(match func(transport.Caller) bool) int {
					var names []string
					for name, caller := range callers {
						if match(caller) {
							names = append(names, name)
						}
					}
					slices.Sort(names)
					closed <- names
					return len(names)
				}
			})
			r.record.elect("c9") // a follower does it, too
			r.do(&state.SetFormat{Format: 2})
			join(r, "mill", "key")
			join(r, "pond", "key")
			r.record.elect("c1")
			p, other := r.enrol("mill"), r.enrol("pond")
			r.record.elect("c9")
			r.do(&state.PutMember{Node: "c2", Address: "c2.example:443", Raft: "c2.example:444"})
			key := protocol.DigestOf([]byte("key"))
			callers["pilot"], callers["other pilot"] = p.caller, other.caller
			callers["site"] = transport.Caller{Kind: transport.Site, Site: "mill", KeyFingerprint: key}
			callers["other site"] = transport.Caller{Kind: transport.Site, Site: "pond", KeyFingerprint: key}
			callers["coordinator"] = transport.Caller{Kind: transport.Coordinator, Node: "c2"}
			callers["person"] = transport.Caller{Kind: transport.Anonymous, Remote: remote}
			look := func(caller transport.Caller) protocol.Code {
				return protocol.CodeOf(transport.ResponseError(r.send(caller, nil, "GET", "/v1/cluster", nil)))
			}
			for name, caller := range callers {
				if code := look(caller); caller.Kind != transport.Anonymous && code != protocol.CodeOK {
					t.Fatalf("%s before: %v", name, code)
				}
			}
			r.Restored() // so that what came before is behind us
			for names := []string(nil); len(closed) > 0 || names == nil; {
				if names = <-closed; len(names) > 0 {
					t.Fatalf("closed %v before anything was revoked", names)
				}
				names = []string{}
			}
			test.revoke(r, p)
			var names []string
			for len(names) == 0 {
				names = <-closed
			}
			if !slices.Equal(names, test.gone) {
				t.Errorf("closed the connections of %v, want those of %v", names, test.gone)
			}
			for name, caller := range callers {
				code := look(caller)
				switch {
				case slices.Contains(test.gone, name):
					if code != protocol.CodeForbidden {
						t.Errorf("%s afterwards: %v, want forbidden", name, code)
					}
				case caller.Kind != transport.Anonymous && code != protocol.CodeOK:
					t.Errorf("%s afterwards: %v, want ok", name, code)
				}
			}
		})
	}
}

// What a removed coordinator forwards is not held against who asked: they are sent to
// the leader.
func TestARemovedCoordinatorDoesNotForward(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	eve := r.person("eve", "viewer")
	r.do(&state.SetFormat{Format: 2})
	r.do(&state.PutMember{Node: "c1", Address: "c1.example:443", Raft: "c1.example:444"})
	r.do(&state.RemoveMember{Node: "c2"})
	header := eve.Clone()
	header.Set(headerCaller, `{"kind":1}`)
	err := transport.ResponseError(r.send(transport.Caller{Kind: transport.Coordinator, Node: "c2"}, header, "GET", "/v1/datasets", nil))
	var refused *protocol.Error
	if !errors.As(err, &refused) || refused.Code != protocol.CodeNotLeader || refused.Leader != "c1.example:443" {
		t.Errorf("forwarded by a removed coordinator: %+v, want not-leader with this one's address", refused)
	}
}

// join makes a site known by a holder of a key.
func join(r *rig, site, key string) {
	r.t.Helper()
	hash := protocol.DigestOf([]byte(site + key))
	r.do(&state.PutJoinToken{Hash: hash, For: state.JoinSite, Name: site, Uses: 1, Expires: 1000 * state.Day})
	r.do(&state.UseJoinToken{Hash: hash, For: state.JoinSite, Holder: protocol.DigestOf([]byte(key))})
}

// A token that ends takes the requests that are under way with it.
func TestARevokedTokenEndsItsRequests(t *testing.T) {
	for name, revoke := range map[string]state.Command{
		"the token":  &state.RevokeToken{Hash: protocol.DigestOf(nil)}, // set below
		"the person": &state.RemoveUser{User: "ada"},
		"disabled":   &state.PutUser{User: "ada", Role: "producer", Disabled: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				token := r.cluster.NewToken(protocol.TokenUser)
				ada := known(token, "ada", "producer", nil, r)
				bob := r.person("bob", "producer")
				id := r.submit(ada, 1, twoTasks)
				target := fmt.Sprintf("/v1/events?dataset=%d", id)
				hers, his := r.open(ada, target), r.open(bob, target)
				defer his.cancel()
				<-time.After(settle)
				synctest.Wait()
				if r, ok := revoke.(*state.RevokeToken); ok {
					r.Hash = token.Secret.Digest()
				}
				r.do(revoke)
				synctest.Wait()
				select {
				case <-hers.done:
				default:
					t.Error("a request goes on under a token that has ended")
					hers.cancel()
				}
				select {
				case <-his.done:
					t.Error("somebody else's request was ended")
				default:
				}
			})
		})
	}
}

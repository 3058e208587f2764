package state

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"floe/protocol"
)

// modelCatalog is the catalog as dumb as it can be: builds and keys in slices, looked
// through from one end to the other.
type modelCatalog struct {
	builds []modelBuild // as published
	keys   []modelKey
}

type modelBuild struct {
	ID        protocol.SoftwareID
	Content   string
	Publisher protocol.UserID
	Key       string
	Owner     protocol.UserID
	Retired   bool
}

type modelKey struct {
	Key     string
	User    protocol.UserID
	Revoked bool
}

func (m *modelCatalog) owner(name string) protocol.UserID {
	for _, b := range m.builds {
		if b.ID.Name == name {
			return b.Owner
		}
	}
	return ""
}

func (m *modelCatalog) key(name string) *modelKey {
	for i := range m.keys {
		if m.keys[i].Key == name {
			return &m.keys[i]
		}
	}
	return nil
}

func (m *modelCatalog) publish(b modelBuild, judged protocol.UserID) protocol.Code {
	for _, old := range m.builds {
		if old.ID == b.ID {
			if old.Content != b.Content {
				return protocol.CodeConflict
			}
			return protocol.CodeOK
		}
	}
	k := m.key(b.Key)
	if k == nil || k.User != b.Publisher || k.Revoked {
		return protocol.CodeForbidden
	}
	if m.owner(b.ID.Name) != judged {
		return protocol.CodeConflict
	}
	if b.Owner = judged; judged == "" {
		b.Owner = b.Publisher
	}
	m.builds = append(m.builds, b)
	return protocol.CodeOK
}

func (m *modelCatalog) retire(id protocol.SoftwareID, undo bool) protocol.Code {
	code := protocol.CodeNotFound
	for i := range m.builds {
		b := &m.builds[i]
		if b.ID.Name == id.Name && b.ID.Version == id.Version && (id.Platform == "" || b.ID.Platform == id.Platform) {
			b.Retired, code = !undo, protocol.CodeOK
		}
	}
	return code
}

// TestCatalogAgainstModel drives the catalog and the model with the same commands.
// Before each of them the record is persisted and restored (rig.apply).
func TestCatalogAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, m := newRig(t), &modelCatalog{}
		r.do(protocol.CodeOK, &SetFormat{Format: Format})
		pick := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(t, what) }
		id := func() protocol.SoftwareID {
			return protocol.SoftwareID{
				Name: pick("name", "a", "ab", "b"), Version: pick("version", "1", "1.0", "2"), Platform: pick("platform", "any", "linux-x86_64", "linux-x86_64-v2"),
			}
		}
		person := func(what string) string { return pick(what, "ann", "bob") }
		t.Repeat(map[string]func(*rapid.T){
			"trust": func(*rapid.T) {
				user, key := protocol.UserID(person("user")), pick("key", "ann", "bob", "third")
				code := protocol.CodeOK
				if k := m.key(key); k == nil {
					m.keys = append(m.keys, modelKey{Key: key, User: user})
				} else if k.User != user || k.Revoked {
					code = protocol.CodeConflict
				}
				r.do(code, &PutPublisher{User: user, Key: publisherKey(key), Certificate: []byte("c")})
			},
			"revoke": func(*rapid.T) {
				key, retire := pick("key", "ann", "bob", "third"), rapid.Bool().Draw(t, "retire")
				k, code := m.key(key), protocol.CodeNotFound
				if k != nil {
					k.Revoked, code = true, protocol.CodeOK
					for i := range m.builds {
						m.builds[i].Retired = m.builds[i].Retired || retire && m.builds[i].Key == key
					}
				}
				r.do(code, &RevokePublisher{Key: publisherKey(key), Retire: retire})
			},
			"publish": func(*rapid.T) {
				b := modelBuild{ID: id(), Content: pick("content", "x", "y"), Publisher: protocol.UserID(person("by")), Key: pick("key", "ann", "bob", "third")}
				judged := m.owner(b.ID.Name)
				if rapid.IntRange(0, 4).Draw(t, "judged wrongly") == 0 {
					judged = protocol.UserID(pick("owner", "", "ann", "bob"))
				}
				item := sampleBuild(b.Publisher, b.ID.Name, b.ID.Version, b.ID.Platform, b.Content)
				item.Key = publisherKey(b.Key)
				r.do(m.publish(b, judged), &PublishSoftware{Item: item, Owner: judged})
			},
			"retire": func(*rapid.T) {
				what, undo := id(), rapid.Bool().Draw(t, "undo")
				if rapid.Bool().Draw(t, "all builds") {
					what.Platform = ""
				}
				r.do(m.retire(what, undo), &RetireSoftware{Name: what.Name, Version: what.Version, Platform: what.Platform, Undo: undo})
			},
			"": func(t *rapid.T) {
				want := slices.Clone(m.builds)
				slices.SortFunc(want, func(x, y modelBuild) int {
					return cmp.Or(cmp.Compare(x.ID.Name, y.ID.Name), cmp.Compare(x.ID.Version, y.ID.Version), cmp.Compare(x.ID.Platform, y.ID.Platform))
				})
				var lines, got []string
				for _, b := range want {
					lines = append(lines, fmt.Sprint(b.ID, digestOf(b.Content), b.Publisher, publisherKey(b.Key), b.Owner, b.Retired))
				}
				for s := range r.m.Software(protocol.SoftwareID{}) {
					x := &s.Item.Build
					got = append(got, fmt.Sprint(x.ID(), x.Digest, x.Publisher, s.Item.Key, s.Owner, s.Retired != 0))
				}
				if diff := gocmp.Diff(lines, got); diff != "" {
					t.Fatalf("the catalog differs (-model +record):\n%s", diff)
				}
				for _, name := range []string{"a", "ab", "b"} {
					if owner, _, _ := r.m.SoftwareOwner(name); owner != m.owner(name) {
						t.Fatalf("SoftwareOwner(%s) = %q, want %q", name, owner, m.owner(name))
					}
				}
			},
		})
	})
}

package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
	"floe/protocol/transport"
)

// principals is one of each column.
var principals = []struct {
	name string
	who  Principal
}{
	{"anonymous", Principal{Kind: transport.Anonymous}},
	{"viewer", Principal{Kind: transport.User, Role: "viewer", User: "v"}},
	{"producer", Principal{Kind: transport.User, Role: "producer", User: "p", Groups: []protocol.GroupID{"g"}}},
	{"operator", Principal{Kind: transport.User, Role: "operator", User: "o"}},
	{"admin", Principal{Kind: transport.User, Role: "admin", User: "a"}},
	{"site", Principal{Kind: transport.Site}},
	{"pilot", Principal{Kind: transport.Pilot}},
	{"coordinator", Principal{Kind: transport.Coordinator}},
}

func newPolicy(t *testing.T) *Policy {
	t.Helper()
	p, err := NewPolicy(Table)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestEveryRouteForEveryRole compares the table's decisions with the matrix in
// testdata, one line per route, so that a change of rights is seen as what it is.
func TestEveryRouteForEveryRole(t *testing.T) {
	p := newPolicy(t)
	var got strings.Builder
	for _, r := range p.Rules() {
		fmt.Fprintf(&got, "%s:", r.Pattern)
		for _, x := range principals {
			owned := x.who.User
			if owned == "" {
				owned = "nobody"
			}
			switch {
			case p.AllowOn(x.who, r.Pattern, "another", "") == nil:
				fmt.Fprintf(&got, " %s", x.name)
				if err := p.Allow(x.who, r.Pattern); err != nil {
					t.Errorf("%s: %s may on any object, yet: %v", r.Pattern, x.name, err)
				}
			case p.AllowOn(x.who, r.Pattern, owned, "") == nil:
				fmt.Fprintf(&got, " %s(own)", x.name)
			default:
				if err := p.AllowOn(x.who, r.Pattern, owned, "g"); err == nil {
					t.Errorf("%s: %s may by group only", r.Pattern, x.name)
				}
				if err := p.Allow(x.who, r.Pattern); err == nil {
					t.Errorf("%s: %s passes Allow and may on nothing", r.Pattern, x.name)
				}
			}
		}
		got.WriteString("\n")
	}
	want, err := os.ReadFile(filepath.Join("testdata", "rights.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("rights differ from testdata/rights.txt, -want +got:\n%s", d)
	}
}

func TestOwnMeansOwnerOrGroup(t *testing.T) {
	p := newPolicy(t)
	const verb = "POST /v1/datasets/{dataset}/actions"
	producer := principals[2].who
	tests := []struct {
		owner protocol.UserID
		group protocol.GroupID
		ok    bool
	}{{"p", "", true}, {"x", "g", true}, {"x", "h", false}, {"", "", false}, {"x", "", false}}
	for _, test := range tests {
		err := p.AllowOn(producer, verb, test.owner, test.group)
		if (err == nil) != test.ok {
			t.Errorf("AllowOn(producer, owner %q, group %q) = %v, want ok %t", test.owner, test.group, err, test.ok)
		}
	}
	nameless := Principal{Kind: transport.User, Role: "producer"}
	if p.AllowOn(nameless, verb, "", "") == nil {
		t.Error("a nameless producer owns what has no owner")
	}
}

func TestWhatIsNotListedIsRefused(t *testing.T) {
	p := newPolicy(t)
	for _, x := range principals {
		want := protocol.CodeForbidden
		if x.name == "anonymous" {
			want = protocol.CodeUnauthorized
		}
		if err := p.Allow(x.who, "DELETE /v1/everything"); protocol.CodeOf(err) != want {
			t.Errorf("%s: %v, want %v", x.name, err, want)
		}
	}
	for _, who := range []Principal{{}, {Kind: transport.User}, {Kind: transport.User, Role: "root"}, {Kind: transport.User, Role: "coordinator"}, {Kind: 99}} {
		for _, r := range Table {
			if p.Allow(who, r.Pattern) == nil {
				t.Errorf("%+v may %s", who, r.Pattern)
			}
		}
	}
	if err := p.Covers([]string{"GET /v1/sites", "GET /nowhere"}); err == nil || !strings.Contains(err.Error(), "GET /nowhere") {
		t.Errorf("Covers = %v, want the missing pattern", err)
	}
	if _, err := NewPolicy([]Rule{{Pattern: "GET /x"}, {Pattern: "GET /x"}}); err == nil {
		t.Error("two rules for one pattern were taken")
	}
}

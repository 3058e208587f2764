package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// fakeMembership is raft's part for a fakeRecord.
type fakeMembership struct{ record *fakeRecord }

func (f fakeMembership) Remove(_ context.Context, node protocol.NodeID) error {
	f.record.members = slices.DeleteFunc(f.record.members, func(m protocol.Member) bool { return m.ID == node })
	return nil
}

func (f fakeMembership) Transfer(_ context.Context, to protocol.NodeID) (protocol.NodeID, error) {
	if to == "" {
		to = "c2"
	}
	f.record.elect(to)
	return to, nil
}

func (f fakeMembership) Snapshot(context.Context) (protocol.SnapshotReply, error) {
	return protocol.SnapshotReply{Index: 7, Bytes: 8, Taken: true}, nil
}

// members are voters c1, c2, …; those named are out of reach, and cn catches up.
func members(n int, silent ...protocol.NodeID) (all []protocol.Member) {
	for i := range n {
		id := protocol.NodeID([]string{"c1", "c2", "c3", "c4", "c5"}[i])
		all = append(all, protocol.Member{ID: id, Voter: true, Self: i == 0, Leader: i == 0, Healthy: !slices.Contains(silent, id)})
	}
	return append(all, protocol.Member{ID: "cn", Behind: 1000, Contact: -1})
}

func TestRemovingACoordinator(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		members []protocol.Member
		remove  string
		force   bool
		code    protocol.Code
		says    string
		voters  int
	}{
		{"a dead one of three", members(3, "c3"), "c3", false, protocol.CodeOK, "even number", 2},
		{"a living one of three while another is dead", members(3, "c3"), "c2", false, protocol.CodeConflict, "Bring back [c3]", 0},
		{"the same by force", members(3, "c3"), "c2", true, protocol.CodeOK, "", 2},
		{"one of five", members(5, "c4", "c5"), "c5", false, protocol.CodeOK, "", 4},
		{"one of two", members(2), "c2", false, protocol.CodeOK, "one voter is left", 1},
		{"one that catches up", members(3, "c3"), "cn", false, protocol.CodeOK, "", 3},
		{"the only voter", members(1), "c1", true, protocol.CodeConflict, "only voter", 0},
		{"the leader", members(3), "c1", false, protocol.CodeUnknown, "handed over to c2", 0},
		{"nobody", members(3), "c9", false, protocol.CodeNotFound, "no coordinator c9", 0},
		{"nobody by force", members(3), "c9", true, protocol.CodeOK, "", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.do(&state.SetFormat{Format: 2})
			root := r.person("root", "admin")
			r.record.members = test.members
			var reply protocol.RemoveMemberReply
			request := protocol.RemoveMemberRequest{Force: test.force, Reason: "a test"}
			remove := func() error {
				return r.ask(root, "POST", "/v1/cluster/members/"+test.remove+"/remove", request, &reply)
			}
			err := remove()
			if protocol.CodeOf(err) != test.code {
				t.Fatalf("remove %s: %v, want %v", test.remove, err, test.code)
			}
			if err != nil {
				if !strings.Contains(err.Error(), test.says) {
					t.Errorf("refused with %q, want it to say %q", err, test.says)
				}
				if len(r.record.members) != len(test.members) {
					t.Error("refused, and removed all the same")
				}
				return
			}
			if reply.Voters != test.voters || !strings.Contains(reply.Note, test.says) {
				t.Errorf("reply %+v, want %d voters and a note of %q", reply, test.voters, test.says)
			}
			if err := remove(); err != nil {
				t.Errorf("the same again: %v", err)
			}
			// The name never comes back (I-25): by invitation, by token, or by admission.
			invite := protocol.AddMemberRequest{Node: protocol.NodeID(test.remove), Address: "new.example:4433"}
			if err := r.ask(root, "POST", "/v1/cluster/members", invite, nil); protocol.CodeOf(err) != protocol.CodeConflict {
				t.Errorf("inviting the name again: %v, want a conflict", err)
			}
			token := protocol.TokenRequest{Role: "coordinator", Name: test.remove}
			if err := r.ask(root, "POST", "/v1/tokens", token, nil); protocol.CodeOf(err) != protocol.CodeConflict {
				t.Errorf("a token for the name: %v, want a conflict", err)
			}
			caller := transport.Caller{Kind: transport.Coordinator, Node: protocol.NodeID(test.remove)}
			admit := &protocol.AdmitRequest{Address: "new.example:4433", Raft: "new.example:4434"}
			if err := r.callCBOR(caller, "/v1/coordinators/admit", admit, nil); protocol.CodeOf(err) != protocol.CodeForbidden && protocol.CodeOf(err) != protocol.CodeConflict {
				t.Errorf("admission under the name: %v, want a refusal", err)
			}
		})
	}
}

func TestInvitingACoordinator(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.person("root", "admin")
	var reply protocol.AddMemberReply
	r.mustAsk(root, "POST", "/v1/cluster/members", protocol.AddMemberRequest{Node: "c4", Address: "c4.example:4433"}, &reply)
	if want := "floe coordinator c4 --address c4.example:4433 --join " + reply.Token; reply.Command != want {
		t.Errorf("command %q, want %q", reply.Command, want)
	}
	token, err := protocol.ParseToken(reply.Token)
	if err != nil || token.Role != protocol.TokenCoordinator {
		t.Errorf("token %+v, %v; want a coordinator's", token, err)
	}
	for _, address := range []string{"c4", ":4433", "c4:"} {
		if err := r.ask(root, "POST", "/v1/cluster/members", protocol.AddMemberRequest{Node: "c5", Address: address}, nil); protocol.CodeOf(err) != protocol.CodeBadRequest {
			t.Errorf("address %q: %v, want bad-request", address, err)
		}
	}
	if err := r.ask(root, "POST", "/v1/cluster/members", protocol.AddMemberRequest{Node: "c1", Address: "c1.example:4433"}, nil); protocol.CodeOf(err) != protocol.CodeConflict || !strings.Contains(err.Error(), "floe cluster remove c1") {
		t.Errorf("inviting a member: %v, want a conflict that names the repair", err)
	}
}

func TestLeadershipGoesWhereItCan(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := r.person("op", "operator")
	r.record.members = members(3, "c3")
	for to, want := range map[protocol.NodeID]protocol.Code{"c9": protocol.CodeNotFound, "c3": protocol.CodeConflict, "cn": protocol.CodeConflict} {
		if err := r.ask(op, "POST", "/v1/cluster/leader", protocol.TransferRequest{To: to}, nil); protocol.CodeOf(err) != want {
			t.Errorf("to %s: %v, want %v", to, err, want)
		}
	}
	var reply protocol.TransferReply
	r.mustAsk(op, "POST", "/v1/cluster/leader", protocol.TransferRequest{To: "c1"}, &reply)
	if reply.Leader != "c1" {
		t.Errorf("to itself: %+v", reply)
	}
	r.mustAsk(op, "POST", "/v1/cluster/leader", protocol.TransferRequest{To: "c2"}, &reply)
	if reply.Leader != "c2" || reply.From != "c1" {
		t.Errorf("to c2: %+v", reply)
	}
}

// says is another coordinator that says how it stands, as JSON.
type says map[string]any

func (s says) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s)
}

// The format is raised when every coordinator is known to support it, a checkpoint
// first. Until then nothing of the new format is proposed, and a coordinator that
// supports less than the record has does not enter.
func TestFormatIsRaisedWhenAllSupportIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.person("root", "admin")
	r.record.members = members(3)[:3]
	format := func() (f uint32) {
		r.record.Read(func(m *state.Machine) { f = m.Format() })
		return f
	}
	raise := func() error { return r.ask(root, "POST", "/v1/cluster/format", protocol.UpgradeRequest{}, nil) }
	var proposed []state.Command
	r.record.before = func(c state.Command) error {
		proposed = append(proposed, c)
		return nil
	}
	for _, test := range []struct {
		name   string
		c2, c3 http.Handler
		names  string
	}{
		{"one out of reach", says{"version": "2", "supports": 2}, nil, "coordinator c3 does not answer"},
		{"one of the first release", says{"version": "2", "supports": 2}, says{"version": "1"}, "coordinator c3 runs floe 1, which supports format 1"},
		{"two that are older", says{"version": "1", "supports": 1}, says{"version": "1", "supports": 1}, "coordinator c2 runs floe 1"},
	} {
		r.peers.nodes = map[protocol.NodeID]http.Handler{"c2": test.c2, "c3": test.c3}
		resp := r.send(transport.Caller{Kind: transport.Anonymous}, root, "POST", "/v1/cluster/format", protocol.UpgradeRequest{})
		var problem struct{ Errors []string }
		if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || resp.StatusCode != protocol.CodeConflict.HTTPStatus() {
			t.Errorf("%s: status %d, %v, want a conflict", test.name, resp.StatusCode, err)
		}
		if !slices.ContainsFunc(problem.Errors, func(e string) bool { return strings.Contains(e, test.names) }) {
			t.Errorf("%s: named %q, want %q", test.name, problem.Errors, test.names)
		}
		exclude := protocol.NodeAction{Action: "exclude", Host: "n1", Reason: "a test"}
		if err := r.ask(root, "POST", "/v1/sites/mill/nodes", exclude, nil); protocol.CodeOf(err) != protocol.CodeConflict || !strings.Contains(err.Error(), "floe cluster upgrade") {
			t.Errorf("%s: a verb that needs format 2: %v, want a conflict that names the repair", test.name, err)
		}
		if len(proposed) != 0 || format() != 1 {
			t.Fatalf("%s: proposed %v, format %d; want nothing", test.name, proposed, format())
		}
	}
	older := transport.Caller{Kind: transport.Coordinator, Node: "c4"}
	admit := &protocol.AdmitRequest{Address: "c4.example:4433", Raft: "c4.example:4434"}
	if err := r.callCBOR(older, "/v1/coordinators/admit", admit, nil); err != nil {
		t.Errorf("admission of an older release before: %v", err)
	}

	proposed, r.record.members = nil, members(3)[:3]
	r.peers.nodes = map[protocol.NodeID]http.Handler{"c2": says{"supports": 2}, "c3": says{"supports": 3}}
	if err := raise(); err != nil || format() != 2 {
		t.Fatalf("all support it: %v, format %d", err, format())
	}
	if _, checkpoint := proposed[0].(*state.Checkpoint); len(proposed) != 2 || !checkpoint {
		t.Errorf("proposed %v, want a checkpoint and the format", proposed)
	}
	if err := raise(); err != nil || len(proposed) != 2 {
		t.Errorf("again: %v, proposed %v", err, proposed)
	}
	older.Node = "c5"
	if err := r.callCBOR(older, "/v1/coordinators/admit", admit, nil); protocol.CodeOf(err) != protocol.CodeConflict {
		t.Errorf("admission of an older release afterwards: %v, want a conflict", err)
	}
}

// A coordinator that itself supports only the first format raises nothing.
func TestAnOlderLeaderRaisesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Format = 1 })
	root := r.person("root", "admin")
	var reply protocol.UpgradeReply
	r.mustAsk(root, "POST", "/v1/cluster/format", protocol.UpgradeRequest{}, &reply)
	if reply.From != 1 || reply.To != 1 {
		t.Errorf("its own newest: %+v, want 1 and 1", reply)
	}
	if err := r.ask(root, "POST", "/v1/cluster/format", protocol.UpgradeRequest{To: 2}, nil); protocol.CodeOf(err) != protocol.CodeConflict {
		t.Errorf("format 2 at a leader that supports 1: %v, want a conflict", err)
	}
}

// A person sees how each member stands by its own word and the leader's, from any
// coordinator.
func TestClusterStatusTellsOfEveryMember(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Space = func() Space { return Space{Free: 5, Total: 100, Low: true} } })
	eve := r.person("eve", "viewer")
	r.record.members = members(3, "c2", "c3") // a follower hears of nobody
	r.record.members[0].Leader, r.record.members[1].Leader = false, true
	r.record.elect("c2")
	r.peers.nodes = map[protocol.NodeID]http.Handler{"c2": says{
		"version": "2.0", "supports": 2, "applied": 77, "disk_free": 10,
		"members": []says{{"id": "c1", "healthy": true, "behind": 3, "contact_ms": 12}},
	}, "c3": nil}
	var reply protocol.ClusterReply
	r.mustAsk(eve, "GET", "/v1/cluster", nil, &reply)
	me, leader, silent := reply.Members[0], reply.Members[1], reply.Members[2]
	if me.Status == nil || !me.Status.DiskLow || me.Status.Supports != state.Format || me.Behind != 3 || me.Contact != 12 || !me.Healthy {
		t.Errorf("itself: %+v, %+v", me, me.Status)
	}
	if leader.Status == nil || leader.Status.Applied != 77 || leader.Status.DiskFree != 10 || leader.Status.Version != "2.0" {
		t.Errorf("the leader: %+v, %+v", leader, leader.Status)
	}
	if silent.Status != nil || silent.Problem == "" {
		t.Errorf("one that does not answer: %+v", silent)
	}
	asked := len(r.peers.asked)
	if err := transport.ResponseError(r.send(transport.Caller{Kind: transport.Coordinator, Node: "c2"}, nil, "GET", "/v1/cluster", nil)); err != nil || len(r.peers.asked) != asked {
		t.Errorf("a peer's question: %v, and asked %v", err, r.peers.asked[asked:])
	}
}

// While the leader's disk is nearly full nothing new is taken, and reports are (I-24).
func TestAFullDiskTakesReportsOnly(t *testing.T) {
	t.Parallel()
	var low atomic.Bool
	r := newRig(t, func(c *Config) { c.Space = func() Space { return Space{Free: 1, Total: 100, Low: low.Load()} } })
	ada := r.person("ada", "producer")
	id := r.submit(ada, 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	low.Store(true)
	submission := protocol.SubmitRequest{Key: protocol.RandomText(10), Steering: twoTasks, Jobs: 1}
	if err := r.ask(ada, "POST", "/v1/datasets", submission, nil); protocol.CodeOf(err) != protocol.CodeBusy {
		t.Errorf("a submission: %v, want busy", err)
	}
	growth := protocol.GrowRequest{Key: protocol.RandomText(10), From: 1, Jobs: 1}
	if err := r.ask(ada, "POST", fmt.Sprintf("/v1/datasets/%d/jobs", id), growth, nil); protocol.CodeOf(err) != protocol.CodeBusy {
		t.Errorf("growth: %v, want busy", err)
	}
	submission.DryRun = true
	r.mustAsk(ada, "POST", "/v1/datasets", submission, nil)
	p.finish(&l)
	if s := r.taskState(l.Task); s != protocol.TaskOK && s != protocol.TaskCopied {
		t.Errorf("the task whose report came is %v", s)
	}
	low.Store(false)
	submission.DryRun = false
	r.mustAsk(ada, "POST", "/v1/datasets", submission, nil)
}

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"
)

// TestSystemControl does with the commands what an operator does on a bad day, as
// scripts see it: lines of tab-separated values, JSON, and exit codes.
func TestSystemControl(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	invitation := ask[protocol.TokenReply](w, "token", "create", "site", "mill").Token
	w.ok("site", "join", invitation, "--dir", filepath.Join(w.dir, "mill"))
	leaked := ask[protocol.TokenReply](w, "token", "create", "producer", "ada").Token
	as := func(token string, args ...string) result {
		return w.floeWith([]string{"FLOE_TOKEN=" + token}, "", args...)
	}
	if r := as(leaked, "datasets"); r.code != 0 {
		t.Fatalf("ada's token: %+v", r)
	}

	w.ok("node", "exclude", "mill", "n7", "--reason", "fan broken")
	w.ok("node", "exclude", "mill", "n8", "--gpus")
	nodes := strings.Split(strings.TrimSpace(w.ok("nodes")), "\n")
	if len(nodes) != 2 || !strings.HasPrefix(nodes[0], "mill\tn8\tgpus\texcluded\t") || !strings.HasPrefix(nodes[1], "mill\tn7\tnode\texcluded\t") || !strings.HasSuffix(nodes[1], ": fan broken") {
		t.Errorf("nodes: %q", nodes)
	}
	if got := w.ok("node", "release", "mill", "n7"); got != "node n7 of site mill is in good standing again\n" {
		t.Errorf("release says %q", got)
	}
	if page := ask[protocol.NodePage](w, "nodes", "--site", "mill"); len(page.Nodes) != 1 || page.Nodes[0].Host != "n8" {
		t.Errorf("nodes after the release: %+v", page)
	}

	w.ok("site", "pause", "mill")
	w.ok("site", "resume", "mill")
	w.ok("site", "drain", "mill", "--reason", "power cut")
	w.ok("site", "revoke", "mill")
	if sites := w.ok("sites"); !strings.HasPrefix(sites, "mill\trevoked\t") {
		t.Errorf("sites: %q", sites)
	}
	if r := w.floe("site", "resume", "mill"); r.code != exitFailure {
		t.Errorf("resume of a revoked site: %+v", r)
	}
	if r := w.floe("pilot", "drain", "nobody"); r.code != exitNotFound {
		t.Errorf("drain of nobody: %+v", r)
	}

	w.ok("user", "disable", "ada")
	if r := as(leaked, "datasets"); r.code != exitDenied {
		t.Errorf("a disabled person: %+v", r)
	}
	w.ok("user", "enable", "ada")
	if users := w.ok("user", "list"); !strings.HasPrefix(users, "ada\tproducer\t-\tactive\t1\t") {
		t.Errorf("users: %q", users)
	}
	if tokens := ask[protocol.TokenList](w, "token", "list").Tokens; len(tokens) != 2 || tokens[0].Name != "ada" || strings.Contains(leaked, tokens[0].Digest.Hex()) {
		t.Errorf("tokens: %+v", tokens)
	}
	w.ok("token", "revoke", leaked, "--reason", "in a mail")
	if r := as(leaked, "datasets"); r.code != exitDenied {
		t.Errorf("a revoked token: %+v", r)
	}

	actions := ask[protocol.ActionPage](w, "actions", "--object", "mill").Actions
	var did []string
	for _, a := range actions {
		did = append(did, a.Action)
	}
	if got, want := strings.Join(did, ", "), "revoke site, drain site, resume site, pause site, join, invite site"; got != want {
		t.Errorf("actions on mill, newest first: %s, want %s", got, want)
	}
	if actions[1].Reason != "power cut" || actions[1].Index <= actions[2].Index {
		t.Errorf("actions: %+v", actions)
	}
	if line := w.ok("actions", "--limit", "1"); !strings.Contains(line, "\trevoke token\tsha256:") || !strings.Contains(line, "\tin a mail\t") {
		t.Errorf("the newest action: %q", line)
	}
}

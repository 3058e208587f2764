package server

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/coordinator/auth"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/software"
)

// newCatalogRig starts a server whose record has a catalog.
func newCatalogRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.do(&state.SetFormat{Format: state.Format})
	return r
}

// publisher is somebody who publishes.
type publisher struct {
	r    *rig
	name protocol.UserID
	who  http.Header
	key  ed25519.PrivateKey
}

// publisher makes a person known, and has the root certify a key of theirs.
func (r *rig) publisher(name protocol.UserID, groups ...protocol.GroupID) *publisher {
	r.t.Helper()
	p := &publisher{r: r, name: name, who: r.person(name, "producer", groups...)}
	var err error
	if _, p.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		r.t.Fatal(err)
	}
	r.mustAsk(r.person("root", "admin"), "POST", "/v1/publishers", protocol.PutPublisherRequest{Certificate: p.certificate("test")}, nil)
	return p
}

func (p *publisher) public() protocol.PublisherKey {
	return protocol.PublisherKey(p.key.Public().(ed25519.PublicKey))
}

func (p *publisher) certificate(cluster string) []byte {
	p.r.t.Helper()
	root, key, err := auth.LoadRoot(p.r.keys)
	if err != nil {
		p.r.t.Fatal(err)
	}
	der, err := software.Certify(root, key, cluster, p.name, p.public())
	if err != nil {
		p.r.t.Fatal(err)
	}
	return der
}

// upload stores a file as a person does, and returns its digest.
func (p *publisher) upload(content []byte) protocol.Digest {
	p.r.t.Helper()
	d := protocol.DigestOf(content)
	if resp := p.r.send(anonymous, p.who, "PUT", "/v1/blobs/"+d.Hex()+"?class=durable", content); resp.StatusCode != http.StatusCreated {
		p.r.t.Fatalf("upload: %s", resp.Status)
	}
	return d
}

// build uploads a tarball and a manifest and signs them.
func (p *publisher) build(name, version, platform, content string) protocol.PublishRequest {
	p.r.t.Helper()
	m := software.Manifest{Files: []software.File{{Path: "bin", Kind: software.Folder}, {Path: "bin/run", Kind: software.Program, Size: 7, Digest: protocol.DigestOf([]byte(content))}}}
	text, err := m.Encode()
	if err != nil {
		p.r.t.Fatal(err)
	}
	signed, err := software.Sign(p.key, protocol.Build{
		Cluster: "test", Name: name, Version: version, Platform: platform, Publisher: p.name,
		Digest: p.upload([]byte(content)), Size: protocol.ByteSize(len(content)), Manifest: p.upload(text), Files: 1, Unpacked: 7,
	})
	if err != nil {
		p.r.t.Fatal(err)
	}
	return protocol.PublishRequest{SignedBuild: *signed}
}

func (p *publisher) publish(request protocol.PublishRequest) error {
	p.r.t.Helper()
	return p.r.ask(p.who, "POST", "/v1/software", request, nil)
}

func (p *publisher) mustPublish(name, version, platform, content string) protocol.PublishRequest {
	p.r.t.Helper()
	request := p.build(name, version, platform, content)
	if err := p.publish(request); err != nil {
		p.r.t.Fatal(err)
	}
	return request
}

func TestPublish(t *testing.T) {
	t.Parallel()
	r := newCatalogRig(t)
	ada := r.publisher("ada", "ice")
	first := ada.build("icetray", "1.0", "any", "tarball")
	first.Group = "ice"
	var reply protocol.PublishReply
	r.mustAsk(ada.who, "POST", "/v1/software", first, &reply)
	if reply.Before || reply.Published == 0 || reply.Group != "ice" || reply.Build != first.Build {
		t.Errorf("published: %+v", reply)
	}
	r.mustAsk(ada.who, "POST", "/v1/software", first, &reply)
	if !reply.Before {
		t.Errorf("published again: %+v, want it known as before", reply)
	}
	if err := ada.publish(ada.build("icetray", "1.0", "any", "other bytes")); protocol.CodeOf(err) != protocol.CodeConflict || !strings.Contains(err.Error(), first.Build.Digest.String()) {
		t.Errorf("other bytes under the same names: %v, want a conflict that names the digest", err)
	}

	// A name is of whoever had it first, and of a group; operators may, too.
	bob, eve := r.publisher("bob", "ice"), r.publisher("eve")
	if err := bob.publish(bob.build("icetray", "1.1", "any", "of bob")); err != nil {
		t.Errorf("a member of the group: %v", err)
	}
	if err := eve.publish(eve.build("icetray", "1.2", "any", "of eve")); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("somebody else's name: %v, want forbidden", err)
	}
	if err := r.ask(r.person("vic", "viewer"), "POST", "/v1/software", first, nil); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a viewer publishes: %v, want forbidden", err)
	}

	var proof protocol.SoftwareProof
	r.mustAsk(r.person("vic", "viewer"), "GET", "/v1/software/icetray/1.0", nil, &proof)
	trust := &software.Trust{Cluster: "test", Pin: r.cluster.Pin()}
	c, err := trust.Certificate(proof.Root, proof.Publishers[0].Certificate)
	if err == nil {
		err = trust.Verify(&proof.Software[0].SignedBuild, c)
	}
	if err != nil {
		t.Errorf("what the catalog shows does not verify: %v", err)
	}
	var page protocol.SoftwarePage
	r.mustAsk(eve.who, "GET", "/v1/software?limit=1", nil, &page)
	if len(page.Software) != 1 || page.Next != "1" {
		t.Errorf("first page: %+v", page)
	}
	var second protocol.SoftwarePage
	r.mustAsk(eve.who, "GET", "/v1/software?limit=5&cursor="+page.Next, nil, &second)
	if len(second.Software) != 1 || second.Software[0].Build.Version != "1.1" || second.Next != "" {
		t.Errorf("second page: %+v", second)
	}
}

func TestWhatIsNotPublished(t *testing.T) {
	t.Parallel()
	r := newCatalogRig(t)
	ada, bob := r.publisher("ada"), r.publisher("bob")
	stranger := &publisher{r: r, name: "ada", who: ada.who}
	_, stranger.key, _ = ed25519.GenerateKey(rand.Reader)
	ends := &publisher{r: r, name: "ada", who: ada.who, key: ada.key}
	for what, c := range map[string]struct {
		request func() protocol.PublishRequest
		code    protocol.Code
		says    string
	}{
		"a changed digest": {func() protocol.PublishRequest {
			x := ada.build("a", "1", "any", "x")
			x.Build.Digest = ada.upload([]byte("y"))
			return x
		}, protocol.CodeForbidden, "signature"},
		"another cluster": {func() protocol.PublishRequest {
			x := ada.build("a", "1", "any", "x")
			x.Build.Cluster = "other"
			s, _ := software.Sign(ada.key, x.Build)
			return protocol.PublishRequest{SignedBuild: *s}
		}, protocol.CodeForbidden, "cluster"},
		"a key that nobody certified": {func() protocol.PublishRequest { return stranger.build("a", "1", "any", "x") }, protocol.CodeForbidden, "floe software trust"},
		"in somebody else's name":     {func() protocol.PublishRequest { return bob.build("a", "1", "any", "x") }, protocol.CodeForbidden, "signed for bob, and you are ada"},
		"a tarball that is not there": {func() protocol.PublishRequest {
			x := ada.build("a", "1", "any", "x")
			x.Build.Digest = protocol.DigestOf([]byte("nowhere"))
			s, _ := software.Sign(ada.key, x.Build)
			return protocol.PublishRequest{SignedBuild: *s}
		}, protocol.CodeNotFound, "tarball"},
		"another size": {func() protocol.PublishRequest {
			x := ada.build("a", "1", "any", "x")
			x.Build.Size = 2
			s, _ := software.Sign(ada.key, x.Build)
			return protocol.PublishRequest{SignedBuild: *s}
		}, protocol.CodeBadRequest, "has 1 bytes, not 2"},
		"a manifest of another tarball": {func() protocol.PublishRequest {
			x := ada.build("a", "1", "any", "x")
			x.Build.Files = 9
			s, _ := software.Sign(ada.key, x.Build)
			return protocol.PublishRequest{SignedBuild: *s}
		}, protocol.CodeBadRequest, "lists 1 files"},
		"no manifest": {func() protocol.PublishRequest {
			x := ada.build("a", "1", "any", "x")
			x.Build.Manifest = ada.upload([]byte("not one"))
			s, _ := software.Sign(ada.key, x.Build)
			return protocol.PublishRequest{SignedBuild: *s}
		}, protocol.CodeBadRequest, "manifest"},
		"a platform of no form": {func() protocol.PublishRequest {
			x := ada.build("a", "1", "any", "x")
			x.Build.Platform = "windows"
			return x
		}, protocol.CodeBadRequest, "SYSTEM-MACHINE"},
		"too large without a URL": {func() protocol.PublishRequest {
			x := ada.build("a", "1", "any", "x")
			x.Build.Size = 5 * protocol.GB
			return x
		}, protocol.CodeBadRequest, "give its URL"},
	} {
		err := ends.publish(c.request())
		if protocol.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v with %q", what, err, c.code, c.says)
		}
	}
	// Larger than coordinators keep, with a URL: only the manifest is here.
	large := ada.build("a", "1", "any", "x")
	large.Build.Size, large.Build.Digest = 5*protocol.GB, protocol.DigestOf([]byte("elsewhere"))
	s, err := software.Sign(ada.key, large.Build)
	if err != nil {
		t.Fatal(err)
	}
	s.URL = "https://area.example/a-1.tar.zst"
	if err := ada.publish(protocol.PublishRequest{SignedBuild: *s}); err != nil {
		t.Errorf("with a URL: %v", err)
	}
	// Certificates that are not the root's, for another cluster, or of a revoked key.
	root := r.person("root", "admin")
	for what, der := range map[string][]byte{"of another cluster": ada.certificate("other"), "garbage": []byte("x"), "the root itself": r.cluster.Root()} {
		if err := r.ask(root, "POST", "/v1/publishers", protocol.PutPublisherRequest{Certificate: der}, nil); protocol.CodeOf(err) != protocol.CodeForbidden {
			t.Errorf("certificate %s: %v, want forbidden", what, err)
		}
	}
	if err := r.ask(ada.who, "POST", "/v1/publishers", protocol.PutPublisherRequest{Certificate: stranger.certificate("test")}, nil); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a producer trusts a key: %v, want forbidden", err)
	}
	r.mustAsk(root, "POST", "/v1/publishers", protocol.PutPublisherRequest{Revoke: ada.public(), Retire: true}, nil)
	if err := ada.publish(ada.build("a", "2", "any", "z")); protocol.CodeOf(err) != protocol.CodeForbidden || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("with a revoked key: %v, want forbidden", err)
	}
	var page protocol.SoftwarePage
	r.mustAsk(ada.who, "GET", "/v1/software", nil, &page)
	if len(page.Software) != 0 {
		t.Errorf("active after their key was revoked: %+v", page.Software)
	}
}

// withProjects is a job that uses software of the catalog.
const withProjects = `version: 3.2
tasks:
  - name: a
    trays: [{projects: [{name: icetray, version: "1.0"}], modules: [{src: run}]}]
  - name: b
    projects: [{name: gcd}]
    trays: [{modules: [{src: run}]}]
`

func TestSubmissionPinsSoftware(t *testing.T) {
	t.Parallel()
	r := newCatalogRig(t)
	ada := r.publisher("ada")
	refused := func(text, want string) {
		t.Helper()
		err := r.ask(ada.who, "POST", "/v1/datasets", protocol.SubmitRequest{Key: protocol.RandomText(10), File: "x.yaml", Steering: text, Jobs: 2}, nil)
		var e *protocol.Error
		if !errors.As(err, &e) || e.Code != protocol.CodeBadRequest || !strings.Contains(strings.Join(e.Details, "\n"), want) {
			t.Errorf("submit: %v, %q; want bad-request with %q", err, e.Details, want)
		}
	}
	refused(withProjects, "project icetray 1.0: no resource of the document has that name, and the catalog has no software named icetray")
	ada.mustPublish("icetray", "1.0", "linux-x86_64-v2-glibc2.28", "new")
	ada.mustPublish("icetray", "1.0", "linux-x86_64-glibc2.17", "old")
	ada.mustPublish("gcd", "2024", "any", "gcd")
	refused(strings.Replace(withProjects, `"1.0"`, `"1.O"`, 1), `did you mean "1.0"? (active: 1.0)`)
	refused(strings.Replace(withProjects, "name: icetray", "name: icetrey", 1), `did you mean "icetray"?`)
	refused(strings.Replace(withProjects, `"1.0"`, `"$(job)"`, 1), "must not depend on job")
	refused(strings.Replace(withProjects, "name: a\n", "name: a\n    projects: [{name: arm, version: \"1\"}]\n", 1), "no software named arm")

	var reply protocol.SubmitReply
	submit := func(text string) (key string) {
		t.Helper()
		reply, key = protocol.SubmitReply{}, protocol.RandomText(10)
		r.mustAsk(ada.who, "POST", "/v1/datasets", protocol.SubmitRequest{Key: key, Steering: text, Jobs: 2}, &reply)
		return key
	}
	key := submit(withProjects)
	want := []protocol.SoftwareID{{Name: "gcd", Version: "2024", Platform: "any"}, {Name: "icetray", Version: "1.0", Platform: "linux-x86_64-glibc2.17"}, {Name: "icetray", Version: "1.0", Platform: "linux-x86_64-v2-glibc2.28"}}
	if diff := cmp.Diff(want, reply.Software); diff != "" {
		t.Errorf("pinned (-want +got):\n%s", diff)
	}
	if len(reply.Warnings) != 1 || !strings.Contains(reply.Warnings[0], "2024 is taken") {
		t.Errorf("warnings = %q, want one that says which version was taken", reply.Warnings)
	}
	d, err := r.view(reply.Dataset)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(d.Tasks[0].Requirements[0].OS, d.Tasks[1].Requirements[0].OS); got != "[linux-x86_64-glibc2.17] []" {
		t.Errorf("platforms asked for: %s", got)
	}

	// The lease names the bill, and the bill verifies for who knows the root.
	p := r.enrol("mill")
	bill := func(l *protocol.Lease) *software.Bill {
		t.Helper()
		in, size, err := r.OpenBlob(t.Context(), l.Software)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		text, err := protocol.ReadUpTo(in, int64(size), software.MaxBillBytes)
		if err != nil {
			t.Fatal(err)
		}
		b, err := software.DecodeBill(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	leases := p.take(4)
	if builds, err := bill(&leases[0]).Version(&software.Trust{Cluster: "test", Pin: r.cluster.Pin()}, "icetray", "1.0"); err != nil || len(builds) != 2 {
		t.Errorf("the lease's bill: %d builds, %v", len(builds), err)
	}
	first := d.Facts.Software
	for i := range leases {
		p.finish(&leases[i])
	}

	// What is retired is for no new dataset; this one goes on, and grows.
	r.mustAsk(ada.who, "POST", "/v1/software/icetray/1.0/actions", protocol.SoftwareAction{Action: "retire"}, nil)
	refused(withProjects, "project icetray 1.0 is retired")
	var again protocol.SubmitReply
	r.mustAsk(ada.who, "POST", "/v1/datasets", protocol.SubmitRequest{Key: key, Steering: withProjects, Jobs: 2}, &again)
	if again.Dataset != d.ID {
		t.Errorf("the same key after retiring: dataset %d, want %d", again.Dataset, d.ID)
	}
	r.mustAsk(ada.who, "POST", fmt.Sprintf("/v1/datasets/%d/jobs", d.ID), protocol.GrowRequest{Key: "12345678", From: 2, Jobs: 1}, nil)
	for _, l := range p.take(2) {
		if l.Software != first {
			t.Errorf("job %v has the bill %v, want %v", l.Task, l.Software, first)
		}
	}
	r.mustAsk(ada.who, "POST", "/v1/software/icetray/1.0/actions", protocol.SoftwareAction{Action: "restore", Platform: "linux-x86_64-glibc2.17"}, nil)
	submit(withProjects)
	if len(reply.Software) != 2 {
		t.Errorf("pinned when one build is active: %v", reply.Software)
	}

	// A resource of the document is the more exact word.
	submit(strings.Replace(withProjects, "version: 3.2\n", "version: 3.2\nsteering: {resources: [{remote: \"https://a.example/gcd\", local: gcd.tar.gz, checksum: \"sha256:"+strings.Repeat("0", 64)+"\"}]}\n", 1))
	if len(reply.Software) != 1 || len(reply.Warnings) != 0 {
		t.Errorf("pinned beside a resource: %v, %q", reply.Software, reply.Warnings)
	}
	refused(strings.Replace(withProjects, "version: 3.2\n", "version: 3.2\noptions: {sum: \"\"}\nsteering: {resources: [{remote: \"https://a.example/gcd\", local: gcd.tar.gz, checksum: $options(sum)}]}\n", 1),
		`project gcd: its resource gcd.tar.gz has the checksum "": software needs its SHA-256`)
	submit(twoTasks)
	if d, err := r.view(reply.Dataset); err != nil || !d.Facts.Software.IsZero() {
		t.Errorf("a dataset without projects has the bill %v, %v", d.Facts.Software, err)
	}
}

// Builds that no node could run together never become a dataset.
func TestSoftwareThatRunsNowhere(t *testing.T) {
	t.Parallel()
	r := newCatalogRig(t)
	ada := r.publisher("ada")
	ada.mustPublish("icetray", "1.0", "linux-x86_64+cuda", "gpu")
	ada.mustPublish("gcd", "1", "any", "gcd")
	submit := func(text string) error {
		return r.ask(ada.who, "POST", "/v1/datasets", protocol.SubmitRequest{Key: protocol.RandomText(10), Steering: text, Jobs: 1}, nil)
	}
	var e *protocol.Error
	if err := submit(withProjects); !errors.As(err, &e) || !strings.Contains(strings.Join(e.Details, "\n"), "asks for no GPU") {
		t.Errorf("a task without a GPU: %v", err)
	}
	if err := submit(strings.Replace(withProjects, "name: a\n", "name: a\n    requirements: {gpu: 1}\n", 1)); err != nil {
		t.Errorf("a task with a GPU: %v", err)
	}
}

// A record that was restored from another cluster's has certificates of its root.
// Nothing is submitted until the publisher is certified again.
func TestSoftwareOfARestoredRecord(t *testing.T) {
	t.Parallel()
	former, r := newCatalogRig(t), newCatalogRig(t)
	theirs := former.publisher("ada")
	r.do(&state.PutPublisher{User: "ada", Key: theirs.public(), Certificate: theirs.certificate("test")})
	for _, name := range []string{"icetray", "gcd"} {
		r.do(&state.PublishSoftware{Item: theirs.build(name, "1.0", "any", name).SignedBuild})
	}
	ada := &publisher{r: r, name: "ada", who: r.person("ada", "producer"), key: theirs.key}
	submit := func() error {
		return r.ask(ada.who, "POST", "/v1/datasets", protocol.SubmitRequest{Key: protocol.RandomText(10), Steering: withProjects, Jobs: 1}, nil)
	}
	var e *protocol.Error
	if err := submit(); !errors.As(err, &e) || !strings.Contains(strings.Join(e.Details, "\n"), "certified again") {
		t.Errorf("before: %v; want it refused", err)
	}
	r.mustAsk(r.person("root", "admin"), "POST", "/v1/publishers", protocol.PutPublisherRequest{Certificate: ada.certificate("test")}, nil)
	if err := submit(); err != nil {
		t.Errorf("after: %v", err)
	}
}

// A name that somebody else took between judging and publishing stays theirs.
func TestTwoPublishersOfOneName(t *testing.T) {
	t.Parallel()
	r := newCatalogRig(t)
	ada, bob := r.publisher("ada"), r.publisher("bob")
	mine, theirs := ada.build("icetray", "1.0", "any", "a"), bob.build("icetray", "1.1", "any", "b")
	once := false
	r.record.before = func(c state.Command) error {
		if _, is := c.(*state.PublishSoftware); is && !once {
			once = true
			return bob.publish(theirs)
		}
		return nil
	}
	if err := ada.publish(mine); protocol.CodeOf(err) != protocol.CodeConflict || !strings.Contains(err.Error(), "of bob") {
		t.Errorf("the slower one: %v, want a conflict", err)
	}
}

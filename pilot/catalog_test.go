package pilot

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/cache/pack"
	"floe/protocol"
	"floe/protocol/software"
)

// testCatalog publishes software for attempts.
type testCatalog struct {
	b    *bench
	root *x509.Certificate
	key  ed25519.PrivateKey
	bill software.Bill
	// proof is what the catalog says when it is asked.
	proof func() (*protocol.SoftwareProof, error)
}

func newTestCatalog(t *testing.T, b *bench) *testCatalog {
	t.Helper()
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	c := &testCatalog{b: b, proof: func() (*protocol.SoftwareProof, error) {
		return nil, protocol.Errorf(protocol.CodeNotFound, "the catalog is empty")
	}}
	if c.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	var public ed25519.PublicKey
	if public, c.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	certificate, err := software.Certify(c.root, rootKey, "ice", "ann", protocol.PublisherKey(public))
	if err != nil {
		t.Fatal(err)
	}
	c.bill = software.Bill{Root: der, Certificates: [][]byte{certificate}}
	b.lease.Software = protocol.DigestOf([]byte("bill"))
	b.catalog = &Catalog{
		Proof: func(context.Context, string, string) (*protocol.SoftwareProof, error) { return c.proof() },
		Bill:  func(context.Context, protocol.Digest) (*software.Bill, error) { return &c.bill, nil },
		Trust: software.Trust{Cluster: "ice", Pin: protocol.DigestOf(c.root.RawSubjectPublicKeyInfo)},
		Node:  software.Node{Platform: "debian_12-x86_64-glibc2.36", Tags: []string{"x86-64-v1", "x86-64-v2"}},
	}
	return c
}

// publish packs a program that says something, and puts it into the bill and the
// blob store. It returns the tarball.
func (c *testCatalog) publish(platform, says string) []byte {
	c.b.t.Helper()
	dir := c.b.t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		c.b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "tool"), []byte("#!/bin/sh\necho "+says+"\n"), 0o755); err != nil {
		c.b.t.Fatal(err)
	}
	var tarball bytes.Buffer
	if err := pack.Directory(c.b.t.Context(), dir, &tarball); err != nil {
		c.b.t.Fatal(err)
	}
	content := tarball.Bytes()
	signed, err := software.Sign(c.key, protocol.Build{
		Cluster: "ice", Name: "tools", Version: "1.0", Platform: platform, Publisher: "ann",
		Digest: protocol.DigestOf(content), Size: protocol.ByteSize(len(content)), Manifest: protocol.DigestOf([]byte("m")), Files: 1,
	})
	if err == nil {
		err = c.b.blobs.PutBlob(c.b.t.Context(), signed.Build.Digest, signed.Build.Size, bytes.NewReader(content))
	}
	if err != nil {
		c.b.t.Fatal(err)
	}
	c.bill.Builds = append(c.bill.Builds, *signed)
	return content
}

const usesTools = `version: 3
tasks:
  - name: make
    trays: [{projects: [{name: tools, version: "1.0"}], modules: [{src: tool}]}]
`

// An attempt runs from the build that is best on its node, and only from what the
// publisher signed.
func TestAttemptsUsePublishedSoftware(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		spoil   func(b *bench, c *testCatalog)
		verdict protocol.Verdict
		says    string // in the log, or in the evidence
	}{
		"the best build": {func(*bench, *testCatalog) {}, protocol.VerdictOK, "level two"},
		"another node": {func(b *bench, _ *testCatalog) {
			b.catalog.Node = software.Node{Platform: "alpine_3.19-x86_64-musl1.2.4"}
		}, protocol.VerdictOK, "any linux"},
		"no build for the node": {func(b *bench, _ *testCatalog) {
			b.catalog.Node = software.Node{Platform: "debian_12-aarch64-glibc2.36"}
		}, protocol.VerdictSoftware, "no build runs here: linux-x86_64-v2: this node is debian_12-aarch64-glibc2.36"},
		"another version": {func(_ *bench, c *testCatalog) {
			for i := range c.bill.Builds {
				c.bill.Builds[i].Build.Version = "1.1"
			}
		}, protocol.VerdictSoftware, "not among the software"},
		"a coordinator that swaps the digest": {func(_ *bench, c *testCatalog) {
			c.bill.Builds[0].Build.Digest = protocol.DigestOf([]byte("other"))
		}, protocol.VerdictSoftware, "signature is not that of ann"},
		"another cluster's root": {func(b *bench, _ *testCatalog) {
			b.catalog.Trust.Pin = protocol.DigestOf([]byte("another key"))
		}, protocol.VerdictSoftware, "not trusted"},
		"a publisher whom the site does not list": {func(b *bench, _ *testCatalog) {
			b.catalog.Trust.Publishers = []protocol.PublisherKey{make([]byte, 32)}
		}, protocol.VerdictSoftware, "does not list"},
		"a store that gives other bytes": {func(b *bench, c *testCatalog) {
			if err := os.WriteFile(b.blobs.path(c.bill.Builds[0].Build.Digest), []byte("other bytes"), 0o600); err != nil {
				b.t.Fatal(err)
			}
		}, protocol.VerdictSoftware, "do not match"},
		"a store without end": {func(b *bench, c *testCatalog) {
			path := b.blobs.path(c.bill.Builds[0].Build.Digest)
			if err := os.Remove(path); err != nil {
				b.t.Fatal(err)
			}
			if err := os.Symlink("/dev/zero", path); err != nil {
				b.t.Fatal(err)
			}
		}, protocol.VerdictSoftware, "more bytes than were published"},
		"no bill": {func(b *bench, _ *testCatalog) { b.lease.Software = protocol.Digest{} }, protocol.VerdictSoftware, "no resource of the document"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			catalog := newTestCatalog(t, b)
			catalog.publish("linux-x86_64-v2", "level two")
			catalog.publish("linux-x86_64", "any linux")
			catalog.publish("linux-x86_64-v4", "level four")
			c.spoil(b, catalog)
			report := b.run(t.Context(), usesTools)
			told := report.Evidence
			if report.Verdict == protocol.VerdictOK {
				told = b.log
			}
			if report.Verdict != c.verdict || !strings.Contains(told, c.says) {
				t.Errorf("verdict %v, %q; want %v with %q", report.Verdict, told, c.verdict, c.says)
			}
		})
	}
}

// A record that was restored into another cluster has bills of the former root. What
// publishers have signed anew is taken if it is the same bytes, and nothing else is.
func TestPublishedSoftwareAfterARestore(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change  func(*protocol.SoftwareProof)
		verdict protocol.Verdict
	}{
		"signed anew":            {func(*protocol.SoftwareProof) {}, protocol.VerdictOK},
		"not signed anew":        {func(p *protocol.SoftwareProof) { p.Software = nil }, protocol.VerdictSoftware},
		"other bytes":            {func(p *protocol.SoftwareProof) { p.Software[0].Build.Digest[0] ^= 1 }, protocol.VerdictSoftware},
		"another signature":      {func(p *protocol.SoftwareProof) { p.Software[0].Signature[0] ^= 1 }, protocol.VerdictSoftware},
		"a root of its own":      {func(p *protocol.SoftwareProof) { p.Root = []byte("root") }, protocol.VerdictSoftware},
		"without a certificate":  {func(p *protocol.SoftwareProof) { p.Publishers = nil }, protocol.VerdictSoftware},
		"a build for others too": {func(p *protocol.SoftwareProof) { p.Software = append(p.Software, p.Software[0]) }, protocol.VerdictOK},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			former := newTestCatalog(t, b)
			former.publish("any", "still here")
			bill := former.bill
			now := newTestCatalog(t, b) // with another root and other keys, which the pilot now trusts
			now.publish("any", "still here")
			proof := &protocol.SoftwareProof{
				Software: []protocol.Software{{SignedBuild: now.bill.Builds[0]}}, Root: now.bill.Root,
				Publishers: []protocol.Publisher{{User: "ann", Certificate: now.bill.Certificates[0]}},
			}
			c.change(proof)
			now.bill = bill
			now.proof = func() (*protocol.SoftwareProof, error) { return proof, nil }
			if report := b.run(t.Context(), usesTools); report.Verdict != c.verdict {
				t.Errorf("verdict %v, %s; want %v", report.Verdict, report.Evidence, c.verdict)
			}
		})
	}
}

// A build that coordinators do not keep comes from its URL.
func TestPublishedSoftwareOfAnArea(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	catalog := newTestCatalog(t, b)
	content := catalog.publish("any", "from afar")
	area := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }))
	defer area.Close()
	build := &catalog.bill.Builds[0]
	build.URL = area.URL + "/tools.tar.zst"
	if err := os.Remove(b.blobs.path(build.Build.Digest)); err != nil {
		t.Fatal(err)
	}
	if report := b.run(t.Context(), usesTools); report.Verdict != protocol.VerdictOK || !strings.Contains(b.log, "from afar") {
		t.Errorf("verdict %v, %s; log %q", report.Verdict, report.Evidence, b.log)
	}
}

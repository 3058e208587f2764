package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

func newCluster(t testing.TB, name string, node protocol.NodeID) *Cluster {
	t.Helper()
	c, err := InitCluster(filepath.Join(t.TempDir(), "keys"), name, node)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func csrOf(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	csr, err := transport.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// join has a second coordinator join c, as the verb does.
func join(t testing.TB, c *Cluster, node protocol.NodeID) *Cluster {
	t.Helper()
	key, err := NewCoordinatorKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := c.CertifyCoordinator(csrOf(t, key), node)
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := c.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	reply := &protocol.JoinCoordinatorReply{Certificate: chain, Node: node, Cluster: c.Name(), Secrets: secrets}
	joined, err := JoinCluster(filepath.Join(t.TempDir(), "keys"), c.Pin(), key, reply)
	if err != nil {
		t.Fatal(err)
	}
	return joined
}

func TestClusterIsReadBackAndKeptPrivate(t *testing.T) {
	c := newCluster(t, "test", "n1")
	again, err := LoadCluster(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Name() != "test" || again.Node() != "n1" || again.Pin() != c.Pin() || again.AddressKey() != c.AddressKey() {
		t.Errorf("read back as %s %s", again.Name(), again.Node())
	}
	err = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := InitCluster(c.dir, "other", "n1"); err == nil {
		t.Error("InitCluster overwrote a folder of keys")
	}
}

func TestDamagedFolderIsRefused(t *testing.T) {
	other := newCluster(t, "test", "n1")
	for _, name := range []string{secretsFile, chainFile, keyFile} {
		c := newCluster(t, "test", "n1")
		path := filepath.Join(c.dir, name)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadCluster(c.dir); err == nil {
			t.Errorf("without %s: no error", name)
		}
		foreign, err := os.ReadFile(filepath.Join(other.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, foreign, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadCluster(c.dir); err == nil {
			t.Errorf("with another cluster's %s: no error", name)
		}
	}
	if _, err := LoadCluster(t.TempDir()); err == nil || !strings.Contains(err.Error(), "floe init") {
		t.Errorf("empty folder: %v, want advice", err)
	}
}

func TestJoinedCoordinatorHoldsTheSameSecrets(t *testing.T) {
	a := newCluster(t, "test", "n1")
	b := join(t, a, "n2")
	task, lease := protocol.TaskID{Dataset: 1, Job: 2, Task: 3}, protocol.LeaseID{Index: 4, Ordinal: 5}
	if a.Passkey(task, lease, protocol.Digest{6}, [16]byte{7}) != b.Passkey(task, lease, protocol.Digest{6}, [16]byte{7}) {
		t.Error("the two derive different passkeys")
	}
	plain, err := b.Open("credential", a.Seal("credential", []byte("x")))
	if err != nil || string(plain) != "x" {
		t.Errorf("what one sealed the other opens as %q, %v", plain, err)
	}
	if _, err := b.Open("another purpose", a.Seal("credential", []byte("x"))); err == nil {
		t.Error("a sealed value opened for another purpose")
	}
	if b.Node() != "n2" {
		t.Errorf("Node() = %s, want n2", b.Node())
	}
	if _, err := os.Stat(filepath.Join(b.dir, rootKeyFile)); err == nil {
		t.Error("the root's key travelled")
	}
}

func TestJoinRefusesAnotherRoot(t *testing.T) {
	a, other := newCluster(t, "test", "n1"), newCluster(t, "test", "n1")
	key, err := NewCoordinatorKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := other.CertifyCoordinator(csrOf(t, key), "n2")
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := other.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	reply := &protocol.JoinCoordinatorReply{Certificate: chain, Cluster: "test", Secrets: secrets}
	if _, err := JoinCluster(filepath.Join(t.TempDir(), "keys"), a.Pin(), key, reply); err == nil {
		t.Error("joined a cluster with another root than the token's")
	}
}

func TestCertificatesSayWhatTheAuthorityWasTold(t *testing.T) {
	c := newCluster(t, "test", "n1")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// A request that asks for more than it should.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin"}, DNSNames: []string{"pilot.test"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "test", Path: "/coordinator/n1"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, public, err := c.CertifyPilot(csr, "zeuthen", "p-1")
	if err != nil || !public.Equal(key.Public()) {
		t.Fatalf("CertifyPilot = %v, %v", public, err)
	}
	cert, err := transport.AssembleCertificate(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := transport.IdentityOf(cert.Leaf)
	if err != nil || id.String() != "spiffe://test/site/zeuthen/pilot/p-1" || len(cert.Leaf.DNSNames) != 0 {
		t.Errorf("identity %v %q, %v", id, cert.Leaf.DNSNames, err)
	}
	if life := time.Until(cert.Leaf.NotAfter); life > PilotLife {
		t.Errorf("lives %v, at most %v", life, PilotLife)
	}
	if n := len(cert.Certificate); n != 1 {
		t.Errorf("a pilot shows %d certificates, want its leaf alone", n)
	}
	verify := func(usage x509.ExtKeyUsage) error {
		_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: c.Issuers(), KeyUsages: []x509.ExtKeyUsage{usage}})
		return err
	}
	if err := verify(x509.ExtKeyUsageClientAuth); err != nil {
		t.Errorf("as a client: %v", err)
	}
	if err := verify(x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("a pilot's certificate serves as a coordinator's")
	}
}

func TestAuthorityRefuses(t *testing.T) {
	c := newCluster(t, "test", "n1")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tampered := csrOf(t, key)
	tampered[len(tampered)-1] ^= 1
	coordinatorKey, err := NewCoordinatorKey()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]func() error{
		"no request":      func() error { _, _, err := c.CertifySite(nil, "a"); return err },
		"a bad signature": func() error { _, _, err := c.CertifySite(tampered, "a"); return err },
		"another curve":   func() error { _, _, err := c.CertifySite(csrOf(t, p384), "a"); return err },
		"a pilot without Ed25519": func() error {
			_, _, err := c.CertifyPilot(csrOf(t, coordinatorKey), "a", "p")
			return err
		},
		"a name with a slash": func() error { _, _, err := c.CertifyPilot(csrOf(t, key), "a/pilot/b", "p"); return err },
		"no name":             func() error { _, _, err := c.CertifyCoordinator(csrOf(t, key), ""); return err },
		"renewal for another key": func() error {
			_, err := c.RenewSite(csrOf(t, key), transport.Caller{Kind: transport.Site, Site: "a", KeyFingerprint: protocol.Digest{1}})
			return err
		},
		"renewal by a pilot": func() error {
			_, err := c.RenewSite(csrOf(t, key), transport.Caller{Kind: transport.Pilot, Site: "a"})
			return err
		},
	}
	for what, f := range tests {
		if f() == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func TestSiteRenewsWithItsKey(t *testing.T) {
	c := newCluster(t, "test", "n1")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, holder, err := c.CertifySite(csrOf(t, key), "a")
	if err != nil {
		t.Fatal(err)
	}
	chain, err := c.RenewSite(csrOf(t, key), transport.Caller{Kind: transport.Site, Site: "a", KeyFingerprint: holder})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.AssembleCertificate(chain, key); err != nil {
		t.Error(err)
	}
}

func TestPasskeyDependsOnEverything(t *testing.T) {
	task, lease := protocol.TaskID{Dataset: 1, Job: 2, Task: 3}, protocol.LeaseID{Index: 4, Ordinal: 5}
	key, fingerprint, nonce := [32]byte{1}, protocol.Digest{2}, [16]byte{3}
	// The derivation is part of the protocol between coordinators of two versions.
	const want = "floe_pk_vo23oopzjiz5br2o656lbnnq66wc5rhp6ojhkcikm75mv72fzama"
	if got := Passkey(key, task, lease, fingerprint, nonce).Reveal(); got != want {
		t.Errorf("Passkey = %s, want %s", got, want)
	}
	seen := map[string]string{}
	for what, p := range map[string]protocol.Passkey{
		"base":        Passkey(key, task, lease, fingerprint, nonce),
		"epoch":       Passkey([32]byte{9}, task, lease, fingerprint, nonce),
		"task":        Passkey(key, protocol.TaskID{Dataset: 1, Job: 2, Task: 4}, lease, fingerprint, nonce),
		"lease":       Passkey(key, task, protocol.LeaseID{Index: 4, Ordinal: 6}, fingerprint, nonce),
		"fingerprint": Passkey(key, task, lease, protocol.Digest{9}, nonce),
		"nonce":       Passkey(key, task, lease, fingerprint, [16]byte{9}),
	} {
		if before, twice := seen[p.Reveal()]; twice {
			t.Errorf("%s gives the passkey of %s", what, before)
		}
		seen[p.Reveal()] = what
	}
}

// The derivation is HKDF, as the standard library has it.
func TestPasskeyIsHKDF(t *testing.T) {
	var epoch [32]byte
	var nonce [16]byte
	var fingerprint protocol.Digest
	for range 100 {
		_, _ = rand.Read(epoch[:])
		_, _ = rand.Read(nonce[:])
		_, _ = rand.Read(fingerprint[:])
		task, lease := protocol.TaskID{Dataset: protocol.DatasetID(epoch[0]), Job: protocol.JobIndex(epoch[1]), Task: 7}, protocol.LeaseID{Index: uint64(nonce[0]), Ordinal: 5}
		info := []byte("floe passkey v1\x00")
		info = binary.BigEndian.AppendUint32(info, uint32(task.Dataset))
		info = binary.BigEndian.AppendUint32(info, uint32(task.Job))
		info = binary.BigEndian.AppendUint16(info, uint16(task.Task))
		id := lease.Bytes()
		key, err := hkdf.Key(sha256.New, epoch[:], nonce[:], string(append(append(info, id[:]...), fingerprint[:]...)), 32)
		if err != nil {
			t.Fatal(err)
		}
		want := "floe_pk_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key))
		if got := Passkey(epoch, task, lease, fingerprint, nonce).Reveal(); got != want {
			t.Fatalf("Passkey = %s, want %s", got, want)
		}
	}
}

func TestOwnCertificateIsRenewedInTime(t *testing.T) {
	c := newCluster(t, "test", "n1")
	synctest.Test(t, func(t *testing.T) {
		// The bubble's clock begins long before the certificates do.
		<-time.After(time.Until(c.leaf.Leaf.NotBefore.Add(clockSkew)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, slog.New(slog.DiscardHandler), "floe.example.org", "10.1.2.3") }()
		synctest.Wait()
		leaf, _ := c.Certificate()
		if err := leaf.Leaf.VerifyHostname("floe.example.org"); err != nil {
			t.Error(err)
		}
		if err := leaf.Leaf.VerifyHostname("10.1.2.3"); err != nil {
			t.Error(err)
		}
		for range 90 {
			<-time.After(24 * time.Hour)
			synctest.Wait()
			leaf, _ = c.Certificate()
			if left := time.Until(leaf.Leaf.NotAfter); left < CoordinatorLife/3 {
				t.Fatalf("%v left of the certificate", left)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	again, err := LoadCluster(c.dir)
	if err != nil || !again.leaf.Leaf.Equal(c.leaf.Leaf) {
		t.Errorf("the renewed certificate is not on disk: %v", err)
	}
}

func TestSecretsAreHiddenFromFmt(t *testing.T) {
	c := newCluster(t, "test", "n1")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, *c.secrets); got != "[secrets]" {
			t.Errorf("Sprintf(%s) shows secrets", verb)
		}
	}
}

func FuzzParseSecrets(f *testing.F) {
	c := newCluster(f, "test", "n1")
	b, err := c.Secrets()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSecrets(b)
		if err == nil {
			_, _ = newAuthority(s) // refuses or accepts, and does not panic
		}
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

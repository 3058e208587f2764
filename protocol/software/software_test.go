package software

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"floe/protocol"
)

// authority is a root or what a root has signed.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, parent *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	by := &authority{c, key}
	if parent != nil {
		by = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) trust() *Trust {
	return &Trust{Cluster: "ice", Pin: protocol.DigestOf(a.cert.RawSubjectPublicKeyInfo)}
}

func (a *authority) certify(t testing.TB, user protocol.UserID, key ed25519.PrivateKey) []byte {
	t.Helper()
	der, err := Certify(a.cert, a.key, "ice", user, protocol.PublisherKey(key.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func build(platform string) protocol.Build {
	return protocol.Build{
		Cluster: "ice", Name: "icetray", Version: "1.0", Platform: platform, Publisher: "ann",
		Digest: protocol.DigestOf([]byte(platform)), Size: 100, Manifest: protocol.DigestOf([]byte("manifest")), Files: 2, Unpacked: 300,
	}
}

func signed(t testing.TB, key ed25519.PrivateKey, b protocol.Build) protocol.SignedBuild {
	t.Helper()
	s, err := Sign(key, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return *s
}

func TestBillIsVerified(t *testing.T) {
	root, key := newAuthority(t, nil), newKey(t)
	bill := &Bill{Root: root.cert.Raw, Certificates: [][]byte{root.certify(t, "ann", key)}, Builds: []protocol.SignedBuild{signed(t, key, build("any"))}}
	text, err := bill.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBill(text)
	if err != nil {
		t.Fatal(err)
	}
	trust := root.trust()
	builds, err := got.Version(trust, "icetray", "1.0")
	if err != nil || len(builds) != 1 {
		t.Fatalf("Version = %v, %v; want one build", builds, err)
	}
	trust.Publishers = []protocol.PublisherKey{bill.Builds[0].Key}
	if _, err := got.Version(trust, "icetray", "1.0"); err != nil {
		t.Errorf("Version, the key being listed: %v", err)
	}
	if builds, err := got.Version(trust, "icetray", "2.0"); err != nil || len(builds) != 0 {
		t.Errorf("Version of another version = %v, %v", builds, err)
	}
}

// Of a version that several have built, a site uses those of publishers it lists.
func TestOnlyListedPublishers(t *testing.T) {
	root, ann, bob := newAuthority(t, nil), newKey(t), newKey(t)
	theirs := build("linux-x86_64")
	theirs.Publisher = "bob"
	bill := &Bill{
		Root: root.cert.Raw, Certificates: [][]byte{root.certify(t, "ann", ann), root.certify(t, "bob", bob)},
		Builds: []protocol.SignedBuild{signed(t, ann, build("any")), signed(t, bob, theirs)},
	}
	trust := root.trust()
	trust.Publishers = []protocol.PublisherKey{bill.Builds[0].Key}
	builds, err := bill.Version(trust, "icetray", "1.0")
	if err != nil || len(builds) != 1 || builds[0].Build.Publisher != "ann" {
		t.Errorf("Version = %v, %v; want the build of ann alone", builds, err)
	}
	bill.Builds[1].Signature[0] ^= 1 // nobody's business here
	if _, err := bill.Version(trust, "icetray", "1.0"); err != nil {
		t.Errorf("Version, the other's signature being wrong: %v", err)
	}
	trust.Publishers = nil
	if _, err := bill.Version(trust, "icetray", "1.0"); !errors.Is(err, ErrUntrusted) {
		t.Errorf("Version, both being listed: %v, want ErrUntrusted", err)
	}
}

// Whatever a coordinator, its store or the network changes is noticed.
func TestWhatIsNotTrusted(t *testing.T) {
	root, key := newAuthority(t, nil), newKey(t)
	issuing, other, thief := newAuthority(t, root), newAuthority(t, nil), newKey(t)
	for name, change := range map[string]func(*Bill, *Trust){
		"digest":    func(b *Bill, _ *Trust) { b.Builds[0].Build.Digest[3] ^= 1 },
		"size":      func(b *Bill, _ *Trust) { b.Builds[0].Build.Size++ },
		"manifest":  func(b *Bill, _ *Trust) { b.Builds[0].Build.Manifest[0] ^= 1 },
		"platform":  func(b *Bill, _ *Trust) { b.Builds[0].Build.Platform = "linux-x86_64" },
		"cluster":   func(_ *Bill, t *Trust) { t.Cluster = "snow" },
		"signature": func(b *Bill, _ *Trust) { b.Builds[0].Signature[5] ^= 1 },
		"another person's name": func(b *Bill, _ *Trust) {
			b.Builds[0].Build.Publisher = "bob"
		},
		"signed for another cluster": func(b *Bill, _ *Trust) {
			x := build("any")
			x.Cluster = "snow"
			b.Builds[0] = signed(t, key, x)
		},
		"signed with a key that nobody certified": func(b *Bill, _ *Trust) { b.Builds[0] = signed(t, thief, build("any")) },
		"certified by the issuing authority, as any coordinator could": func(b *Bill, _ *Trust) {
			b.Builds[0], b.Certificates = signed(t, thief, build("any")), [][]byte{issuing.certify(t, "ann", thief)}
		},
		"certified by another root": func(b *Bill, _ *Trust) {
			b.Builds[0], b.Certificates, b.Root = signed(t, thief, build("any")), [][]byte{other.certify(t, "ann", thief)}, other.cert.Raw
		},
		"certified as somebody else": func(b *Bill, _ *Trust) {
			b.Builds[0], b.Certificates = signed(t, thief, build("any")), [][]byte{root.certify(t, "eve", thief)}
		},
		"the issuing authority as a publisher": func(b *Bill, _ *Trust) { b.Certificates = [][]byte{issuing.cert.Raw} },
		"no certificate":                       func(b *Bill, _ *Trust) { b.Certificates = nil },
		"a key that the site does not list": func(_ *Bill, t *Trust) {
			t.Publishers = []protocol.PublisherKey{make([]byte, ed25519.PublicKeySize)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bill := &Bill{Root: root.cert.Raw, Certificates: [][]byte{root.certify(t, "ann", key)}, Builds: []protocol.SignedBuild{signed(t, key, build("any"))}}
			trust := root.trust()
			change(bill, trust)
			if builds, err := bill.Version(trust, "icetray", "1.0"); !errors.Is(err, ErrUntrusted) || builds != nil {
				t.Errorf("Version = %v, %v; want ErrUntrusted", builds, err)
			}
		})
	}
}

func TestCertificateEnds(t *testing.T) {
	root, key := newAuthority(t, nil), newKey(t)
	c, err := root.trust().Certificate(root.cert.Raw, root.certify(t, "ann", key))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Good(time.Now()); err != nil {
		t.Errorf("today: %v", err)
	}
	if err := c.Good(time.Now().Add(CertificateLife + time.Hour)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("after its end: %v, want ErrUntrusted", err)
	}
	if err := c.Good(time.Now().AddDate(-1, 0, 0)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a year before: %v, want ErrUntrusted", err)
	}
}

func TestChoose(t *testing.T) {
	debian := Node{Platform: "debian_12-x86_64-glibc2.36", Tags: []string{"x86-64-v1", "x86-64-v2", "x86-64-v3", "ib"}}
	with := func(ids ...string) Node {
		n := debian
		n.GPUs = ids
		return n
	}
	for _, c := range []struct {
		what   string
		node   Node
		builds []string
		want   string
	}{
		{"scripts everywhere", debian, []string{"any"}, "any"},
		{"a build for linux before any", debian, []string{"any", "linux-x86_64"}, "linux-x86_64"},
		{"a distribution before linux", debian, []string{"linux-x86_64-glibc2.36", "debian-x86_64", "debian_12-x86_64"}, "debian_12-x86_64"},
		{"the highest level that runs", debian, []string{"linux-x86_64-v2", "linux-x86_64-v3", "linux-x86_64-v4"}, "linux-x86_64-v3"},
		{"the level before the distribution", debian, []string{"debian_12-x86_64", "linux-x86_64-v2"}, "linux-x86_64-v2"},
		{"the newest C library that runs", debian, []string{"linux-x86_64-glibc2.17", "linux-x86_64-glibc2.38", "linux-x86_64-glibc2.28", "linux-x86_64"}, "linux-x86_64-glibc2.28"},
		{"no card, no build for it", debian, []string{"linux-x86_64+cuda", "linux-x86_64"}, "linux-x86_64"},
		{"a card", with("0"), []string{"linux-x86_64+cuda", "linux-x86_64-v3"}, "linux-x86_64+cuda"},
		{"a card of AMD", with("AMD-0"), []string{"linux-x86_64+cuda", "linux-x86_64+rocm"}, "linux-x86_64+rocm"},
		{"a card that only OpenCL knows", with("OCL-0.1"), []string{"linux-x86_64+cuda", "linux-x86_64+rocm", "linux-x86_64+opencl"}, "linux-x86_64+opencl"},
		{"a tag", debian, []string{"linux-x86_64", "linux-x86_64+ib", "linux-x86_64+opa"}, "linux-x86_64+ib"},
		{"another machine", debian, []string{"linux-aarch64"}, ""},
		{"unknown rules", debian, []string{"linux-x86_64-v9"}, ""},
	} {
		var builds []protocol.SignedBuild
		for _, p := range c.builds {
			builds = append(builds, protocol.SignedBuild{Build: build(p)})
		}
		for range 2 {
			best, why := Choose(builds, &c.node)
			got := ""
			if best != nil {
				got = best.Build.Platform
			}
			if got != c.want || got == "" && len(why) != len(builds) {
				t.Errorf("%s: Choose(%q) = %q, %q; want %q", c.what, c.builds, got, why, c.want)
			}
			slices.Reverse(builds) // the order of the list does not matter
		}
	}
	if _, why := Choose([]protocol.SignedBuild{{Build: build("linux-x86_64-v4")}}, &debian); len(why) != 1 || !strings.Contains(why[0], "x86-64-v4") {
		t.Errorf("why = %q, want the level named", why)
	}
}

// A bill that is read is written as it was; one that is damaged gives nothing.
func FuzzDecodeBill(f *testing.F) {
	root, key := newAuthority(f, nil), newKey(f)
	bill := &Bill{Root: root.cert.Raw, Certificates: [][]byte{root.certify(f, "ann", key)}, Builds: []protocol.SignedBuild{signed(f, key, build("any"))}}
	text, err := bill.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte{0xa3, 1, 0x40, 2, 0x80, 3, 0x80})
	f.Add([]byte{})
	trust := root.trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeBill(b)
		if err != nil {
			return
		}
		builds, err := got.Version(trust, "icetray", "1.0")
		if err == nil && len(builds) > 0 {
			if builds[0].Build != bill.Builds[0].Build {
				t.Errorf("verified what was never signed: %+v", builds[0].Build)
			}
		}
	})
}

func FuzzDecodeManifest(f *testing.F) {
	m := Manifest{[]File{{Path: "a", Kind: Folder}, {Path: "a/b", Kind: Link, Target: "c"}, {Path: "d", Kind: Program, Size: 3, Digest: protocol.DigestOf([]byte("abc"))}}}
	b, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xa1, 1, 0x80})
	f.Add([]byte{0xa1, 1, 0xf6})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeManifest(again); err != nil || len(m.Differences(got, 1)) != 0 {
			t.Errorf("a manifest comes back as %+v, %v", got, err)
		}
	})
}

package transport

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// A pilot's own connection proves its reports only if both fingerprints are taken of
// the same bytes.
func TestKeyFingerprintIsThatOfACertificate(t *testing.T) {
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := KeyFingerprint(key), Fingerprint(&x509.Certificate{RawSubjectPublicKeyInfo: spki}); got != want {
		t.Errorf("KeyFingerprint = %v, want %v", got, want)
	}
	if got := KeyFingerprint(key[:31]); got != (protocol.Digest{}) {
		t.Errorf("KeyFingerprint of 31 bytes = %v, want none", got)
	}
}

func TestParseIdentity(t *testing.T) {
	tests := []struct {
		text string
		want Identity
	}{
		{"spiffe://test/site/zeuthen", Identity{Cluster: "test", Kind: Site, Site: "zeuthen"}},
		{"spiffe://prod.example.org/site/a.b/pilot/p-x2", Identity{Cluster: "prod.example.org", Kind: Pilot, Site: "a.b", Pilot: "p-x2"}},
		{"spiffe://test/coordinator/n1", Identity{Cluster: "test", Kind: Coordinator, Node: "n1"}},
	}
	for _, test := range tests {
		got, err := ParseIdentity(test.text)
		if d := cmp.Diff(test.want, got); d != "" || err != nil {
			t.Errorf("ParseIdentity(%q): %v, -want +got:\n%s", test.text, err, d)
		}
		if got.String() != test.text {
			t.Errorf("String() = %q, want %q", got.String(), test.text)
		}
	}
	for _, text := range []string{
		"", "spiffe://", "spiffe://test", "spiffe://test/", "spiffe://test/site/", "spiffe://test/site/a/", "http://test/site/a",
		"spiffe://Test/site/a", "spiffe://test/site/a/pilot/", "spiffe://test/site/a/b/c", "spiffe://test/coordinator/n1/x",
		"spiffe://test/site/%2e", "spiffe://test/site/../coordinator/n1", "spiffe://u@test/site/a", "spiffe://test:1/site/a",
		"spiffe://test/site/a?x", "spiffe://test/site/a#x", "spiffe://test/user/u", "spiffe://-a/site/b", "spiffe://a..b/site/c",
	} {
		if got, err := ParseIdentity(text); err == nil {
			t.Errorf("ParseIdentity(%q) = %+v, want an error", text, got)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("spiffe://test/site/zeuthen/pilot/p-1")
	f.Add("spiffe://test/site/zeuthen")
	f.Add("spiffe://test/coordinator/n1")
	f.Add("spiffe://test/site/%2e%2e/pilot/x")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseIdentity(text)
		if err != nil {
			return
		}
		if id.String() != text {
			t.Errorf("%q reads as %+v and writes as %q", text, id, id.String())
		}
		if err := id.Check(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func FuzzDecodeError(f *testing.F) {
	f.Add(429, TypeProblem, []byte(`{"code":"busy","detail":"later","retry_after":3,"errors":["a",{"message":"m","location":"l"}]}`))
	f.Add(500, TypeCBOR, []byte{0xa2, 1, 8, 2, 0x61, 'x'})
	f.Add(502, "text/html", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, mediaType string, body []byte) {
		if e := decodeError(status, mediaType, body); e.Code == 0 || e.Message == "" {
			t.Errorf("decodeError(%d, %q, %q) = %+v, want a code and a message", status, mediaType, body, e)
		}
	})
}

func TestDoorOf(t *testing.T) {
	for name, want := range map[string]Door{
		"pilot.test": DoorPilot, "PILOT.test.": DoorPilot, "site.test": DoorSite, "peer.test": DoorPeer, "enrol.test": DoorEnrol,
		"api.test": DoorPeople, "": DoorPeople, "test": DoorPeople, "pilot.other": DoorPeople, "x.pilot.test": DoorPeople,
		"floe.example.org": DoorPeople, "pilottest": DoorPeople,
	} {
		if got := doorOf(name, "test"); got != want {
			t.Errorf("doorOf(%q) = %v, want %v", name, got, want)
		}
	}
}

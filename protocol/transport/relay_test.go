package transport

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"floe/protocol"
)

func TestARelayPassIsALineWithoutItsSecret(t *testing.T) {
	text, err := NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseRelayKey(text)
	if err != nil {
		t.Fatal(err)
	}
	p := key.Issue("head.example.org:4490", "a.b-c", time.Unix(1_900_000_000, 0))
	again, err := ParseRelayPass(p.Text() + "\n")
	if err != nil || *again != *p {
		t.Fatalf("ParseRelayPass = %v, %v", again, err)
	}
	if shown := fmt.Sprint(p, *p, p.Secret); strings.Contains(shown, p.Secret.Reveal()) {
		t.Errorf("shown: %s", shown)
	}
	for _, wrong := range []string{
		"", "FLOERELAY1", strings.Replace(p.Text(), "@", "", 1), strings.Replace(p.Text(), "FLOERELAY1", "FLOERELAY2", 1),
		p.Text()[:len(p.Text())-5], strings.Replace(p.Text(), ".1900000000.", ".-1.", 1), strings.Replace(p.Text(), "head", "he ad", 1),
		strings.Replace(p.Text(), p.Secret.Reveal(), p.Secret.Reveal()[1:], 1), strings.ToUpper(p.Text()),
	} {
		if got, err := ParseRelayPass(wrong); err == nil {
			t.Errorf("ParseRelayPass(%q) = %v", wrong, got)
		} else if strings.Contains(err.Error(), p.Secret.Reveal()) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
	same, err := ParseRelayKey(text)
	if err != nil || same.Issue(p.Address, p.Launch, time.Unix(p.Expires, 0)).Text() != p.Text() {
		t.Errorf("the same key makes other passes: %v", err)
	}
	if _, err := ParseRelayKey([]byte("nonsense")); err == nil {
		t.Error("ParseRelayKey takes nonsense")
	}
}

func FuzzParseRelayPass(f *testing.F) {
	pass := &RelayPass{Address: "h:1", Pin: protocol.DigestOf(nil), Launch: "l", Expires: 1, Secret: protocol.Secret(protocol.DigestOf(nil).Hex())}
	f.Add(pass.Text())
	f.Add("FLOERELAY1.a.b.c.d@e:1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseRelayPass(text)
		if err != nil {
			return
		}
		if p.Text() != strings.TrimSpace(text) {
			t.Errorf("%q is read as %q", text, p.Text())
		}
	})
}

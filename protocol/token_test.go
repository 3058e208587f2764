package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTokenTextIsReadBack(t *testing.T) {
	pin := DigestOf([]byte("root"))
	for _, addresses := range [][]string{nil, {"a.example.org:443"}, {"10.0.0.1:4433", "[2001:db8::1]:443"}} {
		for role := TokenUser; role <= TokenPilot; role++ {
			want := NewToken(role, pin, "prod.example.org", addresses...)
			if role == TokenSite {
				want.ID = "desy.zeuthen-1"
			}
			got, err := ParseToken(" " + want.Text() + "\n")
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%v: %v, -want +got:\n%s", want, err, d)
			}
			id, secret, err := ParseCredential(want.Credential())
			if err != nil || id != want.ID || !secret.Matches(want.Secret) {
				t.Errorf("ParseCredential = %s, %v", id, err)
			}
		}
	}
}

func TestTokenErrorsHelpAndHideTheSecret(t *testing.T) {
	good := NewToken(TokenSite, DigestOf([]byte("root")), "prod", "a:1")
	text, secret := good.Text(), string(good.Secret)
	tests := []struct{ text, want string }{
		{"", "FLOE1"},
		{"FLOE2" + text[5:], "FLOE1"},
		{text[:len(text)/2], "cut"},
		{strings.Replace(text, ".site.", ".king.", 1), "role"},
		{strings.Replace(text, "@prod", "", 1), "cut"},
		{strings.Replace(text, "@prod", "@", 1), "cluster"},
		{strings.Replace(text, "/a:1", "/a", 1), "host:port"},
		{strings.Replace(text, "/a:1", "/", 1), "host:port"},
		{strings.Replace(text, "/a:1", "/a:0", 1), "host:port"},
		{strings.Replace(text, secret, "short", 1), "secret"},
		{strings.Replace(text, secret, strings.ToUpper(secret), 1), "secret"},
		{strings.ToUpper(text), "role"},
		{text + strings.Repeat("x", maxTokenText), "longer"},
	}
	for _, test := range tests {
		_, err := ParseToken(test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("ParseToken(%.60q…) error = %v, want one that mentions %q", test.text, err, test.want)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

func TestSecretsAreHidden(t *testing.T) {
	token := NewToken(TokenUser, Digest{1}, "prod")
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&shown, verb+"\n", token.Secret)
		fmt.Fprintf(&shown, verb+"\n", struct{ S Secret }{token.Secret})
	}
	fmt.Fprintf(&shown, "%v %s %+v", token, token, struct{ T Token }{token})
	for _, h := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
		slog.New(h).Info("x", "secret", token.Secret, "token", token, "inside", struct{ S Secret }{token.Secret})
	}
	if err := json.NewEncoder(&shown).Encode(token); err != nil {
		t.Fatal(err)
	}
	secret := string(token.Secret)
	if s := shown.String(); strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", secret)) {
		t.Errorf("the secret is shown:\n%s", s)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(NewToken(TokenPilot, DigestOf(nil), "prod", "a:1", "[::1]:443").Text())
	f.Add("FLOE1.site.aaaa.b.c@prod")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		if got := token.Text(); got != strings.TrimSpace(text) {
			t.Errorf("%q reads as what writes as %q", text, got)
		}
	})
}

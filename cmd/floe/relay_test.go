package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"floe/glidein/relay"
	"floe/protocol/errand"
)

// TestErrandsGoToListedStorageAlone sends a relay where it must not go.
func TestErrandsGoToListedStorageAlone(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	listed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, other.URL, http.StatusFound)
			return
		}
		fmt.Fprint(w, "bytes")
	}))
	defer listed.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	do := relayErrands(&relay.Status{Storage: []string{strings.TrimPrefix(listed.URL, "http://")}}, slog.New(slog.DiscardHandler)).Do
	for name, c := range map[string]struct {
		request errand.Request
		want    string // in the error; empty for none
	}{
		"listed":             {errand.Request{Verb: errand.Get, URL: listed.URL + "/x"}, ""},
		"not listed":         {errand.Request{Verb: errand.Get, URL: other.URL}, "no storage that this site lists"},
		"redirected":         {errand.Request{Verb: errand.Get, URL: listed.URL + "/away"}, "no storage that this site lists"},
		"moved away":         {errand.Request{Verb: errand.Move, URL: listed.URL + "/x", To: other.URL}, "no storage that this site lists"},
		"the machine's file": {errand.Request{Verb: errand.Get, URL: "file://" + secret}, "not supported"},
		"another port":       {errand.Request{Verb: errand.Remove, URL: "http://127.0.0.1/"}, "no storage that this site lists"},
	} {
		var out bytes.Buffer
		a := do(t.Context(), c.request, strings.NewReader(""), &out)
		if (a.Error == "") != (c.want == "") || !strings.Contains(a.Error, c.want) {
			t.Errorf("%s: %+v, want %q", name, a, c.want)
		}
		if c.want != "" && out.Len() > 0 {
			t.Errorf("%s: brought %q", name, out.String())
		}
	}
	if reached {
		t.Error("what is not listed was reached")
	}
}

func TestALogIsBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for range 2 { // it goes on in what is there
		b := &boundedFile{path: file, most: 1000}
		for i := range 300 {
			if _, err := fmt.Fprintf(b, "line %03d of a log\n", i); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	all, err := filepath.Glob(file + "*")
	if want := []string{file, file + ".1"}; err != nil || !slices.Equal(all, want) {
		t.Fatalf("files %q, %v, want %q", all, err, want)
	}
	var text []byte
	for _, f := range []string{file + ".1", file} {
		b, err := os.ReadFile(f)
		if err != nil || len(b) > 1000 {
			t.Errorf("%s: %d bytes, %v", f, len(b), err)
		}
		text = append(text, b...)
	}
	if !bytes.HasSuffix(text, []byte("line 298 of a log\nline 299 of a log\n")) || bytes.Count(text, []byte("\n")) < 50 {
		t.Errorf("what was written last is not there:\n%s", text)
	}
}

func TestAddressesAreReadAgainWhenTheyChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.json")
	s := &siteAddresses{file: file}
	if _, err := s.read(); err == nil {
		t.Error("no file, and no error")
	}
	for _, c := range []struct{ text, want string }{
		{`{"addresses": ["a:1"]}`, "[a:1]"}, {`{"addresses": ["b:2", "c:3"]}`, "[b:2 c:3]"}, {`{"addr`, "[b:2 c:3]"}, {`{"addresses": ["d:4"]}`, "[d:4]"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.read(); fmt.Sprint(got) != c.want {
			t.Errorf("after %s: %v, %v, want %s", c.text, got, err, c.want)
		}
	}
}

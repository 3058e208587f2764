package pilot

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"floe/pilot/payload"
)

// TestIsolationThatIsRefused runs in a program that cannot be a keeper, which is
// refused like a node that has no namespaces.
func TestIsolationThatIsRefused(t *testing.T) {
	for _, x := range []struct {
		mode payload.IsolationMode
		err  error
		log  string
	}{
		{payload.IsolationNone, nil, "as the site wants it"},
		{payload.IsolationAuto, nil, "its memory is kept from them"},
		{payload.IsolationRequire, payload.ErrNoIsolation, ""},
	} {
		var said bytes.Buffer
		c := Config{Scratch: t.TempDir(), Isolation: x.mode, Logger: slog.New(slog.NewTextHandler(&said, nil))}
		if found, err := isolate(&c); found != nil || !errors.Is(err, x.err) || !strings.Contains(said.String(), x.log) {
			t.Errorf("%v: isolate = %v, %v; log %q, want %v and %q", x.mode, found, err, said.String(), x.err, x.log)
		}
	}
	c := Config{Scratch: t.TempDir(), Isolation: payload.IsolationAuto, Writable: []string{"/nowhere/data"}, Logger: slog.New(slog.DiscardHandler)}
	if _, err := isolate(&c); err == nil || !strings.Contains(err.Error(), "/nowhere/data") {
		t.Errorf("a writable directory that is not there: %v", err)
	}
}

package replica

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// Raft's messages come one level lower, with its lazy values rendered.
func TestRaftLogger(t *testing.T) {
	var out bytes.Buffer
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	l := newRaftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: noTime})))
	l.Error("no answer", "error", errors.New("timeout"), "peer", "c2")
	l.With("id", "s1").Warn("slow", "took", hclog.Fmt("%d of %d", 1, 2))
	l.Info("follower")
	l.Debug("dropped")
	want := `level=WARN msg="no answer" component=raft err=timeout peer=c2
level=INFO msg=slow component=raft id=s1 took="1 of 2"
level=DEBUG msg=follower component=raft
`
	if got := out.String(); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("log =\n%swant\n%s", got, want)
	}
}

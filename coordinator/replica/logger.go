package replica

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger hands the library's messages to slog one level lower than it meant
// them: what it calls an error (a peer that does not answer) heals itself, and what
// a person must act on blows the fuse and is reported there. Traces are dropped.
type raftLogger struct {
	log  *slog.Logger
	name string
	args []any
}

func newRaftLogger(l *slog.Logger) hclog.Logger {
	return &raftLogger{log: l.With("component", "raft"), name: "raft"}
}

func lowered(level hclog.Level) (slog.Level, bool) {
	switch level {
	case hclog.Error:
		return slog.LevelWarn, true
	case hclog.Warn:
		return slog.LevelInfo, true
	case hclog.Info:
		return slog.LevelDebug, true
	}
	return 0, false
}

// Log writes one message.
func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	lvl, ok := lowered(level)
	if !ok || !l.log.Enabled(context.Background(), lvl) {
		return
	}
	l.log.Log(context.Background(), lvl, msg, attributes(args)...) //nolint:sloglint // the library chooses its words
}

// attributes renders hclog's lazy values and names its errors as ours are named.
func attributes(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case hclog.Format:
			if format, ok := v[0].(string); ok {
				a = fmt.Sprintf(format, v[1:]...)
			}
		case string:
			if i%2 == 0 && v == "error" {
				a = "err"
			}
		}
		out[i] = a
	}
	return out
}

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) enabled(level hclog.Level) bool {
	lvl, ok := lowered(level)
	return ok && l.log.Enabled(context.Background(), lvl)
}

func (l *raftLogger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *raftLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *raftLogger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *raftLogger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *raftLogger) IsError() bool { return l.enabled(hclog.Error) }

// With returns a logger that adds the attributes to each message.
func (l *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{log: l.log.With(attributes(args)...), name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...)}
}

func (l *raftLogger) ImpliedArgs() []any             { return l.args }
func (l *raftLogger) Name() string                   { return l.name }
func (l *raftLogger) Named(string) hclog.Logger      { return l }
func (l *raftLogger) ResetNamed(string) hclog.Logger { return l }
func (l *raftLogger) SetLevel(hclog.Level)           {}
func (l *raftLogger) GetLevel() hclog.Level          { return hclog.NoLevel }

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

func (l *raftLogger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}

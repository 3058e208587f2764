package transport

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"log/slog"

	"github.com/quic-go/quic-go"
)

// addressKeys derives the two keys of QUIC that coordinators share.
func addressKeys(secret [32]byte) (reset quic.StatelessResetKey, token quic.TokenGeneratorKey) {
	copy(reset[:], deriveKey(secret, "floe quic stateless reset v1", len(reset)))
	copy(token[:], deriveKey(secret, "floe quic address token v1", len(token)))
	return reset, token
}

func deriveKey(secret [32]byte, label string, n int) []byte {
	key, err := hkdf.Key(sha256.New, secret[:], nil, label, n)
	if err != nil {
		panic(err) // lengths are constants within what HKDF allows
	}
	return key
}

// quiet lowers everything to Debug: what http3 logs is peers' misbehaviour.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(n string) slog.Handler      { return quiet{q.Handler.WithGroup(n)} }

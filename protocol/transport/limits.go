package transport

import (
	"time"

	"github.com/quic-go/quic-go"
)

// Limits bound what a peer can make a server hold. Zero fields take the default.
type Limits struct {
	// HeaderBytes bounds a request's header; default 32 KiB.
	HeaderBytes int
	// Streams bounds the concurrent requests of one connection; default 32: a pilot
	// needs four (exchange, log, up- and download), a browser more.
	Streams int
	// PeerStreams is the same for a coordinator, which forwards its pilots' parked
	// requests; default 8,192. It holds over TCP, so peers go there: QUIC knows one
	// limit for all, and a stream of it costs a goroutine before anything is read.
	PeerStreams int
	// FirstRequest is how long a connection may take from its first packet to its
	// first request; default 10 s.
	FirstRequest time.Duration
	// Idle closes a connection without a request in progress; default 10 min, twice
	// the longest time between two exchanges of a healthy pilot.
	Idle time.Duration
	// Patience is how long a body may take before it must have come at BytesPerSecond
	// on the average; defaults 10 s and 1 KiB/s.
	Patience       time.Duration
	BytesPerSecond int64
	// Handshakes bounds the handshakes under way; further ones wait. Default 128: an
	// eighth of StrangersPerNet, so that a site's pilots that all return at once wait, and
	// are not refused, even where handshakes take longer than their turn. At round trips
	// of 150 ms these are 850 a second.
	Handshakes int
	// Strangers bounds the connections that have shown neither a certificate nor a token,
	// in the middle of a handshake or after it, and StrangersPerNet those of one /24 or
	// /48; defaults 3,072 and 1,024: people and pilots behind one address translator are
	// many. Source: 300 pilots behind one address, on two busy cores, are refused 752
	// times at 256.
	Strangers       int
	StrangersPerNet int
	// RetryAbove is how many new QUIC connections per second are taken at their
	// word about where they come from; default 200.
	RetryAbove int
	// Drain is how long Run waits for requests in progress when it ends; default 10 s.
	Drain time.Duration
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.HeaderBytes, 32<<10)
	setDefault(&l.Streams, 32)
	setDefault(&l.PeerStreams, 8192)
	setDefault(&l.FirstRequest, 10*time.Second)
	setDefault(&l.Idle, 10*time.Minute)
	setDefault(&l.Patience, 10*time.Second)
	setDefault(&l.BytesPerSecond, 1<<10)
	setDefault(&l.Handshakes, 128)
	setDefault(&l.Strangers, 3072)
	setDefault(&l.StrangersPerNet, 1024)
	setDefault(&l.RetryAbove, 200)
	setDefault(&l.Drain, 10*time.Second)
	return l
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// QUIC values. Source: research on 10,000 idle connections, quic-go v0.65.0;
// windows start small because idle pilots are many, and grow for files.
const (
	quicIdle        = 90 * time.Second
	quicSilence     = 4 * time.Second // three retransmissions or more at round trips up to 150 ms
	quicHandshake   = 10 * time.Second
	quicKeepAlive   = 25 * time.Second // NAT bindings of UDP last 30 s or less
	receiveBudget   = 256 << 20        // all connections of a server together
	uniStreams      = 8                // HTTP/3 itself needs three: control and two for QPACK
	serverStream    = 32 << 10
	serverStreamMax = 4 << 20
	serverConn      = 64 << 10
	serverConnMax   = 6 << 20
	clientStream    = 256 << 10
	clientStreamMax = 6 << 20
	clientConnMax   = 16 << 20
)

func serverQUIC(l *Limits, b *budget) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           quicHandshake,
		MaxIdleTimeout:                 quicIdle,
		InitialStreamReceiveWindow:     serverStream,
		MaxStreamReceiveWindow:         serverStreamMax,
		InitialConnectionReceiveWindow: serverConn,
		MaxConnectionReceiveWindow:     serverConnMax,
		AllowConnectionWindowIncrease:  b.allow,
		MaxIncomingStreams:             int64(l.Streams),
		MaxIncomingUniStreams:          uniStreams,
	}
}

func clientQUIC(keepAlive time.Duration) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           quicHandshake,
		MaxIdleTimeout:                 quicIdle,
		KeepAlivePeriod:                keepAlive,
		InitialStreamReceiveWindow:     clientStream,
		MaxStreamReceiveWindow:         clientStreamMax,
		InitialConnectionReceiveWindow: clientStream,
		MaxConnectionReceiveWindow:     clientConnMax,
		MaxIncomingStreams:             -1,
		MaxIncomingUniStreams:          uniStreams,
	}
}

package transport

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// steadyBody moves the read deadline with what has come, so that a body may be
// long but not slow: after patience it must keep up rate bytes per second.
type steadyBody struct {
	io.ReadCloser
	control  *http.ResponseController
	begun    time.Time
	patience time.Duration
	rate     int64 // bytes per second
	read     int64
	extended time.Time // the deadline in force
}

func newSteadyBody(w http.ResponseWriter, body io.ReadCloser, l *Limits) *steadyBody {
	b := &steadyBody{
		ReadCloser: body, control: http.NewResponseController(w), begun: time.Now(),
		patience: l.Patience, rate: l.BytesPerSecond,
	}
	b.extend()
	return b
}

// extend moves the deadline when at least a second was earned, not at each read.
func (b *steadyBody) extend() {
	deadline := b.begun.Add(b.patience + time.Duration(b.read/b.rate)*time.Second)
	if deadline.After(b.extended) {
		b.extended = deadline
		_ = b.control.SetReadDeadline(deadline) // a writer without deadlines is one in a test
	}
}

func (b *steadyBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case err == nil:
		b.extend()
	case errors.Is(err, io.EOF):
		// The handler may now take its time: a deadline left behind would end an
		// HTTP/1.1 connection that is only parked.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

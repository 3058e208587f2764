package transport

import (
	"net/http"
	"time"
)

// writer remembers whether a reply has begun and, once it is longer than
// smallReply, requires that the peer takes it at a steady pace.
type writer struct {
	http.ResponseWriter
	limits  *Limits
	begun   bool
	status  int // 0 before it is known
	written int64
}

// smallReply fits the buffers between handler and network, so that nobody waits
// for the peer; it keeps the timers away from the many small replies.
const smallReply = 64 << 10

func (w *writer) WriteHeader(status int) {
	if status >= http.StatusOK && !w.begun {
		w.begun, w.status = true, status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun, w.status = true, http.StatusOK
	}
	w.written += int64(len(p))
	if w.written <= smallReply {
		return w.ResponseWriter.Write(p)
	}
	// Cleared afterwards: HTTP/2 ends a stream whose deadline passes between writes.
	c := http.NewResponseController(w.ResponseWriter)
	due := w.limits.Patience + time.Duration(int64(len(p))/w.limits.BytesPerSecond)*time.Second
	_ = c.SetWriteDeadline(time.Now().Add(due))
	n, err := w.ResponseWriter.Write(p)
	_ = c.SetWriteDeadline(time.Time{})
	return n, err
}

// Flush is for handlers that stream events.
func (w *writer) Flush() {
	w.begun = true
	_ = http.NewResponseController(w.ResponseWriter).Flush() // unsupported in some tests only
}

// Unwrap lets http.ResponseController through.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

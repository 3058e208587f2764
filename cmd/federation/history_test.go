package federation

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"floe/pilot"
	"floe/protocol"
)

// operation is one request of a client: between call and back it had its effect,
// once, or not at all. Where err is not nil, it may have its effect at any time
// after the call, or never.
type operation struct {
	client  string
	call    time.Duration
	back    time.Duration
	request *protocol.ExchangeRequest
	reply   *protocol.ExchangeReply
	err     error
}

// recording is what pilots asked and were answered.
type recording struct {
	mu  sync.Mutex
	all []operation // guarded by mu, in order of their ends
}

func (h *recording) add(o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, o)
}

// operations returns all of them. Nobody may be adding.
func (h *recording) operations() []operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all
}

// write writes the history for people.
func (h *recording) write(path string) {
	var b strings.Builder
	for _, o := range h.operations() {
		fmt.Fprintf(&b, "%v … %v %s #%d", o.call, o.back, o.client, o.request.Sequence)
		for _, l := range o.request.Held {
			fmt.Fprintf(&b, " holds %v %v (%v)", l.Lease, l.Task, l.Phase)
		}
		for i := range o.request.Reports {
			if r, err := o.request.Reports[i].Decode(); err == nil {
				fmt.Fprintf(&b, " reports %v %v (%v, cleaned %v)", r.Lease, r.Task, r.Verdict, r.Cleaned)
			}
		}
		if o.request.Leaving {
			fmt.Fprintf(&b, " leaves")
		}
		b.WriteString(":")
		if o.err != nil {
			fmt.Fprintf(&b, " %v\n", o.err)
			continue
		}
		for _, l := range o.reply.Leases {
			fmt.Fprintf(&b, " gets %v %v", l.ID, l.Task)
		}
		for _, a := range o.reply.Answers {
			fmt.Fprintf(&b, " answered %v %v", a.Lease, a.Code)
		}
		for _, x := range o.reply.Orders {
			fmt.Fprintf(&b, " ordered %v %v", x.Kind, x.Lease)
		}
		b.WriteString("\n")
	}
	_ = os.WriteFile(path, []byte(b.String()), 0o600)
}

// recorder is a pilot's link that writes the history. It is called by one pilot.
type recorder struct {
	*pilot.Link
	history *recording
	name    string
	began   time.Time
}

// Exchange implements pilot.Coordinators.
func (r *recorder) Exchange(ctx context.Context, request *protocol.ExchangeRequest) (*protocol.ExchangeReply, error) {
	o := operation{client: r.name, call: time.Since(r.began), request: request}
	o.reply, o.err = r.Link.Exchange(ctx, request)
	o.back = time.Since(r.began)
	r.history.add(o)
	return o.reply, o.err
}

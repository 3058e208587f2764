package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// carryBuffer is what one direction of a tunnel is read into.
const carryBuffer = 16 << 10

// carry copies both ways until both have ended, nothing has passed for idle, or spend
// says that no more may. It closes neither.
func carry(a, b net.Conn, idle time.Duration, spend func(n int) bool) {
	cut := sync.OnceFunc(func() {
		for _, c := range []net.Conn{a, b} {
			_ = c.SetDeadline(time.Unix(1, 0))
		}
	})
	silence := time.AfterFunc(idle, cut)
	defer silence.Stop()
	one := func(to, from net.Conn) {
		buffer := make([]byte, carryBuffer)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				silence.Reset(idle)
				if !spend(n) {
					cut()
					return
				}
				if _, writeErr := to.Write(buffer[:n]); writeErr != nil {
					cut()
					return
				}
			}
			if errors.Is(err, io.EOF) {
				if half, ok := to.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
					return // the other way may go on
				}
			}
			if err != nil {
				cut()
				return
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() { one(a, b) })
	both.Go(func() { one(b, a) })
	both.Wait()
}

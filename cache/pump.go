package cache

import (
	"context"
	"fmt"
	"io"

	"floe/protocol"

	"github.com/minio/sha256-simd"
)

// pumped reads a source ahead and hashes it, beside whoever makes something of the
// bytes.
type pumped struct {
	cancel context.CancelFunc
	in     io.ReadCloser
	chunks chan []byte
	spare  chan []byte
	now    []byte // what is left of the chunk being read
	chunk  []byte // all of it
	taken  protocol.ByteSize

	// Of the goroutine until chunks is closed, then of the reader.
	size   protocol.ByteSize
	digest protocol.Digest
	err    error
}

// How far a pump reads ahead.
const (
	pumpChunk  = 256 << 10
	pumpChunks = 8
)

// pump begins to read; stop ends that and closes the source.
func pump(ctx context.Context, in io.ReadCloser) *pumped {
	ctx, cancel := context.WithCancel(ctx)
	p := &pumped{cancel: cancel, in: in, chunks: make(chan []byte, pumpChunks), spare: make(chan []byte, pumpChunks+1)}
	for range pumpChunks + 1 {
		p.spare <- make([]byte, pumpChunk)
	}
	go p.run(ctx)
	return p
}

func (p *pumped) run(ctx context.Context) {
	defer close(p.chunks)
	h := sha256.New()
	for more := true; more; {
		var b []byte
		select {
		case b = <-p.spare:
		case <-ctx.Done():
			p.err = ctx.Err()
			return
		}
		b, more = p.fill(b[:0])
		h.Write(b)
		if p.size += protocol.ByteSize(len(b)); p.size > maxArchiveBytes {
			p.err, more = fmt.Errorf("%w: more than %v", ErrMismatch, maxArchiveBytes), false
		}
		select {
		case p.chunks <- b:
		case <-ctx.Done():
			p.err = ctx.Err()
			return
		}
	}
	p.digest = protocol.Digest(h.Sum(nil))
}

// fill reads until a chunk is full. The second result is false at the end of the
// source and where it failed.
func (p *pumped) fill(b []byte) ([]byte, bool) {
	for len(b) < pumpChunk {
		n, err := p.in.Read(b[len(b):pumpChunk])
		b = b[:len(b)+n]
		if err != nil {
			if err != io.EOF {
				p.err = err
			}
			return b, false
		}
	}
	return b, true
}

// Read implements io.Reader.
func (p *pumped) Read(b []byte) (int, error) {
	for len(p.now) == 0 {
		if p.next() {
			continue
		}
		if p.err != nil {
			return 0, p.err
		}
		return 0, io.EOF
	}
	n := copy(b, p.now)
	p.now = p.now[n:]
	p.taken += protocol.ByteSize(n)
	return n, nil
}

func (p *pumped) next() bool {
	if p.chunk != nil {
		p.spare <- p.chunk[:pumpChunk]
		p.chunk = nil
	}
	chunk, more := <-p.chunks
	if more {
		p.now, p.chunk = chunk, chunk
	}
	return more
}

// rest reads on to the end of the source, and says what all of it was.
func (p *pumped) rest() (protocol.ByteSize, protocol.Digest, error) {
	for p.next() {
	}
	p.now = nil
	return p.size, p.digest, p.err
}

// stop ends the pump and closes the source.
func (p *pumped) stop() {
	p.cancel()
	_ = p.in.Close() // what was read is known by its digest
	for range p.chunks {
	}
}

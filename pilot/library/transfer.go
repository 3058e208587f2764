package library

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"

	"floe/pilot/stage"
	"floe/protocol"
)

type transfer struct {
	Source, Destination   string
	Checksum, Compression string
	Optional              bool
}

func isURL(name string) bool {
	return strings.Contains(name, "://") || strings.HasPrefix(name, "file:/")
}

func (s *step) transfer(ctx context.Context, v transfer) error {
	m := &stage.Mover{Logger: slog.New(slog.NewTextHandler(s.out, nil))}
	switch from, to := isURL(v.Source), isURL(v.Destination); {
	case from && to:
		return errors.New("source and destination are both URLs; bring the file here first, then send it")
	case from:
		return s.fetch(ctx, m, v)
	case to:
		return s.send(ctx, m, v)
	}
	return errors.New("neither source nor destination is a file, http or https URL")
}

func (s *step) fetch(ctx context.Context, m *stage.Mover, v transfer) error {
	local, err := s.within(v.Destination)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	size, err := m.Fetch(ctx, stage.Input{
		URL: v.Source, Local: local, Checksum: v.Checksum, Compression: stage.Compression(v.Compression), Optional: v.Optional,
	}, s.dir)
	if err != nil {
		return err
	}
	if _, err := s.root.Lstat(local); err != nil && v.Optional {
		return nil // the mover has said that it is not there
	}
	s.files, s.bytes = 1, int64(size)
	s.say("fetched %s, %d bytes came", local, size)
	return nil
}

// send stores a file as the pilot stores outputs: under a name of its own first,
// read back, and then moved to its place.
func (s *step) send(ctx context.Context, m *stage.Mover, v transfer) error {
	if v.Checksum != "" {
		return errors.New("checksum is for a source URL; what is sent is read back in any case")
	}
	local, err := s.within(v.Source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	record, err := m.Store(ctx, stage.Output{
		Type: protocol.FilePermanent, Name: local, Local: local, URL: v.Destination, Compression: stage.Compression(v.Compression), Optional: v.Optional,
	}, s.dir, protocol.LeaseID{Index: rand.Uint64()>>1 + 1})
	if errors.Is(err, stage.ErrSkipped) {
		s.say("%s is not there", local)
		return nil
	}
	if err == nil {
		err = m.Publish(ctx, record)
	}
	if err != nil {
		if record.URL != "" {
			err = errors.Join(err, m.Discard(context.WithoutCancel(ctx), []protocol.FileRecord{record}))
		}
		return err
	}
	s.files, s.bytes = 1, int64(record.Size)
	s.say("sent %s, %d bytes with SHA-256 %v", local, record.Size, record.Digest)
	return nil
}

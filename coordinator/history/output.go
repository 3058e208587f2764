package history

import (
	"context"
	"encoding/binary"

	"floe/protocol"
)

// Output is one permanent output of the attempt that counts.
type Output struct {
	Task  protocol.TaskID
	Lease protocol.LeaseID
	// Uncleaned says that the pilot vanished, or could not give the file its final
	// name: it is at URL or, if the pilot vanished just after the move, at Published.
	Uncleaned bool
	protocol.FileRecord
}

// OutputPage is a page of outputs by task and job.
type OutputPage struct {
	Outputs []Output
	// Next continues; it is empty at the end. As with AttemptPage, a short page may
	// not be the last.
	Next string
}

// Outputs returns the permanent outputs of a dataset from the cursor on, at most
// limit; 0 is 1,000. A bad cursor is an error of protocol.CodeBadRequest.
func (l *Ledger) Outputs(ctx context.Context, d protocol.DatasetID, cursor string, limit int) (page OutputPage, err error) {
	if limit <= 0 {
		limit = 1000
	}
	s := ofDataset(tableAttempts, d)
	given, err := s.resume(cursor, 2)
	if err != nil {
		return page, err
	}
	skip := func(p *pageInfo) bool { return !p.Permanent }
	err = l.read(func(r *reading) error {
		looked := 0
		for a, err := range r.attempts(s, skip) {
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			first := 0
			if given != nil { // the attempt the page before ended in
				if cursorAt(&a, given) == cursor {
					first = int(binary.BigEndian.Uint16(given))
				}
				given = nil
			}
			for i := first; i < len(a.Outputs) && a.Counts(); i++ {
				if a.Outputs[i].Type != protocol.FilePermanent {
					continue
				}
				if len(page.Outputs) == limit {
					page.Next = cursorAt(&a, binary.BigEndian.AppendUint16(nil, uint16(i)))
					return nil
				}
				page.Outputs = append(page.Outputs, Output{a.Task, a.Lease, a.Uncleaned, a.Outputs[i]})
			}
			if looked++; looked >= maxLook {
				page.Next = cursorAt(&a, binary.BigEndian.AppendUint16(nil, uint16(len(a.Outputs))))
				return nil
			}
		}
		return nil
	})
	return page, err
}

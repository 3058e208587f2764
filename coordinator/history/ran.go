package history

import (
	"context"

	"floe/coordinator/state"
	"floe/protocol"
)

// RanQuery asks for the ended attempts that ran at a moment, of whatever dataset.
type RanQuery struct {
	// At is by the coordinators' clocks: from the grant to the end that they recorded.
	At state.UnixMillis
	// Where chooses nodes.
	Where  func(site protocol.SiteID, host string) bool
	Cursor string // Next of the page before
	Limit  int    // 0 is 100
}

// maxRan is how many attempts one query of Ran looks at.
const maxRan = 200_000

// Ran returns a page of the attempts that ran somewhere at a moment. Rows are sorted by
// dataset, so it looks through all there are, page by page.
func (l *Ledger) Ran(ctx context.Context, q RanQuery) (page AttemptPage, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	s := under([]byte{byte(tableAttempts)})
	if _, err := s.resume(q.Cursor, 0); err != nil {
		return page, err
	}
	err = l.read(func(r *reading) error {
		looked := 0
		for a, err := range r.attempts(s, nil) {
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if a.GrantedWall <= q.At && q.At <= a.EndedWall && q.Where(a.Site, a.Host) {
				page.Attempts = append(page.Attempts, a)
			}
			if looked++; len(page.Attempts) >= q.Limit || looked >= maxRan {
				page.Next = cursorAt(&a, nil)
				return nil
			}
		}
		return nil
	})
	return page, err
}

package glidein

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"floe/protocol"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// ErrNoDowntime: there is none of that number.
var ErrNoDowntime = errors.New("no such downtime")

// keptDowntime is for how long a downtime that is over is listed.
const keptDowntime = 30 * 24 * time.Hour

// AddDowntime announces a downtime of the site in a directory.
func AddDowntime(dir string, now, from, to time.Time, reason string) (protocol.Downtime, error) {
	d := protocol.Downtime{Window: protocol.Window{From: from.Unix(), To: to.Unix()}, Reason: reason}
	switch {
	case !to.After(from):
		return d, fmt.Errorf("downtime: it ends at %s, not after its beginning at %s", stamp(to), stamp(from))
	case !to.After(now):
		return d, fmt.Errorf("downtime: it was over at %s", stamp(to))
	case len(reason) > protocol.MaxDowntimeText:
		return d, fmt.Errorf("downtime: reason of %d bytes, limit %d", len(reason), protocol.MaxDowntimeText)
	}
	return d, changeDowntimes(dir, func(a *announced) error {
		a.Downtimes = slices.DeleteFunc(a.Downtimes, func(o protocol.Downtime) bool {
			return o.Window.To < now.Add(-keptDowntime).Unix()
		})
		if len(a.Downtimes) >= protocol.MaxDowntimes {
			return fmt.Errorf("downtime: %d are announced, more are not possible; remove some", len(a.Downtimes))
		}
		a.Last++
		d.Number = a.Last
		a.Downtimes = append(a.Downtimes, d)
		return nil
	})
}

// RemoveDowntime takes a downtime back.
func RemoveDowntime(dir string, number uint32) (d protocol.Downtime, err error) {
	return d, changeDowntimes(dir, func(a *announced) error {
		i := slices.IndexFunc(a.Downtimes, func(o protocol.Downtime) bool { return o.Number == number })
		if i < 0 {
			return fmt.Errorf("%w: number %d; floe site downtime list shows them", ErrNoDowntime, number)
		}
		d = a.Downtimes[i]
		a.Downtimes = slices.Delete(a.Downtimes, i, i+1)
		return nil
	})
}

// changeDowntimes changes the file while nobody else does.
func changeDowntimes(dir string, change func(*announced) error) error {
	lock := flock.New(filepath.Join(dir, downtimesFile+".lock"))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("downtimes: lock: %w", err)
	}
	defer lock.Unlock()
	a, err := readDowntimes(dir)
	if err != nil {
		return err
	}
	if err := change(&a); err != nil {
		return err
	}
	slices.SortFunc(a.Downtimes, func(a, b protocol.Downtime) int {
		if a.Window.From != b.Window.From {
			return int(min(1, max(-1, a.Window.From-b.Window.From)))
		}
		return int(a.Number) - int(b.Number)
	})
	b, err := json.MarshalIndent(&a, "", " ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(dir, downtimesFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write downtimes: %w", err)
	}
	return nil
}

// stamp writes a moment with its zone.
func stamp(t time.Time) string { return t.Format("2006-01-02 15:04 MST") }

// ParseMoment reads a moment as people write it: 2026-12-24T18:00 with a zone as +01:00
// or Z, or, after @, Unix seconds; also now, and +2h from now. Without a zone it is in
// zone.
func ParseMoment(text string, now time.Time, zone *time.Location) (time.Time, error) {
	if text == "now" {
		return now, nil
	}
	if len(text) > 1 && text[0] == '+' {
		if d, err := time.ParseDuration(text[1:]); err == nil {
			return now.Add(d), nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02 15:04Z07:00", "2006-01-02 15:04 Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: want such as %s, %s, now or +2h", text,
		now.In(zone).Format("2006-01-02T15:04"), now.In(zone).Format("2006-01-02T15:04Z07:00"))
}

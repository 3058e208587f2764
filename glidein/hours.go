package glidein

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/protocol"
)

// Hours are the times of a week at which a site runs.
type Hours []dayHours

// dayHours is one span that begins on some days of the week, in minutes of the day. An
// end that is not after the beginning is on the next day.
type dayHours struct {
	days     [7]bool // by time.Weekday
	from, to int
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseHours reads lines such as "mon-fri 18:00-08:00", "sat,sun" or "22:00-06:00".
// Days alone are whole days, hours alone those of every day. A span over midnight
// belongs to the day on which it begins.
func ParseHours(lines []string) (all Hours, err error) {
	for _, line := range lines {
		h, err := parseHours(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w; want such as \"mon-fri 18:00-08:00\" or \"sat,sun\"", line, err)
		}
		all = append(all, h)
	}
	return all, nil
}

func parseHours(line string) (h dayHours, err error) {
	words := strings.Fields(strings.ToLower(line))
	if len(words) == 0 || len(words) > 2 {
		return h, fmt.Errorf("%d words", len(words))
	}
	h.to = 24 * 60
	days := ""
	for i, w := range words {
		switch {
		case strings.Contains(w, ":"):
			if i != len(words)-1 {
				return h, fmt.Errorf("the days come first")
			}
			if h.from, h.to, err = parseSpan(w); err != nil {
				return h, err
			}
		case days != "":
			return h, fmt.Errorf("%q: no hours", w)
		default:
			days = w
		}
	}
	if days == "" {
		days = "sun-sat"
	}
	for _, part := range strings.Split(days, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, b := slices.Index(weekdays, first), slices.Index(weekdays, last)
		if a < 0 || b < 0 {
			return h, fmt.Errorf("%q: no days; they are %s", part, strings.Join(weekdays, ", "))
		}
		for d := a; ; d = (d + 1) % 7 {
			h.days[d] = true
			if d == b {
				break
			}
		}
	}
	return h, nil
}

func parseSpan(text string) (from, to int, err error) {
	first, last, found := strings.Cut(text, "-")
	if !found {
		return 0, 0, fmt.Errorf("%q: no span of hours", text)
	}
	if from, err = parseClock(first); err == nil {
		to, err = parseClock(last)
	}
	if err == nil && from == to {
		err = fmt.Errorf("%q: it ends when it begins; whole days have no hours", text)
	}
	return from, to, err
}

func parseClock(text string) (minutes int, err error) {
	h, m, found := strings.Cut(text, ":")
	hour, errH := strconv.ParseUint(h, 10, 8)
	minute, errM := strconv.ParseUint(m, 10, 8)
	if !found || errH != nil || errM != nil || len(m) != 2 || minute > 59 || hour > 24 || hour == 24 && minute > 0 {
		return 0, fmt.Errorf("%q: no time of the day", text)
	}
	return int(60*hour + minute), nil
}

// Windows are the hours between two days, in a zone, merged where they touch. The
// clocks of the zone decide: a night on which they change is longer or shorter.
func (h Hours) Windows(from, to time.Time, zone *time.Location) []protocol.Window {
	var all []protocol.Window
	first := from.In(zone)
	for day := 0; ; day++ {
		begin := time.Date(first.Year(), first.Month(), first.Day()+day, 0, 0, 0, 0, zone)
		if !begin.Before(to) {
			break
		}
		at := func(minutes int) int64 {
			return time.Date(begin.Year(), begin.Month(), begin.Day(), 0, minutes, 0, 0, zone).Unix()
		}
		for _, s := range h {
			if !s.days[begin.Weekday()] {
				continue
			}
			end := s.to
			if end <= s.from {
				end += 24 * 60
			}
			if w := (protocol.Window{From: at(s.from), To: at(end)}); w.To > w.From {
				all = append(all, w)
			}
		}
	}
	slices.SortFunc(all, func(a, b protocol.Window) int { return int(min(1, max(-1, a.From-b.From))) })
	merged := all[:0]
	for _, w := range all {
		if n := len(merged); n > 0 && w.From <= merged[n-1].To {
			merged[n-1].To = max(merged[n-1].To, w.To)
			continue
		}
		merged = append(merged, w)
	}
	return merged
}

package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"floe/pilot/payload/session"
	"floe/protocol"
)

// maxStatisticsFile bounds a module's statistics file: 256 numbers with long
// names fit many times over.
const maxStatisticsFile = 1 << 20

// notFinite finds what Python's json writes for numbers that are none.
var notFinite = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"\s*:\s*(-?(?:NaN|Infinity|nan|inf|Inf))\b`)

// parseStatistics reads a JSON object of numbers, in the order of names. A value
// that is no finite number and a name given twice are errors that name the key.
// Characters that a name may not have become underscores.
func parseStatistics(b []byte) ([]protocol.Statistic, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	if !json.Valid(b) {
		if found := notFinite.FindSubmatch(b); found != nil {
			return nil, fmt.Errorf("statistic %q: %s is not a finite number", found[1], found[2])
		}
	}
	members, err := parseMembers(b)
	if err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	var out []protocol.Statistic
	seen := make(map[string]string)
	for _, m := range members {
		text := string(m.Value)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
			return nil, fmt.Errorf("statistic %q: %.60s is not a finite number", m.Name, text)
		}
		s := protocol.Statistic{Name: session.StatisticName(m.Name), Value: value}
		if other, twice := seen[s.Name]; twice {
			return nil, fmt.Errorf("statistic %q: given twice, also as %q", m.Name, other)
		}
		seen[s.Name] = m.Name
		if err := protocol.CheckStatistic(s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b protocol.Statistic) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// readStatistics reads what a module left; a file that is not there is no
// statistics.
func readStatistics(dir Dir, path string) ([]protocol.Statistic, error) {
	b, err := dir.take(filepath.Base(path), maxStatisticsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	return parseStatistics(b)
}

// given are the statistics of one module execution.
type given struct {
	tray       string
	iteration  int
	module     string
	statistics []protocol.Statistic
}

// merge makes one set of a task's statistics. A name that only one execution
// gave stays as it is; one that several gave is told apart by as much of
// tray:iteration/module/name as it takes.
func merge(all []given) ([]protocol.Statistic, error) {
	prefixes := []func(g given) string{
		func(given) string { return "" },
		func(g given) string { return session.StatisticName(g.module) + "/" },
		func(g given) string { return session.StatisticName(g.module) + ":" + strconv.Itoa(g.iteration) + "/" },
		func(g given) string {
			return session.StatisticName(g.tray) + "/" + session.StatisticName(g.module) + ":" + strconv.Itoa(g.iteration) + "/"
		},
	}
	type entry struct {
		from  given
		s     protocol.Statistic
		level int
	}
	var entries []*entry
	for _, g := range all {
		for _, s := range g.statistics {
			entries = append(entries, &entry{from: g, s: s})
		}
	}
	name := func(e *entry) string { return prefixes[e.level](e.from) + e.s.Name }
	for range len(prefixes) - 1 {
		byName := make(map[string][]*entry)
		for _, e := range entries {
			byName[name(e)] = append(byName[name(e)], e)
		}
		for _, same := range byName {
			if len(same) > 1 {
				for _, e := range same {
					e.level = min(e.level+1, len(prefixes)-1)
				}
			}
		}
	}
	var out []protocol.Statistic
	seen := make(map[string]bool)
	for _, e := range entries {
		s := protocol.Statistic{Name: name(e), Value: e.s.Value}
		if seen[s.Name] {
			return nil, fmt.Errorf("statistic %q: given twice by modules of the same name", s.Name)
		}
		if err := protocol.CheckStatistic(s); err != nil {
			return nil, err
		}
		seen[s.Name] = true
		out = append(out, s)
	}
	if len(out) > protocol.MaxStatistics {
		return nil, fmt.Errorf("%d statistics, limit %d; the first beyond is %q", len(out), protocol.MaxStatistics, out[protocol.MaxStatistics].Name)
	}
	slices.SortFunc(out, func(a, b protocol.Statistic) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

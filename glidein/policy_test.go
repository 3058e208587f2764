package glidein

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func moment(t *testing.T, text string, zone *time.Location) int64 {
	t.Helper()
	m, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return m.Unix()
}

func TestHoursBecomeWindows(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		lines      []string
		from, days string
		want       []string // pairs
	}{
		{
			"nights of working days, and weekends, which touch",
			[]string{"mon-fri 18:00-08:00", "sat,sun"},
			"2026-11-26 00:00", "4", // a Thursday
			[]string{"2026-11-26 18:00", "2026-11-27 08:00", "2026-11-27 18:00", "2026-11-30 00:00"},
		},
		{"every day", []string{"22:00-24:00"}, "2026-11-26 00:00", "2", []string{"2026-11-26 22:00", "2026-11-27 00:00", "2026-11-27 22:00", "2026-11-28 00:00"}},
		{"days over the end of the week", []string{"Sat-Mon 10:00-11:00"}, "2026-11-29 00:00", "3", []string{"2026-11-29 10:00", "2026-11-29 11:00", "2026-11-30 10:00", "2026-11-30 11:00"}},
		{"the night on which clocks go forward", []string{"sat 22:00-06:00"}, "2026-03-28 00:00", "2", []string{"2026-03-28 22:00", "2026-03-29 06:00"}},
		{"overlapping", []string{"10:00-14:00", "12:00-16:00"}, "2026-11-26 00:00", "1", []string{"2026-11-26 10:00", "2026-11-26 16:00"}},
	} {
		hours, err := ParseHours(test.lines)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		from := time.Unix(moment(t, test.from, berlin), 0)
		var want []protocol.Window
		for i := 0; i < len(test.want); i += 2 {
			want = append(want, protocol.Window{From: moment(t, test.want[i], berlin), To: moment(t, test.want[i+1], berlin)})
		}
		if diff := cmp.Diff(want, hours.Windows(from, from.AddDate(0, 0, int(test.days[0]-'0')), berlin)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	night, _ := ParseHours([]string{"sat 22:00-06:00"})
	from := time.Unix(moment(t, "2026-03-28 00:00", berlin), 0)
	if w := night.Windows(from, from.AddDate(0, 0, 1), berlin)[0]; w.To-w.From != 7*3600 {
		t.Errorf("the night on which an hour is missing lasts %d s", w.To-w.From)
	}
}

func TestHoursThatAreNone(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mon-fri 18:00":            "no span of hours",
		"mo 10:00-11:00":           `"mo": no days; they are sun, mon`,
		"10:00-10:00":              "it ends when it begins",
		"25:00-26:00":              "no time of the day",
		"10:61-11:00":              "no time of the day",
		"10:00-11:00 mon":          "the days come first",
		"mon tue":                  "no hours",
		"":                         "0 words",
		"mon 10:00-11:00 and more": "4 words",
	} {
		if _, err := ParseHours([]string{line}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "want such as") {
			t.Errorf("ParseHours(%q) = %v, want %q", line, err, want)
		}
	}
}

func FuzzHours(f *testing.F) {
	for _, line := range []string{"mon-fri 18:00-08:00", "sat,sun", "22:00-06:00", "fri-mon", "mon 24:00-01:00", ","} {
		f.Add(line)
	}
	from := time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, line string) {
		hours, err := ParseHours([]string{line})
		if err != nil {
			return
		}
		p := protocol.SitePolicy{Timed: true, Hours: hours.Windows(from, from.AddDate(0, 0, horizon), time.UTC)}
		if err := p.Check(); err != nil || len(p.Hours) == 0 {
			t.Errorf("%q: %v, %v", line, p.Hours, err)
		}
	})
}

const policyText = `[queue]
type = "local"
[policy]
allow_groups = ["ice"]
ban_users = ["eve"]
ban_datasets = [7]
own_groups = ["ice"]
share = 60
hours = ["mon-fri 18:00-08:00"]
time_zone = "Europe/Berlin"
max_cores = 4
max_scratch = "100GB"
max_network = "20MB"
`

func TestAPolicyIsTheSameForADay(t *testing.T) {
	t.Parallel()
	c := loaded(t, policyText)
	at := func(hour int) *protocol.SitePolicy {
		p, err := c.SitePolicy(time.Date(2026, 11, 26, hour, 30, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if diff := cmp.Diff(at(0), at(23)); diff != "" {
		t.Errorf("it changes within a day (-morning +night):\n%s", diff)
	}
	p := at(12)
	if p.Permits("eve", "ice", 1) || p.Permits("ann", "", 1) || p.Permits("ann", "ice", 7) || !p.Permits("ann", "ice", 1) {
		t.Errorf("who is let in: %+v", p)
	}
	if p.Share != 60 || p.Caps != (protocol.SiteCaps{Cores: 4, Scratch: 100 * protocol.GB, Network: 20 * protocol.MB}) || len(p.Hours) < 10 {
		t.Errorf("policy %+v", p)
	}
	if got := p.At(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC).Unix()); got.Closed != "outside of its hours until 2026-11-26 17:00 UTC" {
		t.Errorf("at noon: %+v", got)
	}
}

// loaded is a configuration as a pass reads it.
func loaded(t *testing.T, text string) *Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pilot"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig([]byte(text), "site.toml")
	if err != nil {
		t.Fatal(err)
	}
	c.fill(dir)
	c.System.Pilot = filepath.Join(dir, "pilot")
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPoliciesWithMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"hours = [\"noon\"]":                           `policy.hours: "noon": "noon": no days`,
		"time_zone = \"Europe/Berlim\"":                `policy.time_zone "Europe/Berlim": want a name`,
		"share = 50":                                   "policy.share 50: of which groups?",
		"own_groups = [\"ice\"]\nshare = 101":          "share 101: want 1 to 100",
		"max_cores = -1":                               "policy.max_cores -1",
		"ban_users = [\"a b\"]":                        "a b",
		"banned_users = [\"eve\"]":                     `unknown key "policy.banned_users"; did you mean "policy.ban_users"?`,
		"max_scratch = \"many\"":                       "size",
		"[policy.hours]\nmon = \"10:00-11:00\"":        "policy",
		"allow_datasets = [\"seven\"]":                 "allow_datasets",
		"hours = [\"mon\"]\ntime_zone = \"../etc\"":    "time_zone",
		"ban_groups = [\"\"]":                          "ban",
		"max_gpus = 3\nmax_gpus = 4":                   "max_gpus",
		"own_groups = \"ice\"":                         "own_groups",
		"hours = [\"mon-fri 18:00-08:00\", \"sat 9\"]": `"9": no hours`,
	} {
		c, err := readConfig([]byte("[queue]\ntype = \"local\"\n[policy]\n"+text+"\n"), "site.toml")
		if err == nil {
			c.fill(t.TempDir())
			err = c.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestDowntimesAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	later := func(h int) time.Time { return now.Add(time.Duration(h) * time.Hour) }
	add := func(from, to int, reason string) protocol.Downtime {
		t.Helper()
		d, err := AddDowntime(dir, now, later(from), later(to), reason)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	second := add(48, 50, "power")
	first := add(24, 26, "")
	if second.Number != 1 || first.Number != 2 {
		t.Errorf("numbers %d and %d", second.Number, first.Number)
	}
	for _, bad := range []struct{ from, to int }{{5, 5}, {6, 5}, {-5, -1}} {
		if _, err := AddDowntime(dir, now, later(bad.from), later(bad.to), ""); err == nil || !strings.Contains(err.Error(), "2026-11-26") {
			t.Errorf("from %+d h to %+d h: %v", bad.from, bad.to, err)
		}
	}
	c := Config{Directory: dir}
	p, err := c.SitePolicy(now)
	if err != nil || len(p.Downtimes) != 2 || p.Downtimes[0].Number != first.Number {
		t.Fatalf("policy %+v, %v: want both, by their beginning", p, err)
	}
	if got := p.At(later(25).Unix()); !got.Down || got.Changes != later(26).Unix() {
		t.Errorf("in the first: %+v", got)
	}
	if got := p.At(now.Unix()); got.Ends != later(24).Unix() || got.NextDown != later(24).Unix() || got.Closed != "" {
		t.Errorf("now: %+v", got)
	}
	if d, err := RemoveDowntime(dir, first.Number); err != nil || d != first {
		t.Errorf("remove: %+v, %v", d, err)
	}
	if _, err := RemoveDowntime(dir, first.Number); !errors.Is(err, ErrNoDowntime) {
		t.Errorf("remove again: %v", err)
	}
	if third := add(72, 73, ""); third.Number != 3 {
		t.Errorf("a number is used again: %+v", third)
	}
	if p, err := c.SitePolicy(later(24 * 3)); err != nil || len(p.Downtimes) != 1 {
		t.Errorf("three days later: %+v, %v", p, err)
	}
	if err := os.WriteFile(filepath.Join(dir, downtimesFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SitePolicy(now); err == nil || !strings.Contains(err.Error(), "nothing is launched before it can be read") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestMomentsAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"now": "2026-11-26T12:00:00Z", "+90m": "2026-11-26T13:30:00Z",
		"2026-12-24T18:00": "2026-12-24T17:00:00Z", "2026-07-01 18:00": "2026-07-01T16:00:00Z", "2026-12-24": "2026-12-23T23:00:00Z",
		"2026-12-24T18:00Z": "2026-12-24T18:00:00Z", "2026-12-24T18:00-05:00": "2026-12-24T23:00:00Z", "2026-12-24T18:00:30+01:00": "2026-12-24T17:00:30Z",
	} {
		if got, err := ParseMoment(text, now, berlin); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("ParseMoment(%q) = %v, %v, want %s", text, got.UTC(), err, want)
		}
	}
	for _, bad := range []string{"", "tomorrow", "18:00", "+x", "2026-13-01", "24.12.2026"} {
		if got, err := ParseMoment(bad, now, berlin); err == nil || !strings.Contains(err.Error(), "want such as 2026-11-26T13:00, 2026-11-26T13:00+01:00") {
			t.Errorf("ParseMoment(%q) = %v, %v", bad, got, err)
		}
	}
}

package glidein

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"floe/protocol"

	"github.com/google/renameio/v2"
)

// Policy is what the owners of the site want of it.
type Policy struct {
	// Allow… say whose work is taken; nothing said is everybody's. Ban… win over them.
	AllowGroups   []protocol.GroupID   `toml:"allow_groups"`
	AllowUsers    []protocol.UserID    `toml:"allow_users"`
	AllowDatasets []protocol.DatasetID `toml:"allow_datasets"`
	BanGroups     []protocol.GroupID   `toml:"ban_groups"`
	BanUsers      []protocol.UserID    `toml:"ban_users"`
	BanDatasets   []protocol.DatasetID `toml:"ban_datasets"`
	// OwnGroups are served before others: always, or with Share only until they have
	// that many percent of the cores in use.
	OwnGroups []protocol.GroupID `toml:"own_groups"`
	Share     int                `toml:"share"`
	// Hours are when the site runs, see ParseHours; none is always. TimeZone is where
	// they are, such as Europe/Berlin; empty is that of the machine.
	Hours    []string `toml:"hours"`
	TimeZone string   `toml:"time_zone"`
	// Caps of all tasks at the site together; zero is none. MaxNetwork is bytes per
	// second.
	MaxCores   int  `toml:"max_cores"`
	MaxGPUs    int  `toml:"max_gpus"`
	MaxScratch Size `toml:"max_scratch"`
	MaxNetwork Size `toml:"max_network"`
}

// horizon is how many days ahead a site says its hours.
const horizon = 15

// SitePolicy is the policy as it goes to coordinators and pilots, with the hours of
// the next days and the downtimes of the site's directory. It is the same for a whole
// day, unless something changes.
func (c *Config) SitePolicy(now time.Time) (*protocol.SitePolicy, error) {
	p := &c.Policy
	out := &protocol.SitePolicy{
		Allow: protocol.SiteWho{Groups: p.AllowGroups, Users: p.AllowUsers, Datasets: p.AllowDatasets},
		Ban:   protocol.SiteWho{Groups: p.BanGroups, Users: p.BanUsers, Datasets: p.BanDatasets},
		Own:   p.OwnGroups, Share: p.Share,
		Caps: protocol.SiteCaps{
			Cores: p.MaxCores, GPUs: p.MaxGPUs,
			Scratch: protocol.ByteSize(p.MaxScratch), Network: protocol.ByteSize(p.MaxNetwork),
		},
	}
	today := now.UTC().Truncate(24 * time.Hour)
	if len(p.Hours) > 0 {
		hours, err := ParseHours(p.Hours)
		if err != nil {
			return nil, fmt.Errorf("policy.hours: %w", err)
		}
		zone, err := p.zone()
		if err != nil {
			return nil, err
		}
		out.Timed, out.Hours = true, hours.Windows(today.AddDate(0, 0, -1), today.AddDate(0, 0, horizon), zone)
	}
	all, err := Downtimes(c.Directory)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if d.Window.To > today.Unix() {
			out.Downtimes = append(out.Downtimes, d)
		}
	}
	if err := out.Check(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return out, nil
}

func (p *Policy) zone() (*time.Location, error) {
	if p.TimeZone == "" {
		return time.Local, nil
	}
	zone, err := time.LoadLocation(p.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("policy.time_zone %q: want a name of the time zone database, such as Europe/Berlin or UTC", p.TimeZone)
	}
	return zone, nil
}

// validate says what is wrong with the section.
func (p *Policy) validate(say func(string, ...any)) {
	if _, err := ParseHours(p.Hours); err != nil {
		say("policy.hours: %v", err)
	}
	if _, err := p.zone(); err != nil {
		say("%v", err)
	}
	for key, n := range map[string]int{"max_cores": p.MaxCores, "max_gpus": p.MaxGPUs} {
		if n < 0 {
			say("policy.%s %d: want a number above 0, or 0 for no bound", key, n)
		}
	}
	if p.Share != 0 && len(p.OwnGroups) == 0 {
		say("policy.share %d: of which groups? own_groups is empty", p.Share)
	}
	names := *p
	names.Hours, names.TimeZone, names.MaxCores, names.MaxGPUs = nil, "", 0, 0
	if len(p.OwnGroups) == 0 {
		names.Share = 0
	}
	plain := Config{Policy: names}
	if _, err := plain.SitePolicy(time.Now()); err != nil {
		say("%v", err)
	}
}

// SiteLog is the directory of the site's own log of whose payloads ran.
func (c *Config) SiteLog() string { return filepath.Join(c.Directory, SiteLogDir) }

// SiteLogDir is where the log is in the site's directory.
const SiteLogDir = "who"

// PolicyFile is where pilots of the site find its policy, in the site's directory and
// in their own.
const PolicyFile = "policy.json"

// WritePolicy puts a policy where the site's pilots look for it.
func WritePolicy(dir string, p *protocol.SitePolicy) error {
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, PolicyFile)
	b = append(b, '\n')
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, b) {
		return nil
	}
	if err := renameio.WriteFile(file, b, 0o600); err != nil {
		return fmt.Errorf("write the site's policy: %w", err)
	}
	return nil
}

// downtimesFile holds the downtimes that were announced, in the site's directory.
const downtimesFile = "downtimes.json"

// announced are the downtimes of a site.
type announced struct {
	// Last is the highest number that was given.
	Last      uint32              `json:"last"`
	Downtimes []protocol.Downtime `json:"downtimes"`
}

// Downtimes lists the downtimes of the site in a directory, by their beginning.
func Downtimes(dir string) ([]protocol.Downtime, error) {
	a, err := readDowntimes(dir)
	return a.Downtimes, err
}

func readDowntimes(dir string) (a announced, err error) {
	if dir == "" {
		return a, nil
	}
	file := filepath.Join(dir, downtimesFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		return a, fmt.Errorf("downtimes %s: %w; nothing is launched before it can be read: mend it, or move it away and announce them again", file, err)
	}
	return a, nil
}

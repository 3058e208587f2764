package glidein

import (
	"context"
	"fmt"
	"os"
)

// Programs has the programs of published versions of the pilot.
type Programs interface {
	// Program is where the program of a version lies that runs on a platform and with
	// tags of its nodes, verified; it fetches what is not there. An empty platform is
	// not known.
	Program(ctx context.Context, version, platform string, tags []string) (string, error)
	// Last is what Program gave last for a platform, if that is still as it was; empty
	// is none.
	Last(platform string) string
}

// choosePrograms gives each queue the program of the version that the site is to
// launch. Where it cannot be had, the queue goes on with what it has, and the result
// says so.
func (p *Pass) choosePrograms(ctx context.Context, stations []*station, version string, result *Result) error {
	own := p.Config.System.Pilot
	say := func(format string, args ...any) {
		result.Reasons = append(result.Reasons, fmt.Sprintf(format, args...))
	}
	if !p.Config.System.FollowsReleases {
		if version != "" {
			say("pilot %s is released to this site, and not launched: site.toml names %s (system.pilot)", version, own)
		}
		return nil
	}
	type key struct{ platform, tags string }
	chosen := map[key]string{}
	for _, s := range stations {
		for _, l := range s.lines {
			if there := l.system.Properties().Pilot; there != "" {
				if version != "" {
					say("pilot %s is released to this site, and not launched in %s: its jobs start %s", version, l.Section(), there)
				}
				continue
			}
			k := key{l.OS, fmt.Sprint(l.Tags)}
			program, known := chosen[k]
			if !known {
				var why error
				if version != "" && p.Programs != nil {
					program, why = p.Programs.Program(ctx, version, l.OS, l.Tags)
				}
				if program == "" && p.Programs != nil && why != nil {
					program = p.Programs.Last(l.OS)
				}
				if program == "" {
					program = own
				}
				if why != nil {
					say("pilot %s is released to this site, and not launched: %v; launched is %s", version, why, program)
					p.Logger.Warn("the released pilot is not launched", "queue", l.Shape(), "err", why)
				}
				chosen[k] = program
			}
			if _, err := os.Stat(program); err != nil {
				return fmt.Errorf("%s: no pilot to launch: %w; put floe-pilot beside floe, name it as system.pilot, or have a version released to this site", l.Section(), err)
			}
			l.program = program
		}
	}
	return nil
}

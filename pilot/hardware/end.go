package hardware

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// end is when the batch slot ends: the argument; else the variable of the
// submitter or the batch system; else, under Slurm, what squeue answers; else
// the zero time, an end that nobody knows.
func (m *measurement) end(ctx context.Context) time.Time {
	found := func(t time.Time, source string) time.Time {
		m.find("end", t.UTC().Format(time.RFC3339), source)
		return t
	}
	if !m.End.IsZero() {
		return found(m.End, "argument")
	}
	// FLOE_BATCH_END is what a submit script sets where its system tells only the
	// script; SLURM_JOB_END_TIME is Slurm's since 22.05. Both are Unix seconds.
	for _, name := range []string{"FLOE_BATCH_END", "SLURM_JOB_END_TIME"} {
		if n, err := strconv.ParseInt(m.env(name), 10, 64); err == nil && n > 0 {
			return found(time.Unix(n, 0), "$"+name)
		}
	}
	// Lengths, in seconds, that began when the slot did. Source: Torque and PBS
	// Professional hooks; FLOE_WALLTIME is the submit script's.
	for _, name := range []string{"FLOE_WALLTIME", "PBS_WALLTIME"} {
		if n, err := strconv.ParseInt(m.env(name), 10, 32); err == nil && n > 0 {
			return found(m.Started.Add(time.Duration(n)*time.Second), "$"+name+" from the start")
		}
	}
	if job := m.env("SLURM_JOB_ID"); job != "" {
		if out, err := m.Run(ctx, "squeue", "--noheader", "--job", job, "--format", "%L"); err == nil {
			if left, ok := parseSpan(firstLine(string(out))); ok {
				return found(m.Now.Add(left), "squeue")
			}
		}
	}
	return time.Time{}
}

// parseSpan reads Slurm's [days-]hours:minutes:seconds, minutes:seconds. What
// is not a span of less than ten years, such as UNLIMITED, is refused.
func parseSpan(s string) (time.Duration, bool) {
	total, rest := int64(0), s
	if days, after, ok := strings.Cut(s, "-"); ok {
		n, err := strconv.ParseUint(days, 10, 12)
		if err != nil {
			return 0, false
		}
		total, rest = int64(n), after
	}
	parts := strings.Split(rest, ":")
	if len(parts) < 2 || len(parts) > 3 || rest != s && len(parts) != 3 {
		return 0, false
	}
	if len(parts) == 3 {
		n, err := strconv.ParseUint(parts[0], 10, 16)
		if err != nil {
			return 0, false
		}
		total = total*24 + int64(n)
		parts = parts[1:]
	}
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return 0, false
		}
		total = total*60 + int64(n)
	}
	d := time.Duration(total) * time.Second
	return d, d < 10*365*24*time.Hour
}

package hardware

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// end is when the batch slot ends: the argument; else the earliest of what
// variables, ads and files say; else what the batch system answers; else the zero
// time, an end that nobody knows.
func (m *measurement) end(ctx context.Context) time.Time {
	var promised time.Time
	by := ""
	promise := func(t time.Time, source string) {
		if t.Unix() <= 0 || t.After(m.Now.AddDate(10, 0, 0)) {
			return
		}
		m.report.Findings = append(m.report.Findings, Finding{"end", stamp(t), source, true})
		if promised.IsZero() || t.Before(promised) {
			promised, by = t, source
		}
	}
	m.readEnds(promise)
	if promised.IsZero() && m.End.IsZero() {
		m.askEnd(ctx, promise)
	}
	c := Comparison{What: "end", Promised: stamp(promised), PromisedBy: by, Offered: dash(stamp(promised))}
	end := promised
	if !m.End.IsZero() {
		m.find("end", stamp(m.End), "argument")
		end, c.Found, c.FoundBy, c.Offered = m.End, stamp(m.End), "argument", stamp(m.End)
		if !promised.IsZero() && m.End.After(promised) {
			c.Warning = fmt.Sprintf("end: the argument says %s, and the batch system ends this job at %s (%s)", c.Found, c.Promised, by)
		}
	}
	m.report.Comparisons = append(m.report.Comparisons, c)
	return end
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// readEnds hands promise every end that can be read.
func (m *measurement) readEnds(promise func(time.Time, string)) {
	instant := func(n int64, source string) {
		if n > 0 {
			promise(time.Unix(n, 0), source)
		}
	}
	length := func(start, n int64, source string) {
		if n > 0 && n < 1<<32 {
			at := m.Started
			if start > 0 {
				at = time.Unix(start, 0)
			}
			promise(at.Add(time.Duration(n)*time.Second), source)
		}
	}
	// FLOE_BATCH_END is what a submit script sets where its system tells only the
	// script; SLURM_JOB_END_TIME is Slurm's since 22.05. Both are Unix seconds.
	for _, name := range []string{"FLOE_BATCH_END", "SLURM_JOB_END_TIME"} {
		instant(m.envNumber(name), "$"+name)
	}
	// Lengths, in seconds, that began when the slot did. Source: Torque and PBS
	// Professional hooks; FLOE_WALLTIME is the submit script's.
	for _, name := range []string{"FLOE_WALLTIME", "PBS_WALLTIME"} {
		length(0, m.envNumber(name), "$"+name+" from the start")
	}
	// HTCondor's job ad has what the submitter or the access point allows, a
	// glidein's machine ad when the glidein itself ends.
	job := m.slot.job
	length(whole(job, "jobcurrentstartdate"), whole(job, "allowedjobduration"), "HTCondor job ad, AllowedJobDuration")
	length(max(whole(job, "jobcurrentstartexecutingdate"), whole(job, "jobcurrentstartdate")), whole(job, "allowedexecuteduration"), "HTCondor job ad, AllowedExecuteDuration")
	instant(whole(job, "timerremove"), "HTCondor job ad, TimerRemove")
	instant(whole(m.slot.machine, "glidein_todie"), "HTCondor machine ad, GLIDEIN_ToDie")
	instant(m.feature("JOBFEATURES", "shutdowntime_job"), "$JOBFEATURES/shutdowntime_job")
	length(m.feature("JOBFEATURES", "jobstart_secs"), m.feature("JOBFEATURES", "wall_limit_secs"), "$JOBFEATURES/wall_limit_secs")
	instant(m.feature("MACHINEFEATURES", "shutdowntime"), "$MACHINEFEATURES/shutdowntime")
}

// askEnd hands promise what the batch system answers when it is asked.
func (m *measurement) askEnd(ctx context.Context, promise func(time.Time, string)) {
	if job := m.env("SLURM_JOB_ID"); job != "" {
		if out, err := m.Run(ctx, "squeue", "--noheader", "--job", job, "--format", "%L"); err == nil {
			if left, ok := parseSpan(firstLine(string(out))); ok {
				promise(m.Now.Add(left), "squeue")
			}
		}
	}
	if limit, ok := parseLimit(m.slot.asked["walltime"]); ok {
		promise(m.Now.Add(limit-m.slot.used), "qstat, walltime")
	}
	for _, name := range []string{"h_rt", "s_rt"} {
		if limit, ok := parseLimit(m.slot.asked[name]); ok {
			promise(m.Started.Add(limit), "qstat, "+name+" from the start")
		}
	}
}

// envNumber reads a variable that is a positive number; 0 is none.
func (m *measurement) envNumber(name string) int64 {
	n, err := strconv.ParseInt(m.env(name), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// parseLimit reads seconds, or a span.
func parseLimit(s string) (time.Duration, bool) {
	if n, err := strconv.ParseUint(s, 10, 28); err == nil {
		return time.Duration(n) * time.Second, n > 0
	}
	return parseSpan(s)
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

package batch

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Quote writes s as one word of sh.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Body is the part of a submit file of sh that becomes the pilot job: it goes to
// the job's directory, sends what is printed to its output and runs its script.
// Jobs of an array are told apart by the shell variable index, which counts from
// first.
func Body(jobs []Job, index string, first int) string {
	var b strings.Builder
	if len(jobs) == 1 {
		b.WriteString(become(&jobs[0]) + "\n")
		return b.String()
	}
	fmt.Fprintf(&b, "case ${%s-} in\n", index)
	for i := range jobs {
		fmt.Fprintf(&b, "%d) %s ;;\n", i+first, become(&jobs[i]))
	}
	fmt.Fprintf(&b, "*) echo \"floe: no pilot job %s=${%[1]s-}\" >&2; exit 2 ;;\nesac\n", index)
	return b.String()
}

func become(j *Job) string {
	return fmt.Sprintf("cd %s && exec /bin/sh %s >>%s 2>&1", Quote(j.Directory), Quote(j.Script), Output)
}

// Seconds is a walltime in seconds, rounded up.
func Seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// TellWalltime is the part of a submit file that tells the pilot after how long its
// job will be ended, for systems that do not tell it themselves.
func TellWalltime(j *Job) string {
	if j.Walltime == 0 {
		return ""
	}
	return fmt.Sprintf("FLOE_WALLTIME=%d\nexport FLOE_WALLTIME\n", Seconds(j.Walltime))
}

// SystemOutput is the file for what the batch system itself prints about a job or
// array before its script has begun.
func SystemOutput(jobs []Job) string { return filepath.Join(jobs[0].Directory, "batch-output") }

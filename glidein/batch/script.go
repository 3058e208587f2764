package batch

import (
	"fmt"
	"path/filepath"
	"strings"
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

// SystemOutput is the file for what the batch system itself prints about a job or
// array before its script has begun.
func SystemOutput(jobs []Job) string { return filepath.Join(jobs[0].Directory, "batch-output") }

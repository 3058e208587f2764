package batch

import (
	"fmt"
	"os"
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

// QsubOptions are lines of a submit file that PBS and Grid Engine have alike: for
// priority, queue and account, the letter of which differs, and the site's own
// directives. Each begins with a prefix, which a directive may have already.
func QsubOptions(j *Job, prefix, account string) string {
	var b strings.Builder
	set := func(letter, value string) { fmt.Fprintf(&b, "%s-%s %s\n", prefix, letter, value) }
	if j.Priority != 0 {
		set("p", fmt.Sprint(j.Priority))
	}
	if j.Queue != "" {
		set("q", j.Queue)
	}
	if j.Account != "" {
		set(account, j.Account)
	}
	for _, d := range j.Directives {
		b.WriteString(prefix + strings.TrimPrefix(d, prefix) + "\n")
	}
	return b.String()
}

// SaveSubmitFile writes a submit file into the directory of the first job, for its
// owner alone, and returns its path.
func SaveSubmitFile(jobs []Job, name string, text []byte) (string, error) {
	file := filepath.Join(jobs[0].Directory, name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", fmt.Errorf("write submit file: %w", err)
	}
	return file, nil
}

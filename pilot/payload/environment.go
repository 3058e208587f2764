package payload

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"floe/pilot/payload/session"
	"floe/protocol"
)

// withheld are variables of the pilot that no payload sees: credentials of the
// site or of the submitter, which a task must declare to get, and settings of
// the pilot's own runtime. Everything named FLOE_… is withheld, too.
var withheld = []string{
	"X509_USER_PROXY", "X509_USER_CERT", "X509_USER_KEY", "BEARER_TOKEN", "BEARER_TOKEN_FILE",
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE",
	"SSH_AUTH_SOCK", "KRB5CCNAME", "_CONDOR_CREDS",
	"GODEBUG", "GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GOTRACEBACK",
	"PWD", "OLDPWD", "TMPDIR", "TMP", "TEMP",
	"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
}

// Withheld tells whether a variable of the pilot's is kept from payloads.
func Withheld(name string) bool {
	return strings.HasPrefix(name, "FLOE_") || slices.Contains(withheld, name)
}

// passed are the variables that a cleared environment keeps: who and where we
// are, how to reach the outside, where OpenCL finds its drivers.
var passed = []string{
	"USER", "LOGNAME", "LANG", "TZ",
	"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
	"OPENCL_VENDOR_PATH", "OCL_ICD_VENDORS",
	"_CONDOR_SCRATCH_DIR",
}

// ofNode are those that name files of the node, which an image does not have.
var ofNode = []string{"OPENCL_VENDOR_PATH", "OCL_ICD_VENDORS", "_CONDOR_SCRATCH_DIR"}

// threadVariables keep libraries from starting a thread per core of the node.
var threadVariables = []string{"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"}

// environ is a set of variables in order of names.
type environ map[string]string

func (e environ) list() []string {
	out := make([]string, 0, len(e))
	for name, value := range e {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// add sets NAME=VALUE variables.
func (e environ) add(variables []string) {
	for _, variable := range variables {
		if name, value, ok := strings.Cut(variable, "="); ok {
			e[name] = value
		}
	}
}

// prepend puts dirs that exist before what a path variable holds.
func (e environ) prepend(name string, dirs []string) {
	var parts []string
	for _, d := range dirs {
		if info, err := os.Stat(d); err == nil && info.IsDir() {
			parts = append(parts, d)
		}
	}
	if old := e[name]; old != "" {
		parts = append(parts, old)
	}
	if len(parts) > 0 {
		e[name] = strings.Join(parts, ":")
	}
}

// environment composes what a module sees, weakest first: the pilot's
// variables, the metaprojects, floe's own, and what the pilot adds for this task.
func (r *runner) environment(e Environment, step *step) environ {
	env := make(environ)
	base := r.options.Environ
	if base == nil {
		base = os.Environ()
	}
	for _, variable := range base {
		name, value, ok := strings.Cut(variable, "=")
		switch {
		case !ok, name == "", Withheld(name):
		case e.Image != nil && slices.Contains(ofNode, name):
		case (e.Clear || e.Image != nil) && !slices.Contains(passed, name):
		default:
			env[name] = value
		}
	}
	if env["PATH"] == "" && e.Image == nil {
		env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
	}
	if e.Clear || e.Image != nil {
		env["SHELL"], env["PYTHONNOUSERSITE"] = "/bin/sh", "1"
	}
	under := func(sub string) (dirs []string) {
		for _, root := range e.Software {
			dirs = append(dirs, filepath.Join(root, sub))
		}
		return dirs
	}
	env.prepend("PATH", under("bin"))
	env.prepend("PYTHONPATH", append(slices.Clone(e.Python), under("lib/python")...))
	env.prepend("LD_LIBRARY_PATH", append(slices.Clone(e.Libraries), under("lib")...))
	for _, variable := range e.Variables {
		if name, value, ok := strings.Cut(variable, "="); ok && !Withheld(name) {
			env[name] = value
		}
	}

	env["TMPDIR"], env["HOME"] = r.dir.Temp(), r.dir.Home()
	env["FLOE_SCRATCH"] = r.dir.Work()
	env["FLOE_STATISTICS"] = step.statistics
	if r.session != nil {
		env[session.Variable] = r.session.Path()
		if r.options.Tool != "" {
			env.prepend("PATH", []string{r.options.Tool})
		}
	}
	env["FLOE_DATASET"] = strconv.FormatUint(uint64(r.task.ID.Dataset), 10)
	env["FLOE_JOB"] = strconv.FormatUint(uint64(r.task.ID.Job), 10)
	env["FLOE_JOBS"] = strconv.FormatUint(uint64(r.task.Jobs), 10)
	env["FLOE_TASK"] = r.task.Name
	env["FLOE_TASK_ID"] = r.task.ID.String()
	env["FLOE_ATTEMPT"] = strconv.FormatUint(uint64(r.task.Attempt), 10)
	env["FLOE_SEED"] = strconv.FormatUint(r.task.Seed, 10)
	env["FLOE_TRAY"] = step.tray.Name
	env["FLOE_ITERATION"] = strconv.Itoa(step.tray.Iteration)
	env["FLOE_MODULE"] = step.label
	if len(e.Software) > 0 {
		env["FLOE_METAPROJECT"] = strings.Join(e.Software, ":")
	}
	if step.restored != "" {
		env["FLOE_CHECKPOINT"] = step.restored
	}
	env.add(protocol.GPUVariables(r.options.GPUs))
	if cores := r.options.Cores; cores > 0 {
		env["FLOE_CORES"] = strconv.Itoa(cores)
		for _, name := range threadVariables {
			if env[name] == "" {
				env[name] = strconv.Itoa(cores)
			}
		}
	}
	if r.limits.Memory > 0 {
		env["FLOE_MEMORY"] = fmt.Sprint(int64(r.limits.Memory))
	}
	env.add(r.options.Extra)
	return env
}

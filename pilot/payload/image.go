package payload

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"floe/protocol"
)

// Image is the root file system that the modules of a tray see: a directory that
// holds one, or a single file (SIF).
type Image struct {
	// Path is on the node. A link that it is or goes through is followed.
	Path string
	// Name is what the steering file calls it, for evidence.
	Name string
}

// Images is how this node runs images; see FindImages. Nil runs none.
type Images struct {
	// Own runs unpacked ones by the payload's own namespaces; nil cannot.
	Own *Isolation
	// Program is apptainer or singularity, wherever it is, and Flags what it needs on this
	// node beside what every image does; an empty one is not there.
	Program string
	Flags   []string
}

var (
	// errImage: an image that cannot be run anywhere, or not here.
	errImage = errors.New("image")
	// errNoImages: the node was not to have been given the task.
	errNoImages = errors.New("this node runs no such images")
	// errImageOnCVMFS: a repository that answers has no such image.
	errImageOnCVMFS = errors.New("the repository has no such image")
)

// container is how one module runs in its image.
type container struct {
	root  *root    // of floe's own namespaces; nil where a program makes them
	env   []string // of what is started on the node
	file  string   // a single file, which the program must see
	begun string   // is there once the module's own program is about to begin
}

// started tells whether the image could be entered.
func (c *container) started() bool {
	_, err := os.Lstat(c.begun)
	return err == nil
}

// contain makes the command line of a module one that runs it in its image. What
// enters the image is a script of its own shell, which sets the environment.
func (r *runner) contain(m *Image, argv []string, env environ, s *step) ([]string, error) {
	info, err := os.Stat(m.Path)
	switch {
	case err != nil && inside(m.Path, []string{"/cvmfs"}) && isMissing(err):
		return nil, fmt.Errorf("%w: container %s: %w", errImageOnCVMFS, m.Name, err)
	case err != nil:
		return nil, fmt.Errorf("%w %s: %w", errImage, m.Name, err)
	}
	images := r.options.Images
	if images == nil {
		images = &Images{}
	}
	c := &container{begun: strings.TrimSuffix(s.spec, ".json") + ".begun"}
	script := strings.TrimSuffix(s.spec, ".json") + ".sh"
	own := info.IsDir() && images.Own != nil && (len(r.options.GPUs) == 0 || images.Program == "")
	switch {
	case own:
		if _, err := os.Lstat(filepath.Join(m.Path, "bin")); err != nil {
			return nil, fmt.Errorf("%w %s: no root file system: %w", errImage, m.Name, err)
		}
		argv = append([]string{shellOf, script}, argv...)
		err = r.ownRoot(m, c, env)
	case images.Program == "" && info.IsDir():
		return nil, fmt.Errorf("%w: container %s: neither are payloads isolated, nor is there apptainer or singularity", errNoImages, m.Name)
	case images.Program == "":
		return nil, fmt.Errorf("%w: container %s is a single file, for which there is neither apptainer nor singularity", errNoImages, m.Name)
	default:
		seen := r.seen()
		if c.file, err = filepath.EvalSymlinks(m.Path); err == nil {
			argv = r.programCommand(images, c, seen, append([]string{shellOf, script}, argv...), env)
			err = r.makePlaces(seen)
		}
	}
	if err == nil {
		err = r.dir.put(filepath.Base(script), []byte(r.enterScript(c, env, own)))
	}
	if err != nil {
		return nil, err
	}
	_ = os.RemoveAll(c.begun)
	s.container = c
	return argv, nil
}

// shellOf is the shell that every image has.
const shellOf = "/bin/sh"

// pathVariables are those that an image's own are added to.
var pathVariables = []string{"PATH", "LD_LIBRARY_PATH", "PYTHONPATH"}

// enterScript is run by the image's shell. Containers of Docker keep their variables
// in scripts, which apptainer and singularity read themselves.
func (r *runner) enterScript(c *container, env environ, own bool) string {
	var b strings.Builder
	if own {
		b.WriteString("for f in /.singularity.d/env/*.sh; do\n  if [ -r \"$f\" ]; then . \"$f\"; fi\ndone\n")
	}
	for _, variable := range env.list() {
		name, value, _ := strings.Cut(variable, "=")
		if !isVariable(name) {
			continue // no shell can export it
		}
		value = quoteShell(value)
		if slices.Contains(pathVariables, name) {
			value += fmt.Sprintf(`"${%[1]s:+:$%[1]s}"`, name)
		}
		fmt.Fprintf(&b, "export %s=%s\n", name, value)
	}
	fmt.Fprintf(&b, "cd %s || exit 125\n: > %s\nexec \"$@\"\n", quoteShell(r.dir.Work()), quoteShell(c.begun))
	return b.String()
}

// isVariable tells whether a shell can have a variable of the name.
func isVariable(name string) bool {
	return name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") == "" && (name[0] < '0' || name[0] > '9')
}

// quoteShell is a text as one word of a shell.
func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// seen are the files and directories of the node that every image shows at their own
// places, with those of the attempt for the temporary directories.
func (r *runner) seen() []bound {
	out := []bound{{Source: string(r.dir), Target: string(r.dir)}}
	for _, path := range shared {
		out = append(out, bound{Source: r.dir.Temp(), Target: path})
	}
	add := func(path string) {
		full, ok := resolve(path)
		if !ok || slices.ContainsFunc(out, func(b bound) bool { return b.Target == full }) {
			return
		}
		info, err := os.Stat(full)
		out = append(out, bound{Source: full, Target: full, Whole: true, File: err == nil && !info.IsDir()})
	}
	for _, path := range r.readable() {
		add(path)
	}
	if r.options.Isolation != nil {
		for _, path := range r.options.Isolation.writable {
			add(path)
		}
	}
	add("/cvmfs")
	slices.SortStableFunc(out, func(a, b bound) int { return cmp.Compare(a.Target, b.Target) })
	return out
}

// makePlaces makes the places of what is seen in the temporary directory, which is the
// attempt's.
func (r *runner) makePlaces(all []bound) error {
	temp, err := os.OpenRoot(r.dir.Temp())
	if err != nil {
		return err
	}
	defer temp.Close()
	for _, b := range all {
		for _, path := range shared {
			if rel, err := filepath.Rel(path, b.Target); err == nil && rel != "." && filepath.IsLocal(rel) {
				if err := temp.MkdirAll(rel, 0o700); err != nil {
					return fmt.Errorf("place of %s in an image: %w", b.Target, err)
				}
			}
		}
	}
	return nil
}

// ownRoot prepares a root for floe's own namespaces.
func (r *runner) ownRoot(m *Image, c *container, env environ) error {
	tree, err := filepath.EvalSymlinks(m.Path)
	if err != nil {
		return fmt.Errorf("%w %s: %w", errImage, m.Name, err)
	}
	c.root = &root{Tree: tree, At: filepath.Join(string(r.dir), rootName), Bound: r.seen()}
	for _, path := range []string{"/dev", "/proc", "/sys"} {
		c.root.Bound = append(c.root.Bound, bound{Source: path, Target: path, Whole: true})
	}
	for _, path := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		if full, ok := resolve(path); ok {
			c.root.Bound = append(c.root.Bound, bound{Source: full, Target: path, File: true})
		}
	}
	if users := r.users(tree, env); users != "" {
		c.root.Bound = append(c.root.Bound, bound{Source: users, Target: "/etc/passwd", File: true})
	}
	c.env = []string{"PATH=" + imagePath, r.homeVariable()}
	return r.dir.empty(rootName)
}

// rootName is where an image's root is put together, in the attempt's directory.
const rootName = "root"

// imagePath is the PATH of an image that sets none. Source: OCI image specification,
// as Docker and apptainer have it.
const imagePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// homeVariable is what tells processes of this attempt from others, see tree.
func (r *runner) homeVariable() string { return "FLOE_SCRATCH=" + r.dir.Work() }

// users is a file with the image's users and the one who runs, whom the image does not
// know; empty where there is none to be had.
func (r *runner) users(tree string, env environ) string {
	within, err := os.OpenRoot(tree)
	if err != nil {
		return ""
	}
	defer within.Close()
	text, err := within.ReadFile("etc/passwd")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return ""
	}
	id := fmt.Sprintf(":%d:", os.Getuid())
	for line := range strings.Lines(string(text)) {
		if _, rest, _ := strings.Cut(line, ":"); strings.Contains(":"+strings.SplitN(rest+"::", ":", 3)[1]+":", id) {
			return ""
		}
	}
	name := env["USER"]
	if name == "" || strings.ContainsAny(name, ":\n") {
		name = "floe"
	}
	text = fmt.Appendf(text, "%s:x:%d:%d::%s:/bin/sh\n", name, os.Getuid(), os.Getgid(), r.dir.Home())
	if r.dir.put("passwd", text) != nil {
		return ""
	}
	return filepath.Join(string(r.dir), "passwd")
}

// programCommand is a command line of apptainer or singularity. Where payloads are
// isolated, the program makes its namespaces in those of the payload.
func (r *runner) programCommand(images *Images, c *container, seen []bound, argv []string, env environ) []string {
	out := []string{images.Program, "--silent", "--nocolor", "exec", "--no-home"}
	if r.options.Isolation != nil {
		out = append(out, "--contain", "--cleanenv")
	} else {
		out = append(out, "--containall")
	}
	out = append(out, images.Flags...)
	nvidia, amd := false, false
	for _, id := range r.options.GPUs {
		switch {
		case protocol.IsAMD(id):
			amd = true
		case !strings.HasPrefix(id, protocol.OpenCLIndex):
			nvidia = true
		default: // whose it is, only the driver knows: what is not there is left out
			nvidia, amd = true, true
		}
	}
	if nvidia {
		out = append(out, "--nv")
	}
	if amd {
		out = append(out, "--rocm")
	}
	writable := []string{string(r.dir), r.dir.Temp()}
	if r.options.Isolation != nil {
		writable = append(writable, r.options.Isolation.writable...)
	}
	for _, b := range seen {
		mount := "type=bind," + field("source="+b.Source) + "," + field("destination="+b.Target)
		if !slices.Contains(writable, b.Source) {
			mount += ",readonly"
		}
		out = append(out, "--mount", mount)
	}
	c.env = r.programEnvironment(env)
	return append(append(out, c.file), argv...)
}

// field is a field of comma-separated values.
func field(s string) string {
	if strings.ContainsAny(s, "\",\n") {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}

// programEnvironment is what apptainer itself sees: nothing by which its user sets
// mounts and variables, and a directory of the attempt's for what it keeps.
func (r *runner) programEnvironment(env environ) []string {
	out := environ{
		"PATH": hostPath(r.options.Environ), "HOME": r.dir.Home(), "TMPDIR": r.dir.Temp(), "LANG": "C",
	}
	for _, name := range []string{"USER", "LOGNAME"} {
		if env[name] != "" {
			out[name] = env[name]
		}
	}
	for _, name := range []string{"APPTAINER", "SINGULARITY"} {
		out[name+"_TMPDIR"], out[name+"_CACHEDIR"] = r.dir.Temp(), filepath.Join(r.dir.Temp(), "."+strings.ToLower(name))
	}
	return append(out.list(), r.homeVariable())
}

// hostPath is the PATH of the pilot, in which apptainer finds its helpers.
func hostPath(variables []string) string {
	if variables == nil {
		variables = os.Environ()
	}
	e := environ{"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
	e.add(slices.DeleteFunc(slices.Clone(variables), func(v string) bool { return !strings.HasPrefix(v, "PATH=") }))
	return e["PATH"]
}

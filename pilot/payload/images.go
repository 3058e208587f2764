package payload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/protocol"
)

// imagePrograms start containers from images, in the order in which they are tried.
var imagePrograms = []string{"apptainer", "singularity"}

// probeImages is how long a program may take for an image that holds nothing.
const probeImages = 30 * time.Second

// FindImages tries how images can be run: unpacked ones by isolation, where that is
// not nil, all by apptainer or singularity, where one is on PATH and works. The text
// says for each way what came of it. Nil runs no images.
func FindImages(ctx context.Context, scratch string, isolation *Isolation) (*Images, []string) {
	var said []string
	out := &Images{}
	if isolation != nil {
		if err := isolation.tryRoot(scratch); err != nil {
			said = append(said, fmt.Sprintf("own namespaces: %v", err))
		} else {
			out.Own, said = isolation, append(said, "own namespaces: unpacked images")
		}
	}
	for _, name := range imagePrograms {
		program, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		flags, err := tryProgram(ctx, program, scratch, isolation)
		if err != nil {
			said = append(said, fmt.Sprintf("%s: %v", program, err))
			continue
		}
		out.Program, out.Flags = program, flags
		said = append(said, strings.Join(append([]string{program}, flags...), " ")+": all images")
		break
	}
	if out.Own == nil && out.Program == "" {
		return nil, said
	}
	return out, said
}

// Tags are what a pilot advertises of the images that it runs.
func (i *Images) Tags() (tags []string) {
	if i != nil {
		tags = append(tags, protocol.ImageTreeTag)
	}
	if i != nil && i.Program != "" {
		tags = append(tags, protocol.ImageSIFTag)
	}
	return tags
}

// tryRoot builds the world of a payload in an image that is an empty directory.
func (i *Isolation) tryRoot(scratch string) error {
	return i.tryWorld(scratch, func(w *world, dir Dir) error {
		w.Root = &root{Tree: dir.Work(), At: filepath.Join(string(dir), rootName), Bound: []bound{
			{Source: string(dir), Target: string(dir)}, {Source: "/proc", Target: "/proc", Whole: true}, {Source: "/dev", Target: "/dev", Whole: true},
		}}
		return dir.empty(rootName)
	})
}

// tryProgram runs a program of the node in an image that holds nothing but what is
// bound into it, as a payload would be, and returns the flags by which it works.
func tryProgram(ctx context.Context, program, scratch string, isolation *Isolation) ([]string, error) {
	// Where payloads are isolated, a set-user-id program has no more rights than others.
	choices := [][]string{nil, {"--userns"}}
	if isolation != nil {
		choices = choices[1:]
	}
	var failed error
	for _, flags := range choices {
		out, err := tryFlags(ctx, program, scratch, isolation, flags)
		switch {
		case err != nil:
			return nil, err
		case out.Verdict == protocol.VerdictOK:
			return flags, nil
		}
		failed = errors.Join(failed, errors.New(strings.Join(append(flags, out.Evidence), ": ")))
	}
	return nil, failed
}

func tryFlags(ctx context.Context, program, scratch string, isolation *Isolation, flags []string) (out Outcome, err error) {
	base, err := os.MkdirTemp(scratch, "image-")
	if err != nil {
		return out, err
	}
	dir, tree := Dir(base), filepath.Join(base, "tree")
	defer func() { err = errors.Join(err, dir.Remove()) }()
	flags = slices.Clone(flags)
	for _, path := range []string{"/usr", "/bin", "/lib", "/lib32", "/lib64"} {
		if full, ok := resolve(path); ok {
			flags = append(flags, "--mount", "type=bind,"+field("source="+full)+",destination="+path+",readonly")
			err = errors.Join(err, os.MkdirAll(tree+path, 0o755))
		}
	}
	for _, path := range []string{"/dev", "/etc", "/proc", "/sys", "/tmp", "/var/tmp"} {
		err = errors.Join(err, os.MkdirAll(tree+path, 0o755))
	}
	if err != nil {
		return out, err
	}
	if dir, err = MakeDir(filepath.Join(base, "attempt")); err != nil {
		return out, err
	}
	task := Task{Name: "image", Trays: []Tray{{Environment: Environment{Image: &Image{Path: tree, Name: "that is empty"}}, Modules: []Module{{Src: "/bin/true"}}}}}
	limits := Limits{Walltime: probeImages, Grace: time.Second}
	out = Run(ctx, task, limits, dir, Options{Isolation: isolation, Images: &Images{Program: program, Flags: flags}})
	dir = Dir(base)
	return out, nil
}

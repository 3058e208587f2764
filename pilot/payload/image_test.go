package payload

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"floe/pilot/payload/session"
	"floe/protocol"
)

// busybox is a static program that is all of a small system.
const busybox = "/bin/busybox"

// smallSystem makes a root file system of busybox, with what the test's own program needs,
// which is floe-task there.
func smallSystem(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Skip("no busybox (Debian: busybox-static)")
	}
	root := filepath.Join(t.TempDir(), "image")
	put := func(path, text string, mode fs.FileMode) {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "var/tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put("bin/busybox", string(program), 0o755)
	for _, name := range []string{"sh", "cat", "id", "ls", "sleep", "setsid", "env", "touch", "awk", "tr"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	put("etc/os-release", "ID=small\n", 0o644)
	put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
	put("etc/group", "root:x:0:\n", 0o644)
	put("opt/tool/bin/hello", "#!/bin/sh\necho hello from $(cat /etc/os-release)\n", 0o755)
	put(".singularity.d/env/90-environment.sh", "export PATH=/opt/tool/bin:$PATH FLAVOUR=small FLOE_JOB=wrong\n", 0o755)
	put("var/lib/kept", "of the image\n", 0o644)
	if err := os.Symlink("/etc", filepath.Join(root, "home")); err != nil { // in the place of mount points
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	listed, _ := exec.Command("ldd", self).Output() // fails for static programs
	for _, library := range regexp.MustCompile(`/lib\S+`).FindAllString(string(listed), -1) {
		text, err := os.ReadFile(library)
		if err != nil {
			t.Fatal(err)
		}
		put(library, string(text), 0o755)
	}
	return root
}

// way is one of those in which images run.
type way struct {
	name      string
	images    *Images
	isolation *Isolation
	single    bool // from a single file
}

// everyWay runs a test in each way in which this machine runs images.
func everyWay(t *testing.T, test func(t *testing.T, w way, image string)) {
	t.Helper()
	if os.Getuid() == 0 && os.Getenv(asNobody) == "" {
		// Pilots are not root, and programs for images do otherwise where they are.
		again(t)
	}
	isolation, err := isolationHere()
	if err != nil {
		isolation = nil
	}
	var ways []way
	if images, said := FindImages(t.Context(), t.TempDir(), isolation); isolation != nil {
		t.Log(said)
		if images == nil || images.Own == nil {
			t.Error("payloads are isolated here, but unpacked images are not run")
		}
		ways = append(ways, way{"own", &Images{Own: isolation}, isolation, false})
		if images != nil && images.Program != "" {
			program := &Images{Program: images.Program, Flags: images.Flags}
			ways = append(ways, way{"isolated program", program, isolation, false}, way{"isolated program and single file", program, isolation, true})
		}
	}
	if images, said := FindImages(t.Context(), t.TempDir(), nil); images != nil {
		ways = append(ways, way{"program", images, nil, false}, way{"program and single file", images, nil, true})
	} else {
		t.Logf("neither apptainer nor singularity: %v", said)
	}
	if os.Getuid() == 0 {
		// To unpack a file, root's program asks for capabilities that a machine may lack.
		ways = slices.DeleteFunc(ways, func(w way) bool { return w.single })
	}
	root := smallSystem(t)
	var single string
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			image := root
			if w.single {
				if single == "" {
					file := filepath.Join(filepath.Dir(root), "image.sif")
					if out, err := exec.Command(w.images.Program, "build", file, root).CombinedOutput(); err != nil {
						t.Fatalf("build an image: %v\n%s", err, out)
					}
					single = file
				}
				image = single
			}
			test(t, w, image)
		})
	}
}

// asNobody says that a test runs once more.
const asNobody = "PAYLOAD_TEST_NOBODY"

// again runs the test in a process of a user without rights.
func again(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self := filepath.Join(dir, "test")
	text, err := os.ReadFile("/proc/self/exe")
	if err := errors.Join(err, os.WriteFile(self, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	giveAway(t, dir)
	cmd := exec.Command(self, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asNobody+"=1", "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as nobody: %v", err)
	}
	if err != nil || testing.Verbose() {
		t.Logf("as nobody:\n%s", out)
	}
}

// within is an attempt whose modules run in an image.
func (w *way) within(t *testing.T, image string, modules ...Module) *attempt {
	t.Helper()
	a := newAttempt(t, modules...)
	a.options.Isolation, a.options.Images = w.isolation, w.images
	a.task.Trays[0].Image = &Image{Path: image, Name: "small/1"}
	a.options.Tool = filepath.Join(t.TempDir(), "bin")
	if err := session.Install(a.options.Tool); err != nil {
		t.Fatal(err)
	}
	return a
}

// Modules see the image and their attempt, and speak to the pilot from inside.
func TestModulesRunInTheirImage(t *testing.T) {
	everyWay(t, func(t *testing.T, w way, image string) {
		t.Setenv("FLAVOUR", "of the node")
		t.Setenv("NODE_ONLY", "1")
		a := w.within(t, image, Module{Name: "by path", Src: "/opt/tool/bin/hello"}, Module{Name: "by name", Src: "hello"},
			Module{Name: "staged", Src: "staged.sh"}, script(`set -e
			test "$(cat /etc/os-release)" = ID=small
			test ! -e /usr/bin/python3
			test "$FLAVOUR$FLOE_JOB$NODE_ONLY" = small7
			test "$PWD" = "$FLOE_SCRATCH" && echo made >output
			test "$(cat input)" = staged
			test "$(cat /var/lib/kept)" = "of the image"
			echo x >/tmp/x && test -e $TMPDIR/x && cat /tmp/x >/var/tmp/y
			echo x >$HOME/x
			if touch /planted /bin/planted 2>/dev/null; then echo the image can be written to; exit 3; fi
			test "$WITH" = "it's
two lines"
			id
			floe-task statistic from_inside 42`))
		a.task.Trays[0].Variables = []string{"WITH=it's\ntwo lines"}
		a.file("input", "staged")
		a.file("staged.sh", "echo staged from $FLAVOUR; exit 0\n")
		out := a.run(t.Context())
		if out.Verdict != protocol.VerdictOK || len(out.Statistics) != 1 || out.Statistics[0].Value != 42 {
			t.Fatalf("Run = %v, %s; statistics %v\n%s", out.Verdict, out.Evidence, out.Statistics, a.log())
		}
		if b, err := os.ReadFile(filepath.Join(a.dir.Work(), "output")); string(b) != "made\n" {
			t.Errorf("output %q, %v", b, err)
		}
		if got := strings.Count(a.log(), "hello from ID=small"); got != 2 {
			t.Errorf("hello ran %d times in the image, want 2\n%s", got, a.log())
		}
		if _, err := os.Lstat(filepath.Join(image, "planted")); err == nil {
			t.Error("the image was written to")
		}
	})
}

// Limits hold, whole trees end, and what is used is counted, as without an image.
func TestImagesAreKeptToLimits(t *testing.T) {
	everyWay(t, func(t *testing.T, w way, image string) {
		t.Run("memory", func(t *testing.T) {
			a := w.within(t, image, script(`awk 'BEGIN { x = "0123456789abcdef"; while (1) x = x x }'`))
			a.limits.Memory = 300 * protocol.MB
			if out := a.run(t.Context()); out.Verdict != protocol.VerdictMemory {
				t.Errorf("Run = %v, %s; want memory", out.Verdict, out.Evidence)
			}
		})
		t.Run("walltime", func(t *testing.T) {
			a := w.within(t, image, script(`trap 'echo told >told; exit 0' TERM; echo begun >begun; while :; do sleep 0.1; done`))
			a.limits.Walltime, a.limits.Grace = 4*time.Second, 5*time.Second
			if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK && out.Verdict != protocol.VerdictWalltime {
				t.Errorf("Run = %v, %s; want ok or walltime", out.Verdict, out.Evidence)
			}
			if _, err := os.Lstat(filepath.Join(a.dir.Work(), "told")); err != nil {
				t.Errorf("the payload did not hear SIGTERM: %v\n%s", err, a.log())
			}
		})
		t.Run("daemons", func(t *testing.T) {
			a := w.within(t, image, script(`(setsid sh -c 'sleep 600 & sleep 600' &) ; setsid sleep 600 & awk 'BEGIN { for (i = 0; i < 3000000; i++) x += i }'`))
			out := a.run(t.Context())
			if out.Verdict != protocol.VerdictOK || out.Usage.CPUMillis < 20 {
				t.Errorf("Run = %v, %s, processor time %d ms; want ok and some", out.Verdict, out.Evidence, out.Usage.CPUMillis)
			}
			if left := with(t, a.dir.Work()); len(left) > 0 {
				t.Errorf("processes %v outlive their module", left)
			}
		})
		t.Run("abandoned", func(t *testing.T) {
			a := w.within(t, image, script(`trap '' TERM; echo begun >begun; while :; do sleep 600; done`))
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				for ctx.Err() == nil {
					if _, err := os.Lstat(filepath.Join(a.dir.Work(), "begun")); err == nil {
						cancel(ErrAbandoned)
					}
					<-time.After(10 * time.Millisecond)
				}
			}()
			if out := a.run(ctx); out.Verdict != protocol.VerdictPreempted {
				t.Errorf("Run = %v, %s; want preempted", out.Verdict, out.Evidence)
			}
			if left := with(t, a.dir.Work()); len(left) > 0 {
				t.Errorf("processes %v outlive their module", left)
			}
		})
	})
}

// Whose fault it is that an image does not run.
func TestVerdictsOnImages(t *testing.T) {
	everyWay(t, func(t *testing.T, w way, image string) {
		damaged := func(t *testing.T, dirs ...string) string {
			if !w.single {
				empty := filepath.Join(t.TempDir(), "empty")
				for _, dir := range append(dirs, "bin", "etc") {
					if err := os.MkdirAll(filepath.Join(empty, dir), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				return empty
			}
			file := filepath.Join(t.TempDir(), "image.sif")
			if err := os.WriteFile(file, []byte("no image at all\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return file
		}
		for _, tt := range []struct {
			name, image string
			module      Module
			want        protocol.Verdict
			evidence    string
		}{
			{"not there", filepath.Join(t.TempDir(), "none"), script("true"), protocol.VerdictSoftware, "image small/1: stat "},
			{"not in the repository", "/cvmfs/none.example.org/el9", script("true"), protocol.VerdictPayload, "the repository has no such image: container small/1"},
			{"damaged", damaged(t), script("true"), protocol.VerdictSoftware, ""},
			{"without a shell", damaged(t, "dev", "proc", "sys", "tmp", "var/tmp"), script("true"), protocol.VerdictSoftware, ""},
			{"no such program", image, Module{Src: "/opt/none"}, protocol.VerdictPayload, "exit code 127"},
			{"its own failure", image, script("exit 255"), protocol.VerdictPayload, "exit code 255"},
			{"its own failure with words of others", image, script("echo FATAL: image format not recognized; exit 255"), protocol.VerdictPayload, "exit code 255"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				out := w.within(t, tt.image, tt.module).run(t.Context())
				if out.Verdict != tt.want || !strings.Contains(out.Evidence, tt.evidence) {
					t.Errorf("Run = %v, %q; want %v with %q", out.Verdict, out.Evidence, tt.want, tt.evidence)
				}
			})
		}
	})
}

// A node that cannot run an image says so: another one can.
func TestANodeWithoutImages(t *testing.T) {
	a := newAttempt(t, script("true"))
	a.task.Trays[0].Image = &Image{Path: t.TempDir(), Name: "small/1"}
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictNode || !strings.Contains(out.Evidence, "neither are payloads isolated, nor is there apptainer") {
		t.Errorf("Run = %v, %s; want node", out.Verdict, out.Evidence)
	}
}

// The command line for a program, with and without isolation and cards.
func TestCommandLinesForImages(t *testing.T) {
	a := newAttempt(t)
	tool := filepath.Join(t.TempDir(), "with, comma")
	if err := os.Mkdir(tool, 0o700); err != nil {
		t.Fatal(err)
	}
	images := &Images{Program: "/opt/bin/apptainer", Flags: []string{"--userns"}}
	for _, tt := range []struct {
		name string
		o    Options
		has  []string
		not  []string
	}{
		{"plain", Options{}, []string{"--containall", "--no-home", "--userns"}, []string{"--nv", "--rocm", "--contain"}},
		{"isolated", Options{Isolation: &Isolation{}}, []string{"--contain", "--cleanenv"}, []string{"--containall"}},
		{"a card of NVIDIA", Options{GPUs: []string{"GPU-5ab2c1de-0f3a-11ee-9c3b-0242ac120002"}}, []string{"--nv"}, []string{"--rocm"}},
		{"a card of AMD", Options{GPUs: []string{"AMD-1"}}, []string{"--rocm"}, []string{"--nv"}},
		{"anybody's", Options{GPUs: []string{"OCL-0.1"}}, []string{"--rocm", "--nv"}, nil},
	} {
		tt.o.Tool = tool
		r := &runner{dir: a.dir, options: tt.o}
		c := &container{file: "/images/x"}
		got := r.programCommand(images, c, r.seen(), []string{"/bin/sh", "script"}, environ{"USER": "icecube", "SINGULARITY_BIND": "/home"})
		if got[0] != images.Program || got[3] != "exec" || !slices.Equal(got[len(got)-3:], []string{"/images/x", "/bin/sh", "script"}) {
			t.Errorf("%s: %q", tt.name, got)
		}
		for _, want := range append(tt.has, `type=bind,"source=`+tool+`","destination=`+tool+`",readonly`, "type=bind,source="+string(a.dir)+",destination="+string(a.dir)) {
			if !slices.Contains(got, want) {
				t.Errorf("%s: %q lacks %s", tt.name, got, want)
			}
		}
		for _, unwanted := range tt.not {
			if slices.Contains(got, unwanted) {
				t.Errorf("%s: %q has %s", tt.name, got, unwanted)
			}
		}
		if strings.Contains(strings.Join(c.env, " "), "SINGULARITY_BIND") || !slices.Contains(c.env, "USER=icecube") {
			t.Errorf("%s: environment %q", tt.name, c.env)
		}
	}
}

// What is hidden from payloads is hidden from those in an image, also where the image
// lies in it, and what earlier modules leave does not change where the next one runs.
func TestHostilePayloadsInImages(t *testing.T) {
	if _, err := isolationHere(); err != nil {
		t.Skip(err)
	}
	image := smallSystem(t)
	hidden := filepath.Dir(image)
	if err := os.WriteFile(filepath.Join(hidden, "ticket"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	isolation, err := FindIsolation(t.TempDir(), Places{Hidden: []string{hidden}})
	if err != nil {
		t.Fatal(err)
	}
	images, said := FindImages(t.Context(), t.TempDir(), isolation)
	if images == nil {
		t.Fatal(said)
	}
	ways := []way{{"own", &Images{Own: isolation}, isolation, false}}
	if images.Program != "" && os.Getuid() != 0 {
		ways = append(ways, way{"isolated program", &Images{Program: images.Program, Flags: images.Flags}, isolation, false})
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			a := w.within(t, image, script(`rm -rf $FLOE_SCRATCH/../root; ln -s / $FLOE_SCRATCH/../root; ln -sf / $FLOE_SCRATCH/../module-2.sh`),
				script(`test "$(cat /etc/os-release)" = ID=small || exit 3
				cat `+hidden+`/ticket && exit 4
				ls /proc/`+strconv.Itoa(os.Getpid())+` && exit 5
				mkdir /up && exit 6
				for dir in /usr/share /proc/1/root/usr/share; do test -e $dir && exit 7; done
				true`))
			if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK {
				t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
			}
		})
	}
}

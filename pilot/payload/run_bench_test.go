package payload

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// BenchmarkTrue is what one /bin/true costs: as a task, with isolation and
// without, and as a bare spawn with the same session and directory.
func BenchmarkTrue(b *testing.B) {
	for _, isolated := range []bool{false, true} {
		b.Run(fmt.Sprintf("task isolated=%v", isolated), func(b *testing.B) { benchmarkTask(b, isolated) })
	}
	b.Run("spawn", func(b *testing.B) {
		root := b.TempDir()
		for i := 0; b.Loop(); i++ {
			dir := filepath.Join(root, strconv.Itoa(i))
			if err := os.Mkdir(dir, 0o700); err != nil {
				b.Fatal(err)
			}
			log, err := os.Create(filepath.Join(dir, "log"))
			if err != nil {
				b.Fatal(err)
			}
			p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{
				Dir: dir, Files: []*os.File{nil, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
			})
			if err == nil {
				_, err = p.Wait()
			}
			if err != nil {
				b.Fatal(err)
			}
			log.Close()
			if err := os.RemoveAll(dir); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchmarkTask(b *testing.B, isolated bool) {
	var o Options
	if isolated {
		var err error
		if o.Isolation, err = isolationHere(); err != nil {
			b.Skip(err)
		}
	}
	root := b.TempDir()
	var dirs Dirs
	for i := 0; b.Loop(); i++ {
		dir, socket, err := dirs.Make(filepath.Join(root, strconv.Itoa(i)), 1)
		if err != nil {
			b.Fatal(err)
		}
		o.Socket = socket
		task := Task{Trays: []Tray{{Modules: []Module{{Src: "/bin/true"}}}}}
		if out := Run(context.Background(), task, Limits{}, dir, o); out.Evidence != "" {
			b.Fatal(out.Evidence)
		}
		if err := dirs.Remove(dir, socket, 1); err != nil {
			b.Fatal(err)
		}
	}
}

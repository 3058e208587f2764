//go:build linux

package coordinator

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// A recorder is a file system in memory that keeps a log of everything done to it,
// in order: what a disk is told, and when it is told to sync. From the log the
// directory is built as it may be after a loss of power at any point (image).
//
// The process that uses it must be another one: a thread that waits for a page of
// a memory map cannot be taken off its processor, so a Go program that serves its
// own maps comes to a standstill.
type recorder struct {
	mu   sync.Mutex
	ops  []op // guarded by mu
	next int  // guarded by mu: number of the next inode
}

// op is one thing done to the disk.
type op struct {
	kind opKind
	// node is the file or directory; of a name, the directory that holds it.
	node int
	// off and data are those of a write, or off the length of a cut or a stretch.
	off  int64
	data []byte
	// name is given in node to child; a rename also takes it from old in from.
	name, old   string
	child, from int
}

type opKind uint8

const (
	opWrite opKind = iota + 1
	opLength
	opSync // of a file or directory
	opName // a file was made or renamed
	opFolder
	opUnname
	opAck // the client was told: data says what
)

func (r *recorder) add(o op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

func (r *recorder) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return r.next
}

// ackFile is written when the client was told something; it is no part of the disk.
const ackFile = "ack"

// mountRecorder mounts an empty recorder, or skips the test where that cannot be.
func mountRecorder(t *testing.T) (r *recorder, dir string, unmount func()) {
	t.Helper()
	r, dir = &recorder{}, t.TempDir()
	root := &diskFolder{recorder: r}
	zero := time.Duration(0)
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMount: true, FsName: "recorder", MaxWrite: 1 << 20, DisableXAttrs: true},
		EntryTimeout: &zero, AttrTimeout: &zero,
	})
	if err != nil {
		t.Skipf("no file systems in user space here, which this test records with: %v", err)
	}
	return r, dir, func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}
}

// diskFolder is a directory of a recorder.
type diskFolder struct {
	fs.Inode
	recorder *recorder
	number   int // 0 is the root
}

// diskFile is a file of a recorder.
type diskFile struct {
	fs.Inode
	recorder *recorder
	number   int

	mu   sync.Mutex
	data []byte // guarded by mu
}

var (
	_ = fs.NodeCreater((*diskFolder)(nil))
	_ = fs.NodeMkdirer((*diskFolder)(nil))
	_ = fs.NodeUnlinker((*diskFolder)(nil))
	_ = fs.NodeRmdirer((*diskFolder)(nil))
	_ = fs.NodeRenamer((*diskFolder)(nil))
	_ = fs.NodeFsyncer((*diskFolder)(nil))
	_ = fs.NodeStatfser((*diskFolder)(nil))
	_ = fs.NodeGetattrer((*diskFolder)(nil))
	_ = fs.NodeOpener((*diskFile)(nil))
	_ = fs.NodeReader((*diskFile)(nil))
	_ = fs.NodeWriter((*diskFile)(nil))
	_ = fs.NodeFsyncer((*diskFile)(nil))
	_ = fs.NodeGetattrer((*diskFile)(nil))
	_ = fs.NodeSetattrer((*diskFile)(nil))
)

func (d *diskFolder) Create(ctx context.Context, name string, _, _ uint32, _ *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	f := &diskFile{recorder: d.recorder, number: d.recorder.number()}
	if name == ackFile {
		f.number = 0
	} else {
		d.recorder.add(op{kind: opName, node: d.number, name: name, child: f.number})
	}
	n := d.NewPersistentInode(ctx, f, fs.StableAttr{Mode: syscall.S_IFREG})
	d.AddChild(name, n, true)
	return n, nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (d *diskFolder) Mkdir(ctx context.Context, name string, _ uint32, _ *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	f := &diskFolder{recorder: d.recorder, number: d.recorder.number()}
	d.recorder.add(op{kind: opFolder, node: d.number, name: name, child: f.number})
	n := d.NewPersistentInode(ctx, f, fs.StableAttr{Mode: syscall.S_IFDIR})
	d.AddChild(name, n, true)
	return n, 0
}

func (d *diskFolder) Unlink(_ context.Context, name string) syscall.Errno {
	d.recorder.add(op{kind: opUnname, node: d.number, name: name})
	return 0 // the caller drops the child
}

func (d *diskFolder) Rmdir(_ context.Context, name string) syscall.Errno {
	if c := d.GetChild(name); c != nil && len(c.Children()) > 0 {
		return syscall.ENOTEMPTY
	}
	d.recorder.add(op{kind: opUnname, node: d.number, name: name})
	return 0
}

func (d *diskFolder) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, _ uint32) syscall.Errno {
	to, ok := parent.(*diskFolder)
	if !ok {
		return syscall.EXDEV
	}
	o := op{kind: opName, node: to.number, name: newName, from: d.number, old: name}
	switch c := d.GetChild(name).Operations().(type) {
	case *diskFile:
		o.child = c.number
	case *diskFolder:
		o.child = c.number
	}
	d.recorder.add(o)
	return 0
}

func (d *diskFolder) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.recorder.add(op{kind: opSync, node: d.number})
	return 0
}

func (d *diskFolder) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o700
	return 0
}

// Statfs tells of a disk with room: the blob store looks.
func (d *diskFolder) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks, out.Bfree, out.Bavail = 1<<26, 1<<25, 1<<25
	out.Files, out.Ffree = 1<<20, 1<<20
	return 0
}

func (f *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (f *diskFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= int64(len(f.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(append([]byte(nil), f.data[off:min(int64(len(f.data)), off+int64(len(dest)))]...)), 0
}

func (f *diskFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	kind := opWrite
	if f.number == 0 {
		kind = opAck
	}
	f.recorder.add(op{kind: kind, node: f.number, off: off, data: append([]byte(nil), data...)})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data = written(f.data, off, data)
	return uint32(len(data)), 0
}

func (f *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.recorder.add(op{kind: opSync, node: f.number})
	return 0
}

func (f *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	out.Mode, out.Size = 0o600, uint64(len(f.data))
	return 0
}

func (f *diskFile) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		f.recorder.add(op{kind: opLength, node: f.number, off: int64(size)})
		f.mu.Lock()
		f.data = stretched(f.data, int64(size))
		f.mu.Unlock()
	}
	return f.Getattr(ctx, h, out)
}

// written is what a file holds after a write.
func written(file []byte, off int64, data []byte) []byte {
	if end := off + int64(len(data)); end > int64(len(file)) {
		file = stretched(file, end)
	}
	copy(file[off:], data)
	return file
}

// stretched is a file cut or filled with zeros to a length.
func stretched(file []byte, length int64) []byte {
	if length <= int64(len(file)) {
		return file[:length:length]
	}
	return append(file, make([]byte, length-int64(len(file)))...)
}

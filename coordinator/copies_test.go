package coordinator

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"floe/coordinator/blob"
	"floe/coordinator/replica"
	"floe/protocol"
)

// One coordinator's disk is erased and it joins under a new name. It must come to
// have every file worth keeping, so that the loss of another loses none.
func TestAnErasedDiskComesBackToFullCopies(t *testing.T) {
	t.Parallel()
	c := newTrio(t, replica.Limits{}, 3)
	// What uploads leave: each file on a majority only, another pair for each.
	files := map[protocol.Digest]string{}
	var temp protocol.Digest
	for i, class := range []blob.Class{blob.Durable, blob.Output, blob.Log, blob.Durable, blob.Output, blob.Log, blob.Temp} {
		text := fmt.Sprintf("file %d of class %v", i, class)
		d := protocol.DigestOf([]byte(text))
		if class == blob.Temp {
			temp = d
		} else {
			files[d] = text
		}
		for j, id := range c.names {
			if j != i%3 {
				info := blob.Info{Digest: d, Size: protocol.ByteSize(len(text)), Class: class, Owner: "test", Failed: class == blob.Log}
				if _, err := c.running[id].blobs.Put(t.Context(), info, strings.NewReader(text)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	erased := c.follower()
	id := erased.cluster.Node()
	erased.end()
	delete(c.running, id)
	if err := os.RemoveAll(c.dir(id)); err != nil {
		t.Fatal(err)
	}
	if err := c.leader().record.replica.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	fresh := c.join("c4")
	c.settle(3)
	for name, r := range c.running {
		c.await(fmt.Sprintf("coordinator %s to have every file", name), func() bool {
			for d := range files {
				if i, err := r.blobs.Stat(d); err != nil || i.Missing {
					return false
				}
			}
			return true
		})
	}
	for d, text := range files {
		f, _, err := fresh.blobs.Open(d)
		if err != nil {
			t.Errorf("file %q: %v", text, err)
			continue
		}
		b, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil || string(b) != text {
			t.Errorf("the file is %q, %v; want %q", b, err, text)
		}
		here, err := fresh.blobs.Stat(d)
		if err != nil || here.Owner != "test" || here.Failed != (here.Class == blob.Log) {
			t.Errorf("file %q is kept as %+v, %v", text, here, err)
		}
	}
	if _, err := fresh.blobs.Stat(temp); err == nil {
		t.Error("a file between tasks was copied, too")
	}
}

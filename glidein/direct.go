package glidein

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// LoadForJobs reads a site's configuration for jobs that are submitted without
// coordinators and pilots. What it does not say stays empty: what a job asks for then
// is that job's matter.
func LoadForJobs(file string) (*Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	if err := CheckForJobs(b, file); err != nil {
		return nil, err
	}
	c, err := readConfig(b, file)
	if err == nil && c.Directory == "" {
		c.Directory = filepath.Dir(abs)
	}
	return c, err
}

// CheckForJobs says what is wrong with a configuration of that name, whether or not
// there is a program for pilots.
func CheckForJobs(b []byte, file string) error {
	c, err := readConfig(b, file)
	if err != nil {
		return err
	}
	c.System.Pilot = os.DevNull // any file will do
	c.fill(filepath.Dir(file))
	return c.Validate()
}

// Find is the queue of a name: its own in the file, else that in the batch system.
// Without one it is the only queue.
func (c *Config) Find(name string) (*Queue, error) {
	all := c.InUse()
	names := make([]string, len(all))
	for i, q := range all {
		names[i] = q.Shape()
	}
	if name == "" && len(all) == 1 {
		return all[0], nil
	}
	at := slices.Index(names, name)
	if at < 0 {
		at = slices.IndexFunc(all, func(q *Queue) bool { return name != "" && q.Name == name })
	}
	switch {
	case at >= 0:
		return all[at], nil
	case name == "":
		return nil, fmt.Errorf("there are several queues: name one of %s", strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("queue %q: there is %s", name, strings.Join(names, ", "))
}

package glidein

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
)

// Plugin is a program of the site's own that speaks for a batch system.
type Plugin struct {
	// Command is the program and its arguments. A path is taken from Config.Directory.
	Command []string `toml:"command"`
	// Settings are given to the program as they are.
	Settings map[string]any `toml:"settings"`
}

func (p *Plugin) validate(queueType string, common *Plugin, say func(string, ...any)) {
	switch {
	case queueType != "exec" && !reflect.DeepEqual(p, common):
		say("exec: the queue is of the type %q", queueType)
	case queueType == "exec" && (len(p.Command) == 0 || p.Command[0] == ""):
		say(`exec.command: want the plugin and its arguments, such as ["plugins/task-spooler"]`)
	}
}

// In is the command of a site whose directory is dir.
func (p *Plugin) In(dir string) []string {
	if len(p.Command) == 0 || !strings.Contains(p.Command[0], "/") || filepath.IsAbs(p.Command[0]) {
		return p.Command
	}
	return append([]string{filepath.Join(dir, p.Command[0])}, p.Command[1:]...)
}

// where tells plugins apart that speak for different batch systems.
func (p *Plugin) where() string {
	if len(p.Command) == 0 {
		return ""
	}
	return fmt.Sprint(p.Command, p.Settings) // a map is printed in the order of its keys
}

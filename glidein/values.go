package glidein

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"floe/protocol"
)

// Names of $system that are not for the site to give.
const (
	valueBatch    = "batch_system" // the queue's type
	valueQueue    = "queue"        // its name in the batch system
	valueHostname = "hostname"     // by the pilot, as the next
	valueLeft     = "remaining_walltime"
)

// maxValue bounds one value: they stand on the pilot's command line.
const maxValue = 1024

// SystemValues is what $system names for payloads of a queue. Nothing of the site's own
// keys is in it: what payloads may read stands in values.
func (c *Config) SystemValues(q *Queue) map[string]string {
	all := map[string]string{valueBatch: q.Type, valueQueue: q.Name}
	for name, v := range c.System.Values {
		all[name], _ = valueText(v)
	}
	return all
}

// valueArguments hands them to a pilot.
func valueArguments(values map[string]string) (args []string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		args = append(args, "--system", name+"="+values[name])
	}
	return args
}

// valueText writes a value as an expression would read it.
func valueText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case bool:
		if v {
			return "True", true
		}
		return "False", true
	}
	return "", false
}

func (c *Config) validateValues(say func(string, ...any)) {
	for name, v := range c.System.Values {
		text, ok := valueText(v)
		switch {
		case protocol.CheckName("value", name) != nil:
			say("system.values.%q: want a name of letters, digits, dots, dashes and underscores", name)
		case slices.Contains([]string{valueBatch, valueQueue, valueHostname, valueLeft}, name):
			say("system.values.%s: floe itself says that", name)
		case !ok:
			say("system.values.%s: want a text, a number, true or false", name)
		case len(text) > maxValue || strings.ContainsAny(text, "\n\r\x00"):
			say("system.values.%s: want one line of at most %d bytes", name, maxValue)
		}
	}
}

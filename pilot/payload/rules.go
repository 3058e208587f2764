package payload

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// rulesText is the whole classification of failed modules.
//
//go:embed verdicts.rules
var rulesText string

// rule is one line of it.
type rule struct {
	name    string
	when    []func(*facts) bool
	verdict protocol.Verdict // 0 is the facts' own
	because string
}

// ruleSet is a version of the rules.
type ruleSet struct {
	version int
	rules   []rule
}

// theRules are the embedded ones, which a test reads.
var theRules = sync.OnceValue(func() *ruleSet {
	s, err := parseRules(rulesText)
	if err != nil {
		panic("verdicts.rules: " + err.Error())
	}
	return s
})

// RulesVersion is the version of the rules that verdicts are given by; the log of
// each attempt names it.
func RulesVersion() int { return theRules().version }

// conditions are those without arguments.
var conditions = map[string]func(*facts) bool{
	"succeeded":         func(f *facts) bool { return f.exit == 0 && f.signal == 0 },
	"killed":            (*facts).killed, // also as a shell tells of it
	"killed by group":   func(f *facts) bool { return f.killedByGroup > 0 },
	"killed by node":    func(f *facts) bool { return f.killedByNode },
	"no python":         func(f *facts) bool { return errors.Is(f.prepare, errNoPython) },
	"env_shell failed":  func(f *facts) bool { return f.prepare != nil && strings.HasPrefix(f.prepare.Error(), "env_shell") },
	"prepare failed":    func(f *facts) bool { return f.prepare != nil },
	"stage failed":      func(f *facts) bool { return f.hook != nil },
	"judged":            func(f *facts) bool { return f.own() != 0 },
	"no library":        func(f *facts) bool { return errors.Is(f.prepare, errNoLibrary) },
	"start failed":      func(f *facts) bool { return f.start != nil },
	"isolation failed":  func(f *facts) bool { return errors.Is(f.start, errIsolation) },
	"statistics failed": func(f *facts) bool { return f.statist != nil },
	"class failed":      func(f *facts) bool { return f.said != "" },
	"built":             func(f *facts) bool { return f.built },     // the environment has a metaproject or an env_shell
	"from built":        func(f *facts) bool { return f.fromBuilt }, // the program itself comes from one
	"no image":          func(f *facts) bool { return errors.Is(f.prepare, errImage) },
	"no image on CVMFS": func(f *facts) bool { return errors.Is(f.prepare, errImageOnCVMFS) },
	"no images here":    func(f *facts) bool { return errors.Is(f.prepare, errNoImages) },
	"image not entered": func(f *facts) bool { return f.outside },
	"saved":             func(f *facts) bool { return f.saved }, // a checkpoint, in this attempt
	"says again":        func(f *facts) bool { return f.again },
	"disk full":         func(f *facts) bool { return f.free < diskFull },
}

// stops are what a module can be stopped for.
var stops = map[string]reason{
	"drain": stopContext, "slot": stopSlot, "walltime": stopWalltime, "memory": stopMemory, "disk": stopDisk, "processes": stopProcesses,
}

// errnos are the kernel's refusals that rules may name.
var errnos = map[string]syscall.Errno{
	"ENOSPC": syscall.ENOSPC, "ENOEXEC": syscall.ENOEXEC, "ENOENT": syscall.ENOENT,
	"EACCES": syscall.EACCES, "EPERM": syscall.EPERM, "E2BIG": syscall.E2BIG,
}

// words are what evidence may name in braces.
var words = map[string]func(*facts) string{
	"detail":     func(f *facts) string { return f.detail },
	"ending":     (*facts).ending,
	"kept":       func(f *facts) string { return f.kept.Round(time.Second).String() },
	"kills":      func(f *facts) string { return strconv.Itoa(f.killedByGroup) },
	"free":       func(f *facts) string { return f.free.String() },
	"prepare":    func(f *facts) string { return text(f.prepare) },
	"start":      func(f *facts) string { return text(f.start) },
	"stage":      func(f *facts) string { return text(f.hook) },
	"refused":    func(f *facts) string { return text(f.refused()) },
	"statistics": func(f *facts) string { return text(f.statist) },
	"class":      func(f *facts) string { return f.said },
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// refused is what kept a module from being started.
func (f *facts) refused() error { return errors.Join(f.prepare, f.start, f.hook) }

// parseRules reads the form that verdicts.rules describes.
func parseRules(text string) (*ruleSet, error) {
	s := &ruleSet{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if number, ok := strings.CutPrefix(line, "version "); ok && s.version == 0 {
			v, err := strconv.Atoi(number)
			if err != nil || v < 1 {
				return nil, fmt.Errorf("line %d: version %q: want a number above 0", n, number)
			}
			s.version = v
			continue
		}
		r, err := parseRule(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		s.rules = append(s.rules, r)
	}
	switch {
	case s.version == 0:
		return nil, errors.New("no version")
	case len(s.rules) == 0 || len(s.rules[len(s.rules)-1].when) > 0:
		return nil, errors.New("the last rule must apply to everything: leave its conditions empty")
	}
	return s, nil
}

func parseRule(line string) (r rule, err error) {
	f := strings.Split(line, "|")
	if len(f) != 4 {
		return r, fmt.Errorf("%d fields: want name | conditions | verdict | evidence", len(f))
	}
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	r.name, r.because = f[0], f[3]
	if f[1] != "" {
		for part := range strings.SplitSeq(f[1], ",") {
			c, err := parseCondition(strings.TrimSpace(part))
			if err != nil {
				return r, err
			}
			r.when = append(r.when, c)
		}
	}
	if f[2] != "own" {
		if err := r.verdict.UnmarshalText([]byte(f[2])); err != nil {
			return r, err
		}
		if !r.verdict.Reportable() {
			return r, fmt.Errorf("verdict %v: a pilot cannot give it", r.verdict)
		}
	}
	for rest := r.because; ; {
		_, after, open := strings.Cut(rest, "{")
		if !open {
			return r, nil
		}
		word, after, shut := strings.Cut(after, "}")
		if !shut || words[word] == nil {
			return r, fmt.Errorf("evidence names {%s}: no such word", word)
		}
		rest = after
	}
}

// parseCondition reads a condition; those with an argument are stopped WHAT,
// signal NAME, exit N, start ERRNO, refused ERRNO and log "TEXT".
func parseCondition(c string) (func(*facts) bool, error) {
	if denied, ok := strings.CutPrefix(c, "not "); ok {
		holds, err := parseCondition(denied)
		if err != nil {
			return nil, err
		}
		return func(f *facts) bool { return !holds(f) }, nil
	}
	if holds := conditions[c]; holds != nil {
		return holds, nil
	}
	kind, argument, _ := strings.Cut(c, " ")
	switch kind {
	case "stopped":
		if why, ok := stops[argument]; ok {
			return func(f *facts) bool { return f.stopped == why }, nil
		}
	case "signal":
		if s := unix.SignalNum(argument); s != 0 {
			return func(f *facts) bool { return f.signal == s }, nil
		}
	case "exit":
		if code, err := strconv.Atoi(argument); err == nil {
			return func(f *facts) bool { return f.exit == code }, nil
		}
	case "start":
		if errno, ok := errnos[argument]; ok {
			return func(f *facts) bool { return errors.Is(f.start, errno) }, nil
		}
	case "refused":
		if errno, ok := errnos[argument]; ok {
			return func(f *facts) bool { return errors.Is(f.refused(), errno) }, nil
		}
	case "log":
		if n := len(argument); n > 2 && argument[0] == '"' && argument[n-1] == '"' {
			return func(f *facts) bool { return strings.Contains(f.log, argument[1:n-1]) }, nil
		}
	}
	return nil, fmt.Errorf("condition %q: unknown", c)
}

// applies tells whether a rule judges these facts.
func (r *rule) applies(f *facts) bool {
	for _, holds := range r.when {
		if !holds(f) {
			return false
		}
	}
	return true
}

// evidence fills in the words of a rule's sentence.
func (r *rule) evidence(f *facts) string {
	var b strings.Builder
	rest := r.because
	for {
		before, after, open := strings.Cut(rest, "{")
		b.WriteString(before)
		if !open {
			return b.String()
		}
		word, after, _ := strings.Cut(after, "}")
		b.WriteString(words[word](f))
		rest = after
	}
}

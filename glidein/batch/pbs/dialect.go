package pbs

import (
	"context"
	"fmt"
	"strings"

	"floe/glidein/batch"
)

// dialect is what differs between the two.
type dialect struct {
	name string
	// array is qsub's option for one, index the variable that its jobs find their
	// number in, and output what a file's name must have to be one for each of them.
	array, index, output string
	// reruns: arrays must let their jobs be run again.
	reruns bool
	// shape is what a job asks of its node, after -l.
	shape func(j *batch.Job) string
}

// The names of the dialects, as a site's file has them.
const (
	OpenPBS = "openpbs"
	Torque  = "torque"
)

// Dialects are all of them.
var Dialects = []string{OpenPBS, Torque}

var dialects = map[string]*dialect{
	OpenPBS: {
		name: OpenPBS, array: "J", index: "PBS_ARRAY_INDEX", output: ".^array_index^", reruns: true, shape: selection,
	},
	Torque: {
		name: Torque, array: "t", index: "PBS_ARRAYID", shape: nodes, // it adds the index to the output's name itself
	},
}

// selection is one chunk of a node.
func selection(j *batch.Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "select=1:ncpus=%d", max(1, j.Cores))
	if j.Memory > 0 {
		fmt.Fprintf(&b, ":mem=%dmb", mebibytes(j))
	}
	if j.GPUs > 0 {
		fmt.Fprintf(&b, ":ngpus=%d", j.GPUs)
	}
	return b.String()
}

// nodes is one node, and so many of its processors.
func nodes(j *batch.Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "nodes=1:ppn=%d", max(1, j.Cores))
	if j.GPUs > 0 {
		fmt.Fprintf(&b, ":gpus=%d", j.GPUs)
	}
	if j.Memory > 0 {
		fmt.Fprintf(&b, ",mem=%dmb", mebibytes(j))
	}
	return b.String()
}

// mebibytes is a job's memory in PBS's unit, which is of powers of two, rounded up.
func mebibytes(j *batch.Job) int64 { return (int64(j.Memory) + 1<<20 - 1) >> 20 }

// speak is the dialect of the tools on PATH, asked once unless the site's file says.
func (s *System) speak(ctx context.Context) (*dialect, error) {
	if s.dialect != nil {
		return s.dialect, nil
	}
	a, err := s.tool.Run(ctx, nil, "qstat", "--version")
	switch {
	case err != nil:
		return nil, err
	case a.Mentions("pbs_version"):
		s.dialect = dialects[OpenPBS]
	case a.Mentions("version:"):
		s.dialect = dialects[Torque]
	default:
		return nil, a.Garbled("it is that of neither OpenPBS nor Torque (" + a.Said() + "); dialect in [queue.pbs] says which it is")
	}
	return s.dialect, nil
}

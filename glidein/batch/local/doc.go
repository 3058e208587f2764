// Package local runs pilot jobs as processes of this machine: the batch system
// of a workstation, of the demonstration and of tests.
//
// A job is a directory DIR/<id>/ with name (the job's name), process (process
// id and start time, written by the job's own shell before anything else) and
// the script's output. The process, found by id and start time, is
// authoritative: a job whose process is gone has ended, also after a reboot.
//
// Each job is a session of its own, so it outlives the pass that started it and
// can be ended as a whole. There is no queue: every job runs at once, and the
// site's caps are what limits them. Walltime is left to the pilot.
package local

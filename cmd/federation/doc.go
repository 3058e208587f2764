// Package federation shows a whole federation in virtual time: three real
// coordinators, a simulated site that launches real pilots by the dozen, a
// producer, and a network and disks whose faults a seed decides. It has tests only.
//
// Nouns: the [network] carries UDP packets and TCP streams in memory; a node is a
// coordinator with its directory, in one incarnation after another; a site is a
// glidein pass whose batch system is the test; a payload takes virtual time; a
// schedule is the list of faults that a seed draws; the history is what clients
// asked and were answered, in virtual time.
//
// What is real: coordinator.Run with its files, TLS and its own authority, HTTP/3
// and HTTP/2, raft over its TLS streams; pilot.RunOver with staging, spool and
// cache. What is simulated: wires, wall clocks, what payloads do, and death. A
// process that is killed is cut off and its directory copied at that instant; what
// it does from then on, nobody sees.
//
// What is checked: see docs/testing.md.
package federation

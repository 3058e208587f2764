// Command chaos runs a whole federation while it breaks it, and then counts.
//
// Nouns. The federation is three coordinators, some sites whose passes start real
// pilots, and a client, all processes of the built binaries, each coordinator and
// each site in a network namespace of its own. The load is datasets of small tasks
// and control actions, submitted as long as the run lasts. A fault is one thing
// that happens to a process or a link, and is undone later; the schedule is the
// list of faults that follows from the seed.
//
// What is authoritative: the account of the load, which holds what was acknowledged
// to the client, and what the payloads themselves left behind. The verdict compares
// both with what the coordinators say.
//
// What a run proves, when all faults are healed and every dataset has finished:
// every task is ok and has exactly one accepted attempt, which did run; statistics
// are the exact fold over these attempts; every output is that of its accepted
// attempt and was made from the accepted attempts of its parents; nothing that was
// acknowledged is missing and nothing was done twice; the three coordinators have
// the same record; no site ever had more pilots than its cap.
//
// The seed fixes the faults and their times, not the run: processes race as they
// do. A failure keeps everything: logs, stores, the trace of faults with times.
//
// It needs root, iproute2 and nftables, and changes nothing outside its own
// namespaces, its bridge and its directory, which it removes at the end, also when
// it is interrupted.
package main

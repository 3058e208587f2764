// Package ssh speaks to a batch system on another machine, the login node of a
// cluster, by the ssh program of OpenSSH and all that its configuration says:
// jump hosts, keys, agents, Kerberos.
//
// Nothing of floe is installed there by hand. The first pass copies floe and
// floe-pilot into the directory there, under names that are their digests, and
// verifies them; from then on each verb is one run of that floe, the agent ([Serve]),
// which speaks to the batch system as it would at home. One connection carries all
// of them (ControlMaster).
//
// What goes there and back is an order and an outcome, one JSON object each: files to
// be placed below the directory, a request of package exec, files wanted back. So no
// path, name or text of a job is ever a word of a command there. The directory itself
// is of plain characters, and single quotes around them mean the same in every shell.
// What a login prints before an outcome is passed over.
//
// What is authoritative: the batch system there. Scripts and tickets of jobs lie in
// the directory there under the names they have here; what a job printed is fetched
// when it has ended, and what is there of it is removed. Reports that pilots left in
// the spool there, and do not deliver themselves, move to the spool here: they are
// removed there once they are synced here.
//
// Errors: a connection that cannot be made or is lost, at any step, is
// batch.ErrTransient; whether a submission went through, the next list tells. A host
// whose key is not the one that is known is [ErrHostKey]; that, and a key of ours
// that is not accepted, is batch.ErrRefused too. Keys are never accepted unseen.
package ssh

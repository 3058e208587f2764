// Package slurm submits pilot jobs to Slurm with sbatch, squeue and scancel.
// Proven on 22.05; needs nothing that 20.02 lacks.
//
// What is authoritative: squeue. Accounting is not asked: many sites have none.
//
// Its traps, and what is done about them:
//   - scancel exits 0 for jobs that never were. Only squeue tells what is gone.
//   - A job that can never start (its partition's limits, an association, a
//     dependency) is accepted and waits for ever. Such reasons are Held, with the
//     reason, so that no more are submitted behind it.
//   - A lost node requeues its jobs, and a pilot's ticket is good for one pilot:
//     jobs are submitted with --no-requeue.
//   - sbatch may take the job and lose the answer. The job is found by its name.
//   - Without an id of its own, the last job of an array has that of the array:
//     ids are array_index, always.
package slurm

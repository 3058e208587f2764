package state

// Format is the newest format of the record that this build knows. It gates
// changes of meaning: a machine follows the format its log raised it to.
const Format = 1

// generation counts snapshots. An object of an older generation is shared with a
// Frozen and must be copied before it is changed.
type generation uint64

package protocol

// FileType says how long a file lives and who may read it (design §6).
type FileType uint8

// The file types of the dataset language.
const (
	FilePermanent   FileType = iota + 1 // kept: an output of the dataset
	FileJobTemp                         // until the job is final
	FileTaskTemp                        // until the task is final
	FileTrayTemp                        // until the tray has ended
	FileDatasetTemp                     // until the dataset is final
	FileSiteTemp                        // until the site removes it
	FileCheckpoint                      // until its task is ok: what an attempt saved for the next
)

var fileTypes = [...]string{"", "permanent", "job_temp", "task_temp", "tray_temp", "dataset_temp", "site_temp", "checkpoint"}

func (t FileType) String() string { return nameOf(fileTypes[:], int(t), "file type") }

// MarshalText writes the type's word.
func (t FileType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the type's word.
func (t *FileType) UnmarshalText(b []byte) error {
	i, err := indexOf(fileTypes[:], string(b), "file type")
	*t = FileType(i)
	return err
}

// FileRecord is one output as its producer's accepted report recorded it.
// Consumers read this record and never evaluate the path again.
type FileRecord struct {
	Type FileType `cbor:"1,keyasint" json:"type"`
	// Name is what consumers ask for: the data element's remote name, or its local
	// one when the remote is empty.
	Name string `cbor:"2,keyasint" json:"name"`
	// URL is where the bytes are now: an attempt-unique place, or blob:DIGEST in the
	// coordinators' blob store.
	URL string `cbor:"3,keyasint" json:"url"`
	// Published is the final place of a permanent file; the pilot moves the bytes
	// there after its report was accepted. Empty where URL is final.
	Published string   `cbor:"4,keyasint,omitempty" json:"published,omitempty"`
	Size      ByteSize `cbor:"5,keyasint" json:"size"`
	Digest    Digest   `cbor:"6,keyasint" json:"digest"`
}

// BlobURL is the URL of a file in the coordinators' blob store.
func BlobURL(d Digest) string { return "blob:" + d.String() }

// Lease is one task handed to one pilot, with all it needs to run it.
type Lease struct {
	ID       LeaseID `cbor:"1,keyasint"`
	Task     TaskID  `cbor:"2,keyasint"`
	TaskName string  `cbor:"3,keyasint"`
	// Attempt counts the leases of this task from 1.
	Attempt uint32 `cbor:"4,keyasint"`
	// Steering names the dataset's steering document; the pilot fetches it from the
	// blob store once and expands it itself.
	Steering Digest  `cbor:"5,keyasint"`
	Seed     uint64  `cbor:"6,keyasint"`
	JobCount uint32  `cbor:"7,keyasint"`
	Passkey  Passkey `cbor:"8,keyasint"`
	// Granted are the requirements as they stand for this attempt: limits to
	// enforce, raised after resource verdicts.
	Granted Requirements `cbor:"9,keyasint"`
	// Inputs are the outputs of all ancestors of the task in its job.
	Inputs []FileRecord `cbor:"10,keyasint,omitempty"`
	// Term is how long the lease lasts without renewal; Fence is how long the
	// payload may go on without any coordinator, by boot time.
	Term  Seconds `cbor:"11,keyasint"`
	Fence Seconds `cbor:"12,keyasint"`
	// Version is the version of the dataset language the document was accepted under.
	Version uint32 `cbor:"13,keyasint"`
	// TempArea is the base URL for temp files without a remote; empty is the blob store.
	TempArea string `cbor:"14,keyasint,omitempty"`
	// DatasetAlias, Submitter and Group name the work in the environment of the payload.
	Submitter UserID  `cbor:"15,keyasint,omitempty"`
	Group     GroupID `cbor:"16,keyasint,omitempty"`
	// Options are the dataset's options given at submission, overriding those of
	// the steering document.
	Options map[string]string `cbor:"17,keyasint,omitempty"`
	// Modules names the dataset's ModulePins in the blob store; zero is none.
	Modules Digest `cbor:"18,keyasint,omitzero"`
	// Software names the bill of software in the blob store, from which metaprojects
	// are taken (protocol/software); zero is none.
	Software Digest `cbor:"19,keyasint,omitzero"`
}

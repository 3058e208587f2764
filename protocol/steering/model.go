package steering

// Position is where something stands in its source, both counted from 1 and
// the column in characters. The zero Position belongs to what no file wrote.
type Position struct {
	Line, Column int
}

// Document is one dataset description. The zero value is an empty document.
type Document struct {
	Position Position

	// Version is the version of the steering format ("3", "3.2").
	Version string
	// IceProdVersion names the software the file was written for; informative.
	IceProdVersion string
	// Dataset is the number the file claims. It is kept for the lineage's sake:
	// coordinators number datasets themselves.
	Dataset string
	// DatasetName is the identifier IceProd stored beside the configuration.
	DatasetName string
	// ParentID is the dataset this one descends from, empty for none.
	ParentID string

	Title       string
	Description string
	Categories  []string
	// Labels are free name=text marks; every value is a KindString.
	Labels Parameters

	// Division says what 7/2 is in expressions.
	Division Division

	Options Parameters
	// DIFPlus is the metadata block of older files, kept as it was.
	DIFPlus  Parameters
	Steering Steering
	Tasks    []Task
}

// Division is the meaning of "/" between integers in expressions.
type Division int

// The zero Division means the file is silent, which is DivisionTrue.
const (
	DivisionUnset Division = 0
	DivisionFloor Division = 2 // Python 2, the paper's time: 7/2 is 3
	DivisionTrue  Division = 3 // Python 3, today's IceProd: 7/2 is 3.5
)

// Steering is the header section: what all tasks may name.
type Steering struct {
	Position   Position
	Parameters Parameters
	System     Parameters
	BatchSys   []BatchSys
	Resources  []Resource
	Data       []Data
}

// BatchSys holds properties for one batch system.
type BatchSys struct {
	Position Position
	// Name is the batch system's name; "*" is any.
	Name       string
	Parameters Parameters
}

// Task is one vertex of the job's DAG, the unit that a pilot pulls.
type Task struct {
	Position Position
	Name     string
	// Depends names the parents; Document.TaskIndex resolves each.
	Depends      []Dependence
	Requirements Requirements
	Parameters   Parameters
	BatchSys     []BatchSys
	Resources    []Resource
	Data         []Data
	Classes      []Class
	Projects     []Project
	Trays        []Tray

	// Reproducible says how far two attempts' outputs must agree.
	Reproducible Reproducible
	// Exclusive asks that a second attempt never runs beside a first.
	Exclusive Flag
	// Credentials names the storage credentials the payload may hold.
	Credentials []string
	// MaxOutput is how large all outputs may be together, in GB; empty is without bound.
	MaxOutput Expression

	// Container is the image that trays run in which name none themselves.
	Container Expression

	// TaskFiles and TokenScopes are IceProd 3's.
	TaskFiles   Flag
	TokenScopes Parameters // URL prefix to scopes; every value is a KindString
}

// Dependence is one parent of a task: its name, or its index from 0.
type Dependence struct {
	Name     string
	Position Position
}

// Reproducible says how far the outputs of two attempts of a task must agree.
type Reproducible string

// The empty Reproducible is ReproducibleNo.
const (
	ReproducibleNo    Reproducible = "no"
	ReproducibleBytes Reproducible = "bytes"
)

// Requirements is what a task asks of a node. An empty expression is silence,
// not zero.
type Requirements struct {
	Position Position
	CPU      Expression // cores
	GPU      Expression // devices
	Memory   Expression // GB
	Disk     Expression // GB
	Time     Expression // hours

	GPUMemory     Expression // GB per device
	GPUCapability Expression // least compute capability, "7.5"

	// Elastic says that the task sizes itself: Time is the least it can use, and it is
	// given what is left of the pilot's slot.
	Elastic Flag

	OS   []string // acceptable platforms
	Site Expression
	Tags []string // properties a node must advertise
	// Alternatives are other ways to be satisfied (one GPU or sixteen cores);
	// each stands alone and inherits nothing. They hold no Alternatives.
	Alternatives []Requirements
}

// Tray is one software environment and the modules run in it.
type Tray struct {
	Position Position
	Name     string
	// Iterations is how often the tray runs, with $(iter) counting from 0;
	// empty is once.
	Iterations Expression
	// Container is the image that its modules run in; empty is its task's.
	Container  Expression
	EnvShell   Expression
	EnvClear   Flag
	Checkpoint Checkpoint // for its modules that say nothing
	Parameters Parameters
	Resources  []Resource
	Data       []Data
	Classes    []Class
	// Projects are the metaprojects that make the environment.
	Projects []Project
	Modules  []Module
}

// Module is one step: a program (Src with Args) or a Python class (Class, its
// file from Src where it is not installed) configured by Parameters and Args.
type Module struct {
	Position Position
	Name     string
	Class    Expression
	Src      Expression
	// Args is a KindString, KindList or KindMap; the zero Value is none.
	Args       Value
	EnvShell   Expression
	EnvClear   Flag
	Checkpoint Checkpoint
	Parameters Parameters
	Resources  []Resource
	Data       []Data
	Classes    []Class
	Projects   []Project
	// Configs are files to write before the module runs: name to JSON content.
	Configs Parameters
}

// Checkpoint says how a module is asked to save its work before its time is over,
// and what it saves. The zero Checkpoint is silence.
type Checkpoint struct {
	Position Position
	// Signal asks for it: TERM, SIGUSR1; empty is TERM.
	Signal Expression
	// Grace is how many seconds there are between the signal and the end.
	Grace Expression
	// Files are names and patterns below the working directory, separated by blanks.
	Files Expression
	// Exit is the exit code that means: saved, run me again.
	Exit Expression
}

// Said reports whether the document says anything of checkpoints here.
func (c *Checkpoint) Said() bool {
	return !c.Signal.Empty() || !c.Grace.Empty() || !c.Files.Empty() || !c.Exit.Empty()
}

// Class is a library of module code to fetch.
type Class struct {
	Position     Position
	Name         string
	Src          Expression
	ResourceName Expression
	Recursive    Flag
	Libs         Expression
	EnvVars      Expression
}

// Project is a metaproject: a published software environment.
type Project struct {
	Position Position
	Name     Expression
	Class    Expression
	Version  Expression
}

// Resource is a file fetched before the work and never written back.
type Resource struct {
	Position    Position
	Remote      Expression
	Local       Expression
	Compression Compression
	Transfer    Transfer
	Arch        string
	Checksum    Expression
	Cache       Flag
}

// Data is a file that comes from, or goes to, somewhere else.
type Data struct {
	Position    Position
	Type        DataType
	Movement    Movement
	Remote      Expression
	Local       Expression
	Compression Compression
	Transfer    Transfer
	// Checksum is "sha256:…", "md5:…" or "adler32:…" in hexadecimal.
	Checksum Expression
	// Cache asks for the node's content-addressed cache even without Checksum.
	Cache Flag
	// MaxSize is how large an output may be, in GB; empty is without bound.
	MaxSize Expression
}

// DataType says how long a file lives and where.
type DataType string

// The data types of the lineage.
const (
	DataPermanent   DataType = "permanent"
	DataTaskTemp    DataType = "task_temp"
	DataTrayTemp    DataType = "tray_temp"
	DataJobTemp     DataType = "job_temp"
	DataDatasetTemp DataType = "dataset_temp"
	DataSiteTemp    DataType = "site_temp"
)

// Movement says which way a file goes.
type Movement string

// The movements of the lineage.
const (
	MovementInput  Movement = "input"
	MovementOutput Movement = "output"
	MovementBoth   Movement = "both"
)

// Compression says how a file is packed on its way. Empty is silence.
type Compression string

// CompressionYes leaves the choice of program to the file's suffix.
const (
	CompressionNone  Compression = "none"
	CompressionYes   Compression = "yes"
	CompressionGzip  Compression = "gzip"
	CompressionBzip2 Compression = "bz2"
	CompressionLZMA  Compression = "lzma"
)

// Transfer says whether a file is moved. Empty is TransferYes.
type Transfer string

// TransferMaybe moves the file if it is there; a missing one is no failure.
const (
	TransferYes   Transfer = "yes"
	TransferNo    Transfer = "no"
	TransferMaybe Transfer = "maybe"
)

// Expression is text in which $expressions may stand.
type Expression struct {
	Text     string
	Position Position
}

// String returns the text as written.
func (e Expression) String() string { return e.Text }

// Empty reports whether nothing was written.
func (e Expression) Empty() bool { return e.Text == "" }

// Flag is yes, no, or not said.
type Flag int8

// The three flags.
const (
	FlagUnset Flag = iota
	FlagYes
	FlagNo
)

// Or returns the flag's meaning, silence for a file that does not say.
func (f Flag) Or(silence bool) bool {
	if f == FlagUnset {
		return silence
	}
	return f == FlagYes
}

// TaskIndex resolves a dependence written as a task's name, or else as its
// index from 0.
func (d *Document) TaskIndex(reference string) (int, bool) {
	for i := range d.Tasks {
		if d.Tasks[i].Name == reference {
			return i, true
		}
	}
	return parseIndex(reference, len(d.Tasks))
}

// parseIndex reads a decimal index below limit.
func parseIndex(text string, limit int) (int, bool) {
	if text == "" || len(text) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n < limit
}

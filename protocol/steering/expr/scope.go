package expr

import "strings"

// Space is which names a phrase looks among.
type Space uint8

// The spaces, named after their phrases.
const (
	SpaceAny      Space = iota // $(name): parameters, job, dataset, task, options
	SpaceSteering              // $steering(name)
	SpaceArgs                  // $args(name)
	SpaceOptions               // $options(name)
	SpaceSystem                // $system(name)
	SpaceMetadata              // $metadata(name)
	SpaceEnviron               // $environ(name)
)

var spaces = map[string]Space{
	"": SpaceAny, "steering": SpaceSteering, "args": SpaceArgs, "options": SpaceOptions,
	"system": SpaceSystem, "metadata": SpaceMetadata, "environ": SpaceEnviron,
}

// String returns the phrase's word, empty for $(name).
func (s Space) String() string {
	for word, space := range spaces {
		if space == s {
			return word
		}
	}
	return ""
}

// Sources says on what a value depends. Expansion is a pure function of what
// its scope answers: a value whose sources lack SourceJob is the same for
// every job.
type Sources uint8

// The sources.
const (
	SourceJob       Sources = 1 << iota // the job's index, and every $choice
	SourceDataset                       // the dataset's number
	SourceJobCount                      // how many jobs were submitted
	SourceTask                          // the task's index
	SourceIteration                     // the tray's iteration
	SourceNode                          // $system or $environ of the node
	SourceChoice                        // a draw
)

// Has reports whether s includes all of t.
func (s Sources) Has(t Sources) bool { return s&t == t }

// Variable is a scope's answer.
type Variable struct {
	Value Value
	// Place is where the value is written; the zero Place is nowhere.
	Place Place
	// Verbatim values come from outside the document (the node, the command
	// line): phrases in them are not expanded.
	Verbatim bool
	// Sources is set whether or not the name was found.
	Sources Sources
}

// Scope answers look-ups. It must answer the same whenever it is asked the
// same within one expansion.
type Scope interface {
	// Find looks a name up. Places that busy reports are being expanded just
	// now: a parameter that names itself means the one further out.
	Find(space Space, name string, busy func(Place) bool) (Variable, bool)
}

// splitIndex cuts "name[key][key]" into name and keys.
func splitIndex(text string) (name string, keys []string, ok bool) {
	at := strings.IndexByte(text, '[')
	if at <= 0 || !strings.HasSuffix(text, "]") {
		return "", nil, false
	}
	name = text[:at]
	return name, strings.Split(text[at+1:len(text)-1], "]["), true
}

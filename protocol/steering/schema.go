package steering

//go:generate go test -run IsCurrent -update .

// form is how a field of the model is written.
type form uint8

const (
	// formText is a string; XML attribute.
	formText form = iota + 1
	// formProse is a longer string, blanks around it trimmed; XML element text.
	formProse
	// formLabel is a number or a word kept as text ("3.2"); XML attribute.
	formLabel
	// formExpression is text in which $expressions may stand; XML attribute.
	formExpression
	// formCount is a whole number or an expression; XML attribute.
	formCount
	// formQuantity is a number or an expression; XML attribute.
	formQuantity
	// formFlag is yes or no; XML attribute.
	formFlag
	// formWord is one of field.words; XML attribute.
	formWord
	// formWords is a list of words; XML attribute, separated by blanks.
	formWords
	// formDepends is formWords with positions.
	formDepends
	// formNames is a list of texts; XML elements with a name each.
	formNames
	// formTexts is a map from text to text; XML elements with name and value.
	formTexts
	// formParameters is a map of typed values; XML <parameter> elements, inside
	// an element of their own if the field has one.
	formParameters
	// formArguments is a text, a list or a map; XML attribute or element.
	formArguments
	// formElement is a nested element.
	formElement
	// formElements is a list of nested elements.
	formElements
	// formBatch is a map from batch system to parameters; XML <batchsys>.
	formBatch
)

// attribute reports whether XML writes the form as an attribute.
func (f form) attribute() bool {
	switch f {
	case formProse, formNames, formTexts, formParameters, formElement, formElements, formBatch:
		return false
	}
	return true
}

// word is one word of an enumeration.
type word struct {
	text string
	// means is the word the model keeps, text itself if empty.
	means string
	// plain is how JSON and YAML write it: a bool ("true") or, if empty, text.
	plain string
}

// field ties a field of a model struct to its spellings.
type field struct {
	goName  string   // the struct's field
	key     string   // JSON and YAML key
	aliases []string // other keys that are read
	xml     string   // attribute or element; empty: <parameter> elements stand directly inside
	form    form
	words   []word
	element *element
	// required fields must be there; xmlRequired ones have a default elsewhere.
	required, xmlRequired bool
	// once marks an XML element that may come only once; others are gathered.
	once bool
	doc  string
}

// element is a struct of the model.
type element struct {
	xml    string // element name
	noun   string // in sentences about JSON and YAML
	fields []field
	doc    string
}

// The words of the enumerations. JSON's booleans come as "true" and "false".
var (
	flagWords = []word{
		{text: "true", means: "yes"},
		{text: "false", means: "no"},
		{text: "yes"},
		{text: "no"},
		{text: "True", means: "yes"},
		{text: "False", means: "no"},
		{text: "1", means: "yes"},
		{text: "0", means: "no"},
	}
	dataTypeWords = []word{
		{text: "permanent"},
		{text: "task_temp"},
		{text: "tray_temp"},
		{text: "job_temp"},
		{text: "dataset_temp"},
		{text: "site_temp"},
	}
	movementWords    = []word{{text: "input"}, {text: "output"}, {text: "both"}}
	compressionWords = []word{
		{text: "none", plain: "false"},
		{text: "yes", plain: "true"},
		{text: "gzip"},
		{text: "bz2"},
		{text: "lzma"},
		{text: "gz", means: "gzip"},
		{text: "bzip", means: "bz2"},
		{text: "bzip2", means: "bz2"},
		{text: "false", means: "none"},
		{text: "true", means: "yes"},
		{text: "False", means: "none"},
		{text: "True", means: "yes"},
		{text: "no", means: "none"},
	}
	transferWords = []word{
		{text: "yes", plain: "true"},
		{text: "no", plain: "false"},
		{text: "maybe"},
		{text: "exists", means: "maybe"},
		{text: "y", means: "yes"},
		{text: "n", means: "no"},
		{text: "true", means: "yes"},
		{text: "false", means: "no"},
		{text: "True", means: "yes"},
		{text: "False", means: "no"},
		{text: "1", means: "yes"},
		{text: "0", means: "no"},
	}
	reproducibleWords = []word{{text: "no"}, {text: "bytes"}}
	divisionWords     = []word{{text: "2"}, {text: "3"}}
)

// Fields that several elements share.
var (
	parametersField = field{
		goName: "Parameters", key: "parameters", form: formParameters,
		doc: "values that expressions below this point can name",
	}
	batchField = field{
		goName: "BatchSys", key: "batchsys", xml: "batchsys", form: formBatch,
		doc: "properties for one batch system; the name * is any",
	}
	resourcesField = field{
		goName: "Resources", key: "resources", xml: "resource", form: formElements, element: &resourceElement,
		doc: "files fetched before the work",
	}
	dataField = field{
		goName: "Data", key: "data", xml: "data", form: formElements, element: &dataElement,
		doc: "files that come in or go out",
	}
	classesField = field{
		goName: "Classes", key: "classes", xml: "class", form: formElements, element: &classElement,
		doc: "libraries of module code to fetch",
	}
	projectsField = field{
		goName: "Projects", key: "projects", xml: "project", form: formElements, element: &projectElement,
		doc: "metaprojects that make the environment",
	}
	containerField = field{
		goName: "Container", key: "container", xml: "container", form: formExpression,
		doc: "image that modules run in: a path on the node, or what is published or a resource",
	}
	envShellField = field{
		goName: "EnvShell", key: "env_shell", xml: "env_shell", form: formExpression,
		doc: "script that sets up the environment and runs the rest of its command line",
	}
	envClearField = field{
		goName: "EnvClear", key: "env_clear", xml: "env_clear", form: formFlag,
		doc: "whether the environment is emptied first",
	}
	checkpointField = field{
		goName: "Checkpoint", key: "checkpoint", xml: "checkpoint", form: formElement, element: &checkpointElement, once: true,
		doc: "how work is saved before the time is over; a module's replaces its tray's",
	}
	compressionField = field{
		goName: "Compression", key: "compression", xml: "compression", form: formWord, words: compressionWords,
		doc: "how the file is packed on its way",
	}
	transferField = field{
		goName: "Transfer", key: "transfer", xml: "transfer", form: formWord, words: transferWords,
		doc: "whether the file is moved; maybe: if it is there",
	}
	checksumField = field{
		goName: "Checksum", key: "checksum", xml: "checksum", form: formExpression,
		doc: "sha256:…, md5:… or adler32:… in hexadecimal; verified after transfer",
	}
	cacheField = field{
		goName: "Cache", key: "cache", xml: "cache", form: formFlag,
		doc: "keep the file in the node's cache",
	}
)

// configurationElement is the root of the table.
var configurationElement = element{
	xml: "configuration", noun: "the dataset",
	doc: "A dataset: what every one of its jobs does.",
	fields: []field{
		{goName: "Version", key: "version", xml: "version", form: formLabel, doc: "version of the steering format"},
		{goName: "IceProdVersion", key: "iceprod_version", xml: "iceprod_version", form: formLabel, doc: "software the file was written for; informative"},
		{goName: "Dataset", key: "dataset", xml: "dataset", form: formLabel, doc: "number the file claims; coordinators number datasets themselves"},
		{goName: "DatasetName", key: "dataset_id", xml: "dataset_id", form: formLabel, doc: "IceProd's identifier of the dataset"},
		{goName: "ParentID", key: "parent_id", aliases: []string{"parentid"}, xml: "parentid", form: formLabel, doc: "dataset this one descends from"},
		{goName: "Title", key: "title", xml: "title", form: formText, doc: "one line for lists"},
		{goName: "Division", key: "division", xml: "division", form: formWord, words: divisionWords, doc: "7/2 in expressions: 3 (as Python 2) or 3.5 (as Python 3, the default)"},
		{goName: "Description", key: "description", xml: "description", form: formProse, once: true, doc: "what the dataset is, for people"},
		{goName: "Categories", key: "categories", xml: "category", form: formNames, doc: "kinds of production the dataset belongs to"},
		{goName: "Labels", key: "labels", xml: "label", form: formTexts, doc: "free marks to search by"},
		{goName: "Options", key: "options", xml: "options", form: formParameters, doc: "parameters of the framework, not of the physics"},
		{goName: "DIFPlus", key: "difplus", xml: "difplus", form: formParameters, doc: "metadata block of older files, kept as it is"},
		{goName: "Steering", key: "steering", xml: "steering", form: formElement, element: &steeringElement, doc: "what all tasks can name"},
		{goName: "Tasks", key: "tasks", xml: "task", form: formElements, element: &taskElement, doc: "the vertices of each job's graph"},
	},
}

var steeringElement = element{
	xml: "steering", noun: "steering",
	doc: "What all tasks can name.",
	fields: []field{
		parametersField,
		{goName: "System", key: "system", xml: "system", form: formParameters, doc: "defaults for what sites define"},
		batchField, resourcesField, dataField,
	},
}

var taskElement = element{
	xml: "task", noun: "a task",
	doc: "One vertex of each job's graph: what one pilot runs at one place.",
	fields: []field{
		{goName: "Name", key: "name", xml: "name", form: formText, required: true, doc: "unique; no blanks or commas"},
		{goName: "Depends", key: "depends", xml: "depends", form: formDepends, doc: "tasks that must be done before, by name or by index from 0"},
		{goName: "Reproducible", key: "reproducible", xml: "reproducible", form: formWord, words: reproducibleWords, doc: "bytes: two attempts must give the same bytes"},
		{goName: "Exclusive", key: "exclusive", xml: "exclusive", form: formFlag, doc: "never run two attempts at once, whatever it costs"},
		{goName: "Credentials", key: "credentials", xml: "credentials", form: formWords, doc: "storage credentials the payload may hold"},
		containerField,
		{goName: "TaskFiles", key: "task_files", xml: "task_files", form: formFlag, doc: "whether files are also listed per task through the API"},
		{goName: "MaxOutput", key: "max_output", xml: "max_output", form: formQuantity, doc: "GB that all outputs may have together; more fails the task"},
		{goName: "Requirements", key: "requirements", xml: "requirements", form: formElement, element: &requirementsElement, once: true, doc: "what the task needs of a node"},
		{goName: "TokenScopes", key: "token_scopes", xml: "token_scope", form: formTexts, doc: "URL prefix and the scopes of its token"},
		parametersField, batchField, resourcesField, dataField, classesField, projectsField,
		{goName: "Trays", key: "trays", xml: "tray", form: formElements, element: &trayElement, doc: "environments, run one after another"},
	},
}

// requirementFields serve <requirements> and <alternative>.
var requirementFields = []field{
	{goName: "CPU", key: "cpu", xml: "cpu", form: formCount, doc: "cores"},
	{goName: "GPU", key: "gpu", xml: "gpu", form: formCount, doc: "devices"},
	{goName: "Memory", key: "memory", xml: "memory", form: formQuantity, doc: "GB"},
	{goName: "Disk", key: "disk", xml: "disk", form: formQuantity, doc: "GB"},
	{goName: "Time", key: "time", xml: "time", form: formQuantity, doc: "hours"},
	{goName: "Elastic", key: "elastic", xml: "elastic", form: formFlag, doc: "the task sizes itself: time is the least, and it gets what is left of the slot"},
	{goName: "GPUMemory", key: "gpu_memory", xml: "gpu_memory", form: formQuantity, doc: "GB per device"},
	{goName: "GPUCapability", key: "gpu_capability", xml: "gpu_capability", form: formQuantity, doc: "compute capability, such as 7.5"},
	{goName: "OS", key: "os", xml: "os", form: formWords, doc: "acceptable platforms"},
	{goName: "Site", key: "site", xml: "site", form: formExpression, doc: "the site that must run it"},
	{goName: "Tags", key: "tags", xml: "tags", form: formWords, doc: "properties a node must advertise"},
}

var requirementsElement = element{
	xml: "requirements", noun: "requirements",
	doc: "What a task needs of a node.",
	fields: append(append([]field(nil), requirementFields...), field{
		goName: "Alternatives", key: "alternatives", xml: "alternative", form: formElements, element: &alternativeElement,
		doc: "another way to be satisfied; stands alone, inherits nothing",
	}),
}

var alternativeElement = element{
	xml: "alternative", noun: "an alternative",
	doc:    "Another set of requirements that will do.",
	fields: requirementFields,
}

var trayElement = element{
	xml: "tray", noun: "a tray",
	doc: "One software environment and the modules run in it.",
	fields: []field{
		{goName: "Name", key: "name", xml: "name", form: formText, doc: "name for people and logs"},
		{goName: "Iterations", key: "iterations", aliases: []string{"iter"}, xml: "iter", form: formCount, doc: "how often the tray runs; $(iter) counts from 0"},
		containerField,
		envShellField, envClearField, checkpointField,
		parametersField, resourcesField, dataField, classesField, projectsField,
		{goName: "Modules", key: "modules", xml: "module", form: formElements, element: &moduleElement, doc: "steps, run one after another"},
	},
}

var moduleElement = element{
	xml: "module", noun: "a module",
	doc: "One step: a program, or a Python class.",
	fields: []field{
		{goName: "Name", key: "name", xml: "name", form: formText, doc: "name for people and logs"},
		{goName: "Class", key: "running_class", aliases: []string{"class"}, xml: "class", form: formExpression, doc: "predefined module, or Python class with the module interface"},
		{goName: "Src", key: "src", xml: "src", form: formExpression, doc: "program or script, or the file the class is in"},
		{goName: "Args", key: "args", xml: "args", form: formArguments, once: true, doc: "arguments: a text, a list, or a map"},
		envShellField, envClearField, checkpointField,
		parametersField, resourcesField, dataField, classesField, projectsField,
		{goName: "Configs", key: "configs", xml: "configs", form: formParameters, doc: "JSON files to write first: name and content"},
	},
}

var checkpointElement = element{
	xml: "checkpoint", noun: "a checkpoint",
	doc: "How a module saves its work before its time is over, so that another attempt goes on from there.",
	fields: []field{
		{goName: "Signal", key: "signal", xml: "signal", form: formExpression, doc: "signal that asks for it, such as SIGUSR1; SIGTERM without"},
		{goName: "Grace", key: "grace", xml: "grace", form: formQuantity, doc: "seconds between the signal and the end; 20 without"},
		{goName: "Files", key: "files", xml: "files", form: formExpression, doc: "what is saved: names and patterns, separated by blanks"},
		{goName: "Exit", key: "exit", xml: "exit", form: formCount, doc: "exit code that means: saved, run me again"},
	},
}

var classElement = element{
	xml: "class", noun: "a class",
	doc: "A library of module code to fetch.",
	fields: []field{
		{goName: "Name", key: "name", xml: "name", form: formText, required: true, doc: "name other fields refer to"},
		{goName: "Src", key: "src", xml: "src", form: formExpression, doc: "where it is fetched from"},
		{goName: "ResourceName", key: "resource_name", xml: "resource_name", form: formExpression, doc: "resource that holds it"},
		{goName: "Recursive", key: "recursive", xml: "recursive", form: formFlag, doc: "fetch the whole folder"},
		{goName: "Libs", key: "libs", xml: "libs", form: formExpression, doc: "library folders inside it"},
		{goName: "EnvVars", key: "env_vars", xml: "env_vars", form: formExpression, doc: "environment to set, as A=b;C=d"},
	},
}

var projectElement = element{
	xml: "project", noun: "a project",
	doc: "A metaproject: a published software environment.",
	fields: []field{
		{goName: "Name", key: "name", xml: "name", form: formExpression, doc: "name of the metaproject"},
		{goName: "Class", key: "class", xml: "class", form: formExpression, doc: "kind or class of the metaproject"},
		{goName: "Version", key: "version", xml: "version", form: formExpression, doc: "version of the metaproject"},
	},
}

var resourceElement = element{
	xml: "resource", noun: "a resource",
	doc: "A file fetched before the work.",
	fields: []field{
		{goName: "Remote", key: "remote", xml: "remote", form: formExpression, doc: "URL, or path below the resource area"},
		{goName: "Local", key: "local", xml: "local", form: formExpression, doc: "name in the working directory"},
		compressionField, transferField,
		{goName: "Arch", key: "arch", xml: "arch", form: formText, doc: "platform the file is for"},
		checksumField, cacheField,
	},
}

var dataElement = element{
	xml: "data", noun: "data",
	doc: "A file that comes in or goes out.",
	fields: []field{
		{goName: "Type", key: "type", xml: "type", form: formWord, words: dataTypeWords, xmlRequired: true, doc: "how long the file lives"},
		{goName: "Movement", key: "movement", xml: "movement", form: formWord, words: movementWords, xmlRequired: true, doc: "which way it goes"},
		{goName: "Remote", key: "remote", xml: "remote", form: formExpression, doc: "URL; empty for temporary files"},
		{goName: "Local", key: "local", xml: "local", form: formExpression, doc: "name in the working directory"},
		compressionField, transferField, checksumField, cacheField,
		{goName: "MaxSize", key: "max_size", xml: "max_size", form: formQuantity, doc: "GB an output may have, before it is packed; a larger one fails the task"},
	},
}

// parameterTypes are the words of a parameter's type attribute.
var parameterTypes = []string{"string", "int", "double", "bool", "null", "list", "map"}

// field returns the field that a key names in JSON and YAML.
func (e *element) field(key string) *field {
	for i := range e.fields {
		f := &e.fields[i]
		if f.key == key {
			return f
		}
		for _, alias := range f.aliases {
			if alias == key {
				return f
			}
		}
	}
	return nil
}

// keys returns the element's keys in the table's order.
func (e *element) keys() []string {
	var keys []string
	for i := range e.fields {
		keys = append(keys, e.fields[i].key)
	}
	return keys
}

// xmlAttribute returns the field written as the attribute name.
func (e *element) xmlAttribute(name string) *field {
	for i := range e.fields {
		if f := &e.fields[i]; f.xml == name && f.form.attribute() {
			return f
		}
	}
	return nil
}

// xmlChild returns the field written with child elements called name.
func (e *element) xmlChild(name string) *field {
	for i := range e.fields {
		f := &e.fields[i]
		if f.form.attribute() && f.form != formArguments {
			continue
		}
		if f.xml == name || f.xml == "" && name == "parameter" {
			return f
		}
	}
	return nil
}

// xmlAttributes returns the names of the element's attributes.
func (e *element) xmlAttributes() []string {
	var names []string
	for i := range e.fields {
		if e.fields[i].form.attribute() {
			names = append(names, e.fields[i].xml)
		}
	}
	return names
}

// xmlChildren returns the names of the element's child elements.
func (e *element) xmlChildren() []string {
	var names []string
	for i := range e.fields {
		f := &e.fields[i]
		switch {
		case f.xml == "":
			names = append(names, "parameter")
		case !f.form.attribute(), f.form == formArguments:
			names = append(names, f.xml)
		}
	}
	return names
}

package steering

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PredefinedPrefix begins the class of a predefined module: one that the pilot
// brings along. A module with a src of its own is never one.
const PredefinedPrefix = "floe."

// PredefinedModule is one entry of the library of predefined modules.
type PredefinedModule struct {
	// Name is the class in steering files.
	Name       string                `json:"name"`
	Doc        string                `json:"doc"`
	Parameters []PredefinedParameter `json:"parameters"`
	Statistics []string              `json:"statistics"`
}

// PredefinedParameter is a parameter of a predefined module. Its name does not
// depend on case.
type PredefinedParameter struct {
	Name string `json:"name"`
	// Kind is KindString, KindBool, KindInt (not negative) or KindList (of texts).
	Kind     Kind `json:"type"`
	Required bool `json:"required"`
	// Default is JSON; "null" for a required one.
	Default json.RawMessage `json:"default"`
	// Words are the only texts allowed; nil allows all.
	Words []string `json:"words,omitempty"`
	Doc   string   `json:"doc"`
}

// MarshalText writes the kind's word, for -o json.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func textParameter(name, standard, doc string) PredefinedParameter {
	return PredefinedParameter{Name: name, Kind: KindString, Default: json.RawMessage(strconv.Quote(standard)), Doc: doc}
}

func wordParameter(name, doc string, words ...string) PredefinedParameter {
	p := textParameter(name, words[0], doc)
	p.Words = words
	return p
}

func flagParameter(name, doc string) PredefinedParameter {
	return PredefinedParameter{Name: name, Kind: KindBool, Default: json.RawMessage("false"), Doc: doc}
}

func neededParameter(name string, kind Kind, doc string) PredefinedParameter {
	return PredefinedParameter{Name: name, Kind: kind, Required: true, Default: json.RawMessage("null"), Doc: doc}
}

// predefined is the library. What it does is in pilot/library, which takes each
// module's values under the names given here.
var predefined = []PredefinedModule{
	{
		"floe.checksum", "Writes the checksums of files, or compares files with checksums written before.",
		[]PredefinedParameter{
			{Name: "files", Kind: KindList, Default: json.RawMessage("[]"), Doc: "files to sum; with `verify` the files that the manifest must name, besides any others"},
			textParameter("manifest", "", "file of sums, as `sha256sum` writes it; without one the sums are printed only"),
			wordParameter("algorithm", "which checksum", "sha256", "sha512", "md5", "adler32"),
			flagParameter("verify", "compare with `manifest` instead of writing it"),
		},
		[]string{"files", "bytes"},
	},
	{
		"floe.delete", "Deletes files.",
		[]PredefinedParameter{
			neededParameter("files", KindList, "files to delete"),
			flagParameter("directories", "also directories, with all they hold"),
			flagParameter("optional", "a pattern that nothing fits is no failure"),
		},
		[]string{"files"},
	},
	{
		"floe.hello", "Says a greeting: for a first try of a site.",
		[]PredefinedParameter{textParameter("greeting", "Hello World", "what to say")},
		nil,
	},
	{
		"floe.merge", "Joins files to one, in the order given.",
		[]PredefinedParameter{
			neededParameter("files", KindList, "files to join"),
			neededParameter("output", KindString, "the file to make"),
			{Name: "header", Kind: KindInt, Default: json.RawMessage("0"), Doc: "how many lines each file begins with that must be the same in all, and are kept once"},
			flagParameter("optional", "a pattern that nothing fits is no failure"),
		},
		[]string{"files", "bytes"},
	},
	{
		"floe.pack", "Packs files into a tarball. The same files give the same bytes.",
		[]PredefinedParameter{
			neededParameter("archive", KindString, "the tarball to make; its suffix says how it is compressed: `.tar`, `.tar.gz`, `.tgz`, `.tar.zst`, `.tar.bz2`, `.tar.xz`"),
			{Name: "files", Kind: KindList, Default: json.RawMessage(`["*"]`), Doc: "files and directories to pack, as they are named below `directory`"},
			textParameter("directory", ".", "where the files are"),
		},
		[]string{"files", "bytes"},
	},
	{
		"floe.transfer", "Brings one file here, or takes one away.",
		[]PredefinedParameter{
			neededParameter("source", KindString, "URL (`file:`, `http:`, `https:`, `gsiftp:`) or file"),
			neededParameter("destination", KindString, "file or URL; one of the two is a URL"),
			textParameter("checksum", "", "`sha256:`, `sha512:`, `md5:` or `adler32:` and digits: what the bytes at a source URL must have"),
			wordParameter("compression", "how the file is packed where the URL is; `yes` goes by the URL's suffix", "none", "yes", "gzip", "bz2", "lzma", "zstd"),
			flagParameter("optional", "a source that is not there is no failure"),
		},
		[]string{"files", "bytes"},
	},
	{
		"floe.unpack", "Unpacks a tarball. Nothing that is there is overwritten, and nothing leaves the directory.",
		[]PredefinedParameter{
			neededParameter("archive", KindString, "the tarball, plain or compressed by gzip, bzip2 or zstd"),
			textParameter("directory", ".", "where to unpack it; made if needed"),
		},
		[]string{"files", "bytes"},
	},
}

// PredefinedModules are all predefined modules in the order of their names.
func PredefinedModules() []PredefinedModule { return slices.Clone(predefined) }

// PredefinedReference is the library as Markdown; docs/modules.md holds it.
func PredefinedReference() string {
	var b strings.Builder
	for i := range predefined {
		m := &predefined[i]
		fmt.Fprintf(&b, "### %s\n\n%s", m.Name, m.Doc)
		if len(m.Statistics) > 0 {
			fmt.Fprintf(&b, " Statistics: `%s`.", strings.Join(m.Statistics, "`, `"))
		}
		b.WriteString("\n\n| parameter | | default | |\n| --- | --- | --- | --- |\n")
		for _, p := range m.Parameters {
			standard := "`" + string(p.Default) + "`"
			if p.Required {
				standard = "required"
			}
			doc := p.Doc
			if len(p.Words) > 0 {
				doc += ": `" + strings.Join(p.Words, "`, `") + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p.Name, predefinedKinds[p.Kind].noun, standard, doc)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// predefinedKinds are the kinds of parameters for people.
var predefinedKinds = map[Kind]struct{ noun, want string }{
	KindString: {"text", "a text"},
	KindBool:   {"true or false", "true or false"},
	KindInt:    {"whole number", "a whole number from 0"},
	KindList:   {"list of texts", "a list of texts"},
}

package steering

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// sameModel compares models: not where things stood, and silence is silence
// whether a list is nil or empty.
var sameModel = cmp.Options{cmpopts.IgnoreTypes(Position{}), cmpopts.EquateEmpty()}

var spellings = []Spelling{XML, JSON, YAML}

// write returns d in a spelling.
func write(t interface {
	Helper()
	Fatalf(string, ...any)
}, d *Document, s Spelling,
) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, d, s); err != nil {
		t.Fatalf("Write(%v) = %v", s, err)
	}
	return b.Bytes()
}

// Any document goes through any two spellings and comes back the same,
// types and order of parameters included.
func TestSpellingsAreLossless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := documents.Draw(t, "document")
		for _, first := range spellings {
			text := write(t, want, first)
			got, problems := Parse("a."+first.String(), text)
			if problems.HasErrors() {
				t.Fatalf("Parse of what Write wrote:\n%s\n%s", problems.Format(), text)
			}
			if diff := cmp.Diff(want, got, sameModel); diff != "" {
				t.Fatalf("Parse(Write(%v)) (-want +got):\n%s\n%s", first, diff, text)
			}
			if detected := Detect(text); detected != first {
				t.Fatalf("Detect(%v text) = %v", first, detected)
			}
			for _, second := range spellings {
				other := write(t, got, second)
				back, problems := Parse("b."+second.String(), other)
				if problems.HasErrors() {
					t.Fatalf("Parse of %v from %v:\n%s\n%s", second, first, problems.Format(), other)
				}
				if again := write(t, back, first); !bytes.Equal(again, text) {
					t.Fatalf("%v → %v → %v differs:\n%s", first, second, first, cmp.Diff(string(text), string(again)))
				}
			}
			// What Write writes is what Format wants.
			formatted, problems := Format("a", text)
			if problems.HasErrors() || !bytes.Equal(formatted, text) {
				t.Fatalf("Format(%v) changes what Write wrote: %v\n%s", first, problems, cmp.Diff(string(text), string(formatted)))
			}
		}
	})
}

// Generators. Every field of every struct has a chance to be set.

var (
	anyText = rapid.OneOf(
		rapid.SampledFrom([]string{
			"x", "$steering(CORSIKA::seed)", "$eval($(job)%100 + 1)", "yes", "null", "1e11", "007", "-1", "1.0", "true", "~",
			" lead", "trail ", "a: b", "- a", "# no comment", "a #b", "line\nline\n", "\n", "\n\na\n", "tab\there", "\r\n", "]]>", "<a b=\"c\">&amp;",
			"{}", "[]", "'", "\"", "\\", "%d", "@x", "`x`", "*a", "&a", "!t", "|", ">", "? a", "a:", ":", "2026-01-01", "12:30", "0x10", "0o7", "é – ☃",
			"key\u00a0nbsp", "\u2028", "\ufeffbom", "a\n b\n  c", "  a\nb", "a\n\nb", "a \nb", "<<", "=", "a  b", "…", "---", "...", "--- a", "\x7f",
		}),
		rapid.StringMatching(`[ -~\n\té☃]{0,12}`),
	)
	someText  = anyText.Filter(func(s string) bool { return s != "" })
	proseText = rapid.StringMatching(`|[!-~]([ -~\n]{0,20}[!-~])?`)
	wordText  = rapid.StringMatching(`[!-+\--~]{1,8}`)
	labelText = rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[1-9][0-9]{0,3}|[a-f][0-9a-f]{8}|3\.[0-9]|007|1e5`))
	flags     = rapid.SampledFrom([]Flag{FlagUnset, FlagYes, FlagNo})
	numbers   = rapid.OneOf(rapid.Just(""), rapid.Just("$steering(x)"), rapid.StringMatching(`0|[1-9][0-9]{0,2}(\.[0-9]{1,2})?(e[1-3])?`))
	counts    = rapid.OneOf(rapid.Just(""), rapid.Just("$eval(1+1)"), rapid.StringMatching(`0|[1-9][0-9]?`))
	checksums = rapid.OneOf(rapid.Just(""), rapid.Just("$steering(sum)"), rapid.StringMatching(`md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|adler32:[0-9a-f]{8}`))
)

func expression(t *rapid.T, g *rapid.Generator[string], name string) Expression {
	return Expression{Text: g.Draw(t, name)}
}

func lists[T any](g *rapid.Generator[T], most int) *rapid.Generator[[]T] {
	return rapid.SliceOfN(g, 0, most)
}

func values(depth int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		kinds := []Kind{KindString, KindInt, KindDouble, KindBool, KindNull, KindList, KindMap}
		if depth == 0 {
			kinds = kinds[:5]
		}
		v := Value{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		switch v.Kind {
		case KindString:
			v.Text = anyText.Draw(t, "text")
		case KindInt:
			v.Text = rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})`).Draw(t, "int")
		case KindDouble:
			v.Text = rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4}([eE][+-]?[0-9]{1,2})?|[eE][+-]?[0-9]{1,2})`).Draw(t, "double")
		case KindBool:
			v.Text = strconv.FormatBool(rapid.Bool().Draw(t, "bool"))
		case KindList:
			v.List = lists(values(depth-1), 3).Draw(t, "list")
		case KindMap:
			v.Map = parameters(depth-1).Draw(t, "map")
		}
		return v
	})
}

func named(g *rapid.Generator[Value]) *rapid.Generator[Parameters] {
	return rapid.Custom(func(t *rapid.T) Parameters {
		var list Parameters
		for _, name := range rapid.SliceOfNDistinct(someText, 0, 3, rapid.ID).Draw(t, "names") {
			list = append(list, Parameter{Name: name, Value: g.Draw(t, "value")})
		}
		return list
	})
}

func parameters(depth int) *rapid.Generator[Parameters] { return named(values(depth)) }

var texts = named(rapid.Map(anyText, TextValue))

var batchsys = rapid.Custom(func(t *rapid.T) []BatchSys {
	var list []BatchSys
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"*", "condor", "slurm"}), 0, 2, rapid.ID).Draw(t, "names") {
		list = append(list, BatchSys{Name: name, Parameters: parameters(0).Draw(t, "parameters")})
	}
	return list
})

var data = rapid.Custom(func(t *rapid.T) Data {
	return Data{
		Type:        rapid.SampledFrom([]DataType{DataPermanent, DataTaskTemp, DataTrayTemp, DataJobTemp, DataDatasetTemp, DataSiteTemp}).Draw(t, "type"),
		Movement:    rapid.SampledFrom([]Movement{MovementInput, MovementOutput, MovementBoth}).Draw(t, "movement"),
		Remote:      expression(t, anyText, "remote"),
		Local:       expression(t, someText, "local"),
		Compression: rapid.SampledFrom([]Compression{"", CompressionNone, CompressionYes, CompressionGzip, CompressionBzip2, CompressionLZMA}).Draw(t, "compression"),
		Transfer:    rapid.SampledFrom([]Transfer{"", TransferYes, TransferNo, TransferMaybe}).Draw(t, "transfer"),
		Checksum:    expression(t, checksums, "checksum"),
		Cache:       flags.Draw(t, "cache"),
	}
})

var resources = rapid.Custom(func(t *rapid.T) Resource {
	return Resource{
		Remote: expression(t, someText, "remote"), Local: expression(t, anyText, "local"),
		Compression: rapid.SampledFrom([]Compression{"", CompressionNone, CompressionGzip}).Draw(t, "compression"),
		Transfer:    rapid.SampledFrom([]Transfer{"", TransferNo}).Draw(t, "transfer"),
		Arch:        anyText.Draw(t, "arch"), Checksum: expression(t, checksums, "checksum"), Cache: flags.Draw(t, "cache"),
	}
})

var classes = rapid.Custom(func(t *rapid.T) Class {
	return Class{
		Name: wordText.Draw(t, "name"), Src: expression(t, anyText, "src"), ResourceName: expression(t, anyText, "resource"),
		Recursive: flags.Draw(t, "recursive"), Libs: expression(t, anyText, "libs"), EnvVars: expression(t, anyText, "env"),
	}
})

var projects = rapid.Custom(func(t *rapid.T) Project {
	return Project{Name: expression(t, someText, "name"), Class: expression(t, anyText, "class"), Version: expression(t, anyText, "version")}
})

func requirements(alternatives bool) *rapid.Generator[Requirements] {
	return rapid.Custom(func(t *rapid.T) Requirements {
		r := Requirements{
			CPU: expression(t, counts, "cpu"), GPU: expression(t, counts, "gpu"), Memory: expression(t, numbers, "memory"),
			Disk: expression(t, numbers, "disk"), Time: expression(t, numbers, "time"),
			GPUMemory: expression(t, numbers, "gpu memory"), GPUCapability: expression(t, numbers, "capability"),
			Elastic: flags.Draw(t, "elastic"), OS: lists(wordText, 2).Draw(t, "os"), Site: expression(t, anyText, "site"), Tags: lists(wordText, 2).Draw(t, "tags"),
		}
		if alternatives {
			r.Alternatives = lists(requirements(false), 2).Draw(t, "alternatives")
		}
		return r
	})
}

var checkpoints = rapid.Custom(func(t *rapid.T) Checkpoint {
	return Checkpoint{
		Signal: expression(t, rapid.SampledFrom([]string{"", "TERM", "sigusr1"}), "signal"), Grace: expression(t, rapid.SampledFrom([]string{"", "30", "1.5e2"}), "grace"),
		Files: expression(t, anyText, "files"), Exit: expression(t, rapid.SampledFrom([]string{"", "1", "85"}), "exit"),
	}
})

var modules = rapid.Custom(func(t *rapid.T) Module {
	m := Module{
		Name: anyText.Draw(t, "name"), Class: expression(t, someText, "class"), Src: expression(t, anyText, "src"),
		EnvShell: expression(t, anyText, "env_shell"), EnvClear: flags.Draw(t, "env_clear"), Checkpoint: checkpoints.Draw(t, "checkpoint"),
		Parameters: parameters(1).Draw(t, "parameters"), Resources: lists(resources, 1).Draw(t, "resources"),
		Data: lists(data, 2).Draw(t, "data"), Classes: lists(classes, 1).Draw(t, "classes"),
		Projects: lists(projects, 1).Draw(t, "projects"), Configs: parameters(2).Draw(t, "configs"),
	}
	switch rapid.IntRange(0, 3).Draw(t, "args") {
	case 1:
		m.Args = TextValue(someText.Draw(t, "args"))
	case 2:
		m.Args = Value{Kind: KindList, List: lists(values(1), 3).Draw(t, "args")}
	case 3:
		m.Args = Value{Kind: KindMap, Map: parameters(1).Draw(t, "args")}
	}
	return m
})

var trays = rapid.Custom(func(t *rapid.T) Tray {
	return Tray{
		Name: anyText.Draw(t, "name"), Iterations: expression(t, counts, "iter"), Container: expression(t, anyText, "container"),
		EnvShell: expression(t, anyText, "env_shell"), EnvClear: flags.Draw(t, "env_clear"), Checkpoint: checkpoints.Draw(t, "checkpoint"),
		Parameters: parameters(0).Draw(t, "parameters"), Data: lists(data, 1).Draw(t, "data"),
		Classes: lists(classes, 1).Draw(t, "classes"), Projects: lists(projects, 1).Draw(t, "projects"),
		Resources: lists(resources, 1).Draw(t, "resources"), Modules: lists(modules, 2).Draw(t, "modules"),
	}
})

var documents = rapid.Custom(func(t *rapid.T) *Document {
	d := &Document{
		Version: rapid.SampledFrom([]string{"", "3", "3.1", "3.2"}).Draw(t, "version"), IceProdVersion: labelText.Draw(t, "iceprod"),
		Dataset: labelText.Draw(t, "dataset"), DatasetName: labelText.Draw(t, "dataset_id"), ParentID: labelText.Draw(t, "parent"),
		Title: anyText.Draw(t, "title"), Description: proseText.Draw(t, "description"),
		Categories: lists(someText, 2).Draw(t, "categories"), Labels: texts.Draw(t, "labels"),
		Division: rapid.SampledFrom([]Division{DivisionUnset, DivisionFloor, DivisionTrue}).Draw(t, "division"),
		Options:  parameters(1).Draw(t, "options"), DIFPlus: parameters(2).Draw(t, "difplus"),
		Steering: Steering{
			Parameters: parameters(3).Draw(t, "steering"), System: parameters(0).Draw(t, "system"), BatchSys: batchsys.Draw(t, "batchsys"),
			Resources: lists(resources, 1).Draw(t, "resources"), Data: lists(data, 1).Draw(t, "data"),
		},
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "tasks") {
		task := Task{
			Name: fmt.Sprintf("%s%d", wordText.Draw(t, "name"), i), Requirements: requirements(true).Draw(t, "requirements"),
			Parameters: parameters(0).Draw(t, "parameters"), BatchSys: batchsys.Draw(t, "batchsys"),
			Resources: lists(resources, 1).Draw(t, "resources"), Data: lists(data, 1).Draw(t, "data"),
			Classes: lists(classes, 1).Draw(t, "classes"), Projects: lists(projects, 1).Draw(t, "projects"),
			Trays:        lists(trays, 2).Draw(t, "trays"),
			Reproducible: rapid.SampledFrom([]Reproducible{"", ReproducibleNo, ReproducibleBytes}).Draw(t, "reproducible"),
			Exclusive:    flags.Draw(t, "exclusive"), Credentials: lists(wordText, 2).Draw(t, "credentials"),
			Container: expression(t, anyText, "container"), TaskFiles: flags.Draw(t, "task_files"), TokenScopes: texts.Draw(t, "scopes"),
		}
		if i > 0 {
			task.Depends = []Dependence{{Name: rapid.SampledFrom([]string{d.Tasks[i-1].Name, "0"}).Draw(t, "depends")}}
		}
		d.Tasks = append(d.Tasks, task)
	}
	return d
})

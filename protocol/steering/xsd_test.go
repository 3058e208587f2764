package steering

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestXSDIsCurrent(t *testing.T) {
	golden(t, filepath.FromSlash("../../docs/steering.xsd"), string(XSD()))
}

// Each piece stands where %s is; xmllint with the XSD and Parse must agree
// about all of them.
const (
	inRoot   = `<configuration>%s<task name="t"><tray><module src="m"/></tray></task></configuration>`
	inHeader = `<configuration><steering>%s</steering><task name="t"><tray><module src="m"/></tray></task></configuration>`
	inTask   = `<configuration><task name="t">%s<tray><module src="m"/></tray></task></configuration>`
	inModule = `<configuration><task name="t"><tray><module src="m">%s</module></tray></task></configuration>`
	whole    = `%s`
)

var xsdCorpus = []struct {
	frame, piece string
	ok           bool
}{
	{inRoot, ``, true},
	{inRoot, `<!-- c --><?pi x?>`, true},
	{inRoot, `text`, false},
	{inRoot, `<options/><options/>`, true},
	{inRoot, `<steering/><steering/><options/>`, true},
	{inRoot, `<description>a</description><category name="c"/><label name="l" value=""/>`, true},
	{inRoot, `<category name="c"/><description>a</description><options/>`, true},
	{inRoot, `<description>a</description><description>b</description>`, false},
	{inRoot, `<description><b/></description>`, false},
	{inRoot, `<description lang="en">a</description>`, false},
	{inRoot, `<category/>`, false},
	{inRoot, `<category name=""/>`, false},
	{inRoot, `<category name="a">b</category>`, false},
	{inRoot, `<category name="a"> </category>`, false},
	{inRoot, `<category name="a"><!-- c --></category>`, true},
	{inHeader, `<data type="job_temp" movement="input" local="x"></data>`, true},
	{inHeader, "<data type='job_temp' movement='input' local='x'>\n</data>", false},
	{inHeader, "<system>\n</system>", true},
	{inRoot, `<label name="a"/>`, false},
	{inRoot, `<label name="a" value="1"/><label name="a" value="2"/>`, false},
	{inRoot, `<difplus><parameter name="a" type="map"><parameter name="b"/></parameter></difplus>`, true},
	{inRoot, `<difplus/>`, true},
	{inRoot, `<DIF_Plus/>`, false},
	{inRoot, `<optoins/>`, false},
	{inRoot, `<task name="t"><tray><module src="m"/></tray></task>`, false},
	{inRoot, `<task name="u"><tray><module src="m"/></tray></task>`, true},
	{inRoot, `<task name="u"><tray><module src="m"/></tray></task><options/>`, true},
	{inHeader, `<parameter name="a" value="1"/>`, true},
	{inHeader, `<parameter name="A::b">text</parameter>`, true},
	{inHeader, `<parameter name="a"/>`, true},
	{inHeader, `<parameter value="1"/>`, false},
	{inHeader, `<parameter name="" value="1"/>`, false},
	{inHeader, `<parameter name="a" type="int" value="5"/>`, true},
	{inHeader, `<parameter name="a" type="integer" value="5"/>`, false},
	{inHeader, `<parameter name="a" type="" value="5"/>`, false},
	{inHeader, `<parameter name="a" unit="m" value="5"/>`, false},
	{inHeader, `<parameter name="a"/><parameter name="a"/>`, false},
	{inHeader, `<parameter name="a" type="list"><item/><item type="int" value="3"/></parameter>`, true},
	{inHeader, `<parameter name="a" type="list"><item name="x"/></parameter>`, false},
	{inHeader, `<parameter name="a" type="list"><entry/></parameter>`, false},
	{inHeader, `<parameter name="a" type="map"><parameter name="b"/><parameter name="b"/></parameter>`, false},
	{inHeader, `<parameter name="a" type="list"><item type="map"><parameter name="b"/><parameter name="b"/></item></parameter>`, false},
	{inHeader, `<parameter name="a" type="null"/>`, true},
	{inHeader, `<system><parameter name="a"/></system><batchsys name="x"/><batchsys/>`, true},
	{inHeader, `<batchsys name="x"/><batchsys name="x"/>`, false},
	{inHeader, `<batchsys name=""/>`, false},
	{inHeader, `<batchsys type="x"/>`, false},
	{inHeader, `<system name="x"/>`, false},
	{inHeader, `<resource remote="r"/>`, true},
	{inHeader, `<resource remote="r">x</resource>`, false},
	{inHeader, `<resource remote="r"><parameter name="x"/></resource>`, false},
	{inHeader, `<data type="permanent" movement="input" remote="r"/>`, true},
	{inHeader, `<data movement="input" remote="r"/>`, false},
	{inHeader, `<data type="permanent" remote="r"/>`, false},
	{inHeader, `<data type="temp" movement="input" remote="r"/>`, false},
	{inHeader, `<data type="" movement="input" remote="r"/>`, false},
	{inHeader, `<data type="permanent" movement="in" remote="r"/>`, false},
	{inHeader, `<data type="permanent" movement="input" remote="r" compression="gz" transfer="maybe" cache="1"/>`, true},
	{inHeader, `<data type="permanent" movement="input" remote="r" compression="zip"/>`, false},
	{inHeader, `<data type="permanent" movement="input" remote="r" transfer="perhaps"/>`, false},
	{inHeader, `<data type="permanent" movement="input" remote="r" cache=""/>`, true},
	{inHeader, `<data type="permanent" movement="input" remote="r" checksum="md5:d41d8cd98f00b204e9800998ecf8427e"/>`, true},
	{inHeader, `<data type="permanent" movement="input" remote="r" checksum="md5:d41d"/>`, false},
	{inHeader, `<data type="permanent" movement="input" remote="r" checksum="$steering(sum)"/>`, true},
	{inHeader, `<task name="x"/>`, false},
	{inTask, `<requirements cpu="2" memory="2.5" disk="1e3" time="$steering(t)" os="a b" tags="c"/>`, true},
	{inTask, `<requirements cpu=" 2 " memory=""/>`, true},
	{inTask, `<requirements cpu="2.5"/>`, false},
	{inTask, `<requirements cpu="-1"/>`, false},
	{inTask, `<requirements memory="2GB"/>`, false},
	{inTask, `<requirements memory=".5"/>`, false},
	{inTask, `<requirements memory="02"/>`, false},
	{inTask, `<requirements/><requirements/>`, false},
	{inTask, `<requirements gpu="1"><alternative cpu="8"/><alternative cpu="16"/></requirements>`, true},
	{inTask, `<requirements><alternative><alternative/></alternative></requirements>`, false},
	{inTask, `<requirement name="cpu" value="1"/>`, false},
	{inTask, `<token_scope name="https://x" value="read"/>`, true},
	{inTask, `<token_scope name="https://x"/>`, false},
	{inTask, `<class name="c"/><project name="p"/>`, true},
	{inTask, `<class/>`, false},
	{inTask, `<class name="a b"/>`, false},
	{inTask, `<class name="c" recursive="often"/>`, false},
	{inTask, `<project name="p" version="1"/><parameter name="x"/><batchsys name="b"/>`, true},
	{inTask, `<module src="m"/>`, false},
	{inTask, `<tray iter="3" env_clear="yes"><module class="c"/></tray>`, true},
	{inTask, `<tray iter="three"><module class="c"/></tray>`, false},
	{inTask, `<tray iter="$steering(n)"><module class="c"/></tray>`, true},
	{inTask, `<tray iterations="3"><module class="c"/></tray>`, false},
	{inModule, `<args type="list"><item value="1"/></args>`, true},
	{inModule, `<args type="int" value="1"/>`, false},
	{inModule, `<args>--text</args>`, true},
	{inModule, `<args/><args/>`, false},
	{inModule, `<args name="x"/>`, false},
	{inModule, `<configs><parameter name="f.json" type="map"/></configs>`, true},
	{inModule, `<config name="f.json"/>`, false},
	{inModule, `<tray/>`, false},
	{whole, ``, false},
	{whole, `<configuration`, false},
	{whole, `<configuration><task name="t"></configuration>`, false},
	{whole, `<task name="t"/>`, false},
	{whole, `<configuration xmlns="http://example.org/"><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration a="1"><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration title="a" title="b"><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration title=a><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration title="a&b"><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration title="a&nbsp;b"><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration title="a&#1;b"><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration title="a&#x26;b&#10;c"><task name="t"><tray><module src="m"/></tray></task></configuration>`, true},
	{whole, `<configuration title="a<b"><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration division="4"><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration division="2"><task name="t"><tray><module src="m"/></tray></task></configuration>`, true},
	{whole, `<configuration><task name="t"><tray><module src="m"/></tray></task></configuration><configuration/>`, false},
	{whole, `<configuration><task name="t"><tray><module src="m"/></tray></task></configuration>text`, false},
	{whole, `<configuration><task name="t"><tray><module src="m"/></tray></task></configuration><!-- c --> `, true},
	{whole, `<!DOCTYPE configuration SYSTEM "x.dtd"><configuration><task name="t"><tray><module src="m"/></tray></task></configuration>`, true},
	{whole, `<?xml version="1.0" encoding="ISO-8859-1"?><configuration title="é"><task name="t"><tray><module src="m"/></tray></task></configuration>`, true},
	{whole, ` <?xml version="1.0"?><configuration><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<?xml version="1.0" standalone="maybe"?><configuration><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration><!-- a -- b --><task name="t"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration><task><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration><task name=""><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration><task name="a,b"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration><task name="t" exclusive="so-so"><tray><module src="m"/></tray></task></configuration>`, false},
	{whole, `<configuration><task name="t" reproducible="bytes"><tray><module src="m"/></tray></task></configuration>`, true},
	{whole, `<configuration><task name="t" reproducible="bits"><tray><module src="m"/></tray></task></configuration>`, false},
}

// beyondXSD is what Parse refuses and XSD 1.0 has no words for.
var beyondXSD = []struct{ frame, piece string }{
	{inHeader, `<parameter name="a" type="int" value="five"/>`},
	{inHeader, `<parameter name="a" value="1">2</parameter>`},
	{inHeader, `<parameter name="a" type="list"><parameter name="b"/></parameter>`},
	{inHeader, `<parameter name="a"/></steering><steering><parameter name="a"/>`},
	{inHeader, `<resource local="r"/>`},
	{inTask, `<project/>`},
	{inTask, `<tray><module name="idle"/></tray>`},
	{inModule, `<data type="job_temp" movement="input"/>`},
	{whole, `<configuration><task name="a" depends="b"><tray><module src="m"/></tray></task></configuration>`},
	{whole, `<configuration><task name="a" depends="0"><tray><module src="m"/></tray></task></configuration>`},
	{whole, `<configuration/>`},
	{whole, `<configuration version="9"><task name="t"><tray><module src="m"/></tray></task></configuration>`},
	{whole, `<!DOCTYPE configuration [<!ENTITY a "b">]><configuration><task name="t"><tray><module src="m"/></tray></task></configuration>`},
}

var verdictLine = regexp.MustCompile(`(?m)^(\S+\.xml) validates$`)

// xmllint returns which files validate against the XSD.
func xmllint(t *testing.T, folder string) map[string]bool {
	t.Helper()
	program, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint is not installed (Debian: libxml2-utils); without it the XSD has no second opinion")
	}
	schema := filepath.Join(t.TempDir(), "steering.xsd")
	if err := os.WriteFile(schema, XSD(), 0o644); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(folder, "*.xml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in %s: %v", folder, err)
	}
	// Exit status 3 and up is "some do not validate".
	output, _ := exec.Command(program, append([]string{"--noout", "--nonet", "--schema", schema}, names...)...).CombinedOutput()
	valid := map[string]bool{}
	for _, match := range verdictLine.FindAllSubmatch(output, -1) {
		valid[filepath.Base(string(match[1]))] = true
	}
	if len(valid) == 0 {
		t.Fatalf("xmllint validates nothing:\n%s", output)
	}
	return valid
}

func TestXSDAgreesWithParse(t *testing.T) {
	folder := t.TempDir()
	place := func(name, text string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range xsdCorpus {
		text := fmt.Sprintf(c.frame, c.piece)
		_, problems := Parse("corpus.xml", []byte(text))
		if problems.HasErrors() == c.ok {
			t.Errorf("Parse(%s): errors %v, want %v\n%s", text, problems.HasErrors(), !c.ok, problems.Format())
		}
		place(fmt.Sprintf("corpus-%03d.xml", i), text)
	}
	for i, c := range beyondXSD {
		text := fmt.Sprintf(c.frame, c.piece)
		if _, problems := Parse("beyond.xml", []byte(text)); !problems.HasErrors() {
			t.Errorf("Parse(%s) finds no error", text)
		}
		place(fmt.Sprintf("beyond-%03d.xml", i), text)
	}
	place("everything.xml", string(read(t, filepath.FromSlash("testdata/good/everything.xml"))))
	for i := range 20 {
		place(fmt.Sprintf("written-%03d.xml", i), string(write(t, documents.Example(i), XML)))
	}
	valid := xmllint(t, folder)
	for i, c := range xsdCorpus {
		if got := valid[fmt.Sprintf("corpus-%03d.xml", i)]; got != c.ok {
			t.Errorf("xmllint(%s): valid %v, Parse says %v", fmt.Sprintf(c.frame, c.piece), got, c.ok)
		}
	}
	for i, c := range beyondXSD {
		if !valid[fmt.Sprintf("beyond-%03d.xml", i)] {
			t.Errorf("xmllint refuses %s: move it to the corpus", fmt.Sprintf(c.frame, c.piece))
		}
	}
	if !valid["everything.xml"] {
		t.Error("xmllint refuses everything.xml")
	}
	for i := range 20 {
		if !valid[fmt.Sprintf("written-%03d.xml", i)] {
			t.Errorf("xmllint refuses what Write wrote, example %d", i)
		}
	}
}

// Whatever Format makes of generated XML keeps its meaning.
func TestFormatKeepsMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := documents.Draw(t, "document")
		text := write(t, want, JSON)
		indented, problems := Format("a.json", text)
		if problems.HasErrors() {
			t.Fatalf("Format: %s", problems.Format())
		}
		got, _ := Parse("a.json", indented)
		if diff := cmp.Diff(want, got, sameModel); diff != "" {
			t.Fatalf("Format changes the meaning (-want +got):\n%s", diff)
		}
	})
}

package state

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pureImports are all the packages that the machine may use. None of them tells
// the time, draws lots, talks to the outside or starts a goroutine.
var pureImports = []string{
	"bufio", "bytes", "cmp", "crypto/sha256", "encoding/binary", "errors", "fmt", "io", "iter", "slices", "strings", "unicode/utf8",
	"github.com/RoaringBitmap/roaring/v2", "github.com/tidwall/btree",
	"floe/protocol", "floe/protocol/canon",
}

// The same log must give the same record on every node: the source is read for
// whatever could make a difference. Maps are forbidden altogether, so that no
// order of one can be seen.
func TestMachineIsPure(t *testing.T) {
	files := token.NewFileSet()
	for _, name := range sources(t) {
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range file.Imports {
			if name, _ := strconv.Unquote(i.Path.Value); !slices.Contains(pureImports, name) {
				t.Errorf("%s: imports %s", files.Position(i.Pos()), name)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if what := impurity(n); what != "" {
				t.Errorf("%s: %s", files.Position(n.Pos()), what)
			}
			return true
		})
	}
}

func sources(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
}

func impurity(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a goroutine"
	case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
		return "a channel"
	case *ast.MapType:
		return "a map, whose order differs from run to run"
	case *ast.BasicLit:
		if n.Kind == token.FLOAT || n.Kind == token.IMAG {
			return "a floating point number"
		}
	case *ast.Ident:
		if slices.Contains([]string{"float32", "float64", "complex64", "complex128", "print", "println"}, n.Name) {
			return "uses " + n.Name
		}
	case *ast.SelectorExpr:
		if x, isName := n.X.(*ast.Ident); isName && x.Name == "fmt" && strings.HasPrefix(n.Sel.Name, "Print") {
			return "writes to the outside"
		}
	}
	return ""
}

// Everything a state change could forget is in one place: no other function than
// move assigns a task's state.
func TestOnlyMoveMovesTasks(t *testing.T) {
	files := token.NewFileSet()
	for _, name := range sources(t) {
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(path.Base(name), "snapshot") {
			continue // restores what was moved
		}
		ast.Inspect(file, func(n ast.Node) bool {
			f, isFunc := n.(*ast.FuncDecl)
			if !isFunc || f.Body == nil || f.Name.Name == "move" {
				return true
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if changesStates(n) {
					t.Errorf("%s: %s changes the set of a task state", files.Position(n.Pos()), f.Name.Name)
				}
				return true
			})
			return false
		})
	}
}

// changesStates recognises x.in[…].put(…) and the like.
func changesStates(n ast.Node) bool {
	call, isCall := n.(*ast.CallExpr)
	if !isCall {
		return false
	}
	method, isMethod := call.Fun.(*ast.SelectorExpr)
	if !isMethod || !slices.Contains([]string{"put", "drop", "add", "remove", "addAll", "removeAll", "addRange", "assign", "own"}, method.Sel.Name) {
		return false
	}
	index, isIndex := method.X.(*ast.IndexExpr)
	if !isIndex {
		return false
	}
	field, isField := index.X.(*ast.SelectorExpr)
	return isField && field.Sel.Name == "in"
}

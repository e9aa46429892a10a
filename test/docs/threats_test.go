package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatModel: each line of the threat model names tests, and each of them is there.
func TestThreatModel(t *testing.T) {
	t.Parallel()
	text := string(read(t, "docs/threat-model.md"))
	named := regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
	rows, tests := 0, map[string]map[string]bool{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| ") || strings.Contains(line, "What stands against it") {
			continue
		}
		rows++
		columns := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		shown := named.FindAllStringSubmatch(columns[len(columns)-1], -1)
		if len(columns) != 3 || len(shown) == 0 || strings.Count(columns[2], "`") != 2*len(shown) {
			t.Errorf("this line names no test, or something else beside tests: %s", line)
		}
		for _, match := range shown {
			directory, name := match[1], match[2]
			if tests[directory] == nil {
				tests[directory] = testsIn(t, directory)
			}
			if !tests[directory][name] {
				t.Errorf("%s has no test %s", directory, name)
			}
		}
	}
	if rows < 30 {
		t.Errorf("the threat model has %d lines", rows)
	}
}

// testsIn are the names of the tests and fuzz targets of a directory.
func testsIn(t *testing.T, directory string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	root := filepath.Join("..", "..", filepath.FromSlash(directory))
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Errorf("%s is not there: %v", directory, err)
		return out
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, entry.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			if function, is := declaration.(*ast.FuncDecl); is && function.Recv == nil {
				out[function.Name.Name] = true
			}
		}
	}
	return out
}

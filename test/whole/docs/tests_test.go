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

// namedTest is how a page names a test: by its directory.
var namedTest = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")

// TestThreatModel: each line of the threat model names tests, and each of them is there.
func TestThreatModel(t *testing.T) {
	t.Parallel()
	rows := 0
	for line := range strings.Lines(string(read(t, "docs/threat-model.md"))) {
		if !strings.HasPrefix(line, "| ") || strings.Contains(line, "What stands against it") {
			continue
		}
		rows++
		namesTestsAlone(t, line, 3)
	}
	if rows < 30 {
		t.Errorf("the threat model has %d lines", rows)
	}
	checkTests(t, "docs/threat-model.md", 60)
}

// TestPromises: the page about the tests has a line for each of the promises, one after the other, that names the tests which show it.
func TestPromises(t *testing.T) {
	t.Parallel()
	const path, promises = "test/README.md", 9
	_, table, _ := strings.Cut(string(read(t, path)), "\n| Promise | Shown by |\n")
	next := 1
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		if begin := "| " + string(rune('0'+next)) + ". "; !strings.HasPrefix(line, begin) {
			t.Errorf("this line does not begin with %q: %s", begin, line)
		}
		next++
		namesTestsAlone(t, line, 2)
	}
	if next != promises+1 {
		t.Errorf("%s has %d promises, want %d", path, next-1, promises)
	}
	checkTests(t, path, 25)
}

// TestFolders: the page about the tests says of each folder which question it answers.
func TestFolders(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^\| [^|]+\? \| \[([a-z0-9]+/[a-z0-9]+)\]\(([a-z0-9]+/[a-z0-9]+)\) \|$`).FindAllStringSubmatch(
		string(read(t, "test/README.md")), -1,
	) {
		if match[1] != match[2] {
			t.Errorf("%s leads to %s", match[1], match[2])
		}
		named[match[2]] = true
	}
	folders, err := filepath.Glob("../../*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		name := filepath.ToSlash(strings.TrimPrefix(folder, filepath.FromSlash("../../")))
		if !named[name] {
			t.Errorf("test/README.md has no question for %s", name)
		}
		delete(named, name)
	}
	for name := range named {
		t.Errorf("test/README.md has %s, which is not there", name)
	}
}

// namesTestsAlone checks a row of so many columns: its last one names tests and quotes nothing else.
func namesTestsAlone(t *testing.T, line string, want int) {
	t.Helper()
	columns := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
	last := columns[len(columns)-1]
	shown := namedTest.FindAllString(last, -1)
	if len(columns) != want || len(shown) == 0 || strings.Count(last, "`") != 2*len(shown) {
		t.Errorf("this line names no test, or something else beside tests: %s", line)
	}
}

// checkTests looks for each test that a page names, and for so many at least.
func checkTests(t *testing.T, path string, least int) {
	t.Helper()
	all, tests := namedTest.FindAllStringSubmatch(string(read(t, path)), -1), map[string]map[string]bool{}
	for _, match := range all {
		directory, name := match[1], match[2]
		if tests[directory] == nil {
			tests[directory] = testsIn(t, directory)
		}
		if !tests[directory][name] {
			t.Errorf("%s: %s has no test %s", path, directory, name)
		}
	}
	if len(all) < least {
		t.Errorf("%s names %d tests", path, len(all))
	}
}

// testsIn are the names of the tests and fuzz targets of a directory.
func testsIn(t *testing.T, directory string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	root := filepath.Join("..", "..", "..", filepath.FromSlash(directory))
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

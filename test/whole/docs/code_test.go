package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// functionNames are names of functions and methods that say nothing of what these do, and better ones of such as there were.
var functionNames = map[string]string{
	`each|atOnce|letGo`:                   "flattenErrors, inParallel, ungateStrays",
	`told|counted|clock|amount|shortened`: "joinMessages, pluralize, formatTime, formatQuantity, truncate",
	`recorded`:                            "heldBefore, claimedBy",
	`settled`:                             "grantedBefore",
	`divide|bound`:                        "splitSurplus, limitDeletions",
	`.*Gangs?(?:[A-Z].*)?|gangs?(?:[A-Z].*)?`: "growth",
}

// constantNames are names of constants and of variables of a package.
var constantNames = map[string]string{`most[A-Z].*`: "max…", `least[A-Z].*`: "min…", `gang.*`: "growth"}

// exceptions are what may have a word all the same: in files whose paths begin so, the words that match, because of this.
var exceptions = []struct{ path, words, because string }{
	{
		"controller/plan/", `(?i)gangs?|.*Gang.*`,
		"its tests call a growth that takes all or nothing a gang, as Kubernetes does, to tell it from growths that take what there is",
	},
	{"controller/resize/gang_test.go", `(?i)gangs?|.*Gang.*`, "as in controller/plan"},
	{"controller/plan/", `told|bound|letGo`, "what its tests do to nodes and pods of a world without an API server, not texts"},
	{"controller/resize/notmade.go", `told`, "when an event was told, not a text"},
	{"controller/admission/lookup_test.go", `counted`, "a client that counts its reads, not a text"},
	{"test/whole/docs/", `.*`, "these lists"},
	{"test/whole/upgrade/testdata/", `.*`, "what an older version had stays as it was"},
}

// excused are the exceptions that were needed.
type excused map[int]bool

// allows reports whether there is an exception for a word of a file.
func (e excused) allows(path, word string) bool {
	for i, x := range exceptions {
		if strings.HasPrefix(path, x.path) && compiled(`^(?:`+x.words+`)$`).MatchString(word) {
			e[i] = true
			return true
		}
	}
	return false
}

// TestWordsOfCode: names, comments, texts and manifests use the words that pages use.
func TestWordsOfCode(t *testing.T) {
	t.Parallel()
	root, files, needed := filepath.Join("..", "..", ".."), 0, excused{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if relative = filepath.ToSlash(relative); entry.IsDir() {
			if relative == "bin" || strings.HasPrefix(entry.Name(), ".") && relative != "." {
				return fs.SkipDir
			}
			return nil
		}
		see := wordsOf(relative)
		if see == nil {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		found := func(line int, word, better string) {
			if !needed.allows(relative, word) {
				t.Errorf("%s:%d: %q; say %s", relative, line, word, better)
			}
		}
		search(strings.NewReplacer("/", " ", "_", " ", ".", " ").Replace(relative), instead, func(word, better string) { found(0, word, better) })
		return see(relative, text, found)
	})
	if err != nil || files < 800 {
		t.Errorf("%d files were read: %v", files, err)
	}
	for i, x := range exceptions {
		if !needed[i] {
			t.Errorf("no file of %s has %s any more: the exception can go", x.path, x.words)
		}
	}
}

// complain is told of a word that is not used.
type complain func(line int, word, better string)

// wordsOf is what finds the words of a file, nil for one that is not read.
func wordsOf(path string) func(path string, text []byte, complain complain) error {
	base := filepath.Base(path)
	switch {
	case strings.HasSuffix(base, ".pb.go"), strings.HasPrefix(base, "zz_generated"):
		return nil
	case filepath.Ext(base) == ".go":
		return wordsOfGo
	case slices.Contains([]string{".yaml", ".sh", ".tpl", ".golden", ".proto"}, filepath.Ext(base)), base == "Makefile", base == "Dockerfile",
		base == "NOTES.txt", base == "values.schema.json":
		return func(_ string, text []byte, complain complain) error {
			for i, line := range strings.Split(string(text), "\n") {
				search(line, withActors(), func(word, better string) { complain(i+1, word, better) })
			}
			return nil
		}
	}
	return nil
}

// search finds words of a list in a text.
func search(text string, words map[string]string, found func(word, better string)) {
	// Hardly any text has one of them.
	if !compiled(`(?i)\b(?:` + strings.Join(slices.Sorted(maps.Keys(words)), "|") + `)\b`).MatchString(text) {
		return
	}
	for _, words := range slices.Sorted(maps.Keys(words)) {
		for _, word := range compiled(`(?i)\b(?:`+words+`)\b`).FindAllString(text, -1) {
			found(word, withActors()[words])
		}
	}
}

// wordsOfGo looks at comments and texts, and at the names that are declared.
func wordsOfGo(path string, text []byte, complain complain) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, text, parser.ParseComments)
	if err != nil {
		return err
	}
	at := func(pos token.Pos) int { return files.Position(pos).Line }
	for _, group := range file.Comments {
		for _, comment := range group.List {
			search(comment.Text, instead, func(word, better string) { complain(at(comment.Pos()), word, better) })
		}
	}
	name := func(ident *ast.Ident, names map[string]string) {
		for pattern, better := range names {
			if compiled(`^(?:` + pattern + `)$`).MatchString(ident.Name) {
				complain(at(ident.Pos()), ident.Name, better)
			}
		}
	}
	words := instead
	if !strings.HasSuffix(path, "_test.go") {
		words = withActors()
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.BasicLit:
			if node.Kind == token.STRING {
				value, err := strconv.Unquote(node.Value)
				if err != nil {
					value = node.Value
				}
				search(value, words, func(word, better string) { complain(at(node.Pos()), word, better) })
			}
		case *ast.FuncDecl:
			name(node.Name, functionNames)
		}
		return true
	})
	for _, declaration := range file.Decls {
		group, is := declaration.(*ast.GenDecl)
		if !is {
			continue
		}
		for _, spec := range group.Specs {
			if value, is := spec.(*ast.ValueSpec); is {
				for _, ident := range value.Names {
					name(ident, constantNames)
				}
			}
		}
	}
	return nil
}

// expressions are those that were compiled, by what they are made of.
var expressions sync.Map

func compiled(pattern string) *regexp.Regexp {
	if known, is := expressions.Load(pattern); is {
		if expression, is := known.(*regexp.Regexp); is {
			return expression
		}
	}
	expression := regexp.MustCompile(pattern)
	expressions.Store(pattern, expression)
	return expression
}

// TestWordsAreFound: what is not to be there would be found.
func TestWordsAreFound(t *testing.T) {
	t.Parallel()
	var got []string
	note := func(line int, word, _ string) { got = append(got, fmt.Sprintf("%d %s", line, word)) }
	source := "package p\n\n// one wish\nconst mostPods = 1\n\nfunc told() string { return \"whoever asks\" }\n\nfunc startGang() {}\n"
	if err := wordsOfGo("p.go", []byte(source), note); err != nil {
		t.Fatal(err)
	}
	if err := wordsOf("p.yaml")("p.yaml", []byte("a: 1\n# a secret of yours\n"), note); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{"2 of yours", "3 wish", "4 mostPods", "6 told", "6 whoever", "8 startGang"}
	if !slices.Equal(got, want) {
		t.Errorf("found are %q, not %q", got, want)
	}
}

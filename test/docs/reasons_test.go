package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const page = "../../docs/when-it-does-not-run.md"

// TestReasonsAreExplained: the page for the user whose pods do not run has a row for each condition and reason of an EnsembleMember,
// and none for a reason that there is not.
func TestReasonsAreExplained(t *testing.T) {
	t.Parallel()
	known := constants(t, "Condition types of an EnsembleMember", "Reasons of conditions and events of an EnsembleMember")
	if len(known) < 40 {
		t.Fatalf("conditions.go has %d conditions and reasons", len(known))
	}
	explained := map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| (`[A-Z][A-Za-z]+`(?:, `[A-Z][A-Za-z]+`)*) \\|")
	for _, match := range row.FindAllStringSubmatch(prose(t, page), -1) {
		for name := range strings.SplitSeq(match[1], ", ") {
			explained[strings.Trim(name, "`")] = true
		}
	}
	for name := range known {
		if !explained[name] {
			t.Errorf("%s has no row for %s", page, name)
		}
	}
	// Of the reasons of a NodePool one comes to members too, as an event.
	for name := range explained {
		if !known[name] && name != "MachineLeaves" {
			t.Errorf("%s has a row for %s, which is no condition or reason of an EnsembleMember", page, name)
		}
	}
}

// constants returns the values of the constants of api/v1alpha1/conditions.go in the groups whose comments begin so.
func constants(t *testing.T, comments ...string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "api", "v1alpha1", "conditions.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, declaration := range file.Decls {
		group, is := declaration.(*ast.GenDecl)
		if !is || group.Tok != token.CONST {
			continue
		}
		wanted := false
		for _, comment := range comments {
			wanted = wanted || strings.HasPrefix(group.Doc.Text(), comment)
		}
		if !wanted {
			continue
		}
		ast.Inspect(group, func(node ast.Node) bool {
			literal, is := node.(*ast.BasicLit)
			if !is {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			out[text] = true
			return true
		})
	}
	return out
}

package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const page = "docs/troubleshooting.md"

// subject is what the page has conditions and reasons of.
type subject struct {
	// Sections are the headings below which the rows stand.
	Sections []string
	// File has the constants, in the groups whose comments begin with these words.
	File   string
	Groups []string
	// Others are reasons of another subject that come to this one too.
	Others []string
	// Least is how many there are at least: a test that finds none shows nothing.
	Least int
}

var subjects = []subject{
	{
		Sections: []string{"Conditions", "Reasons"}, File: "v1alpha1/conditions.go",
		Groups: []string{"Condition types of an EnsembleMember", "Reasons of conditions and events of an EnsembleMember"},
		Others: []string{"MachineLeaves"}, Least: 40,
	},
	{
		Sections: []string{"Pools"}, File: "v1alpha1/conditions.go",
		Groups: []string{"Condition types of a NodePool", "Reasons of conditions and events of a NodePool"}, Least: 20,
	},
	{
		Sections: []string{"Machines"}, File: "v1alpha1/conditions.go",
		Groups: []string{"Condition types of a PoolMachine", "Reasons of the conditions of a PoolMachine"}, Least: 9,
	},
	{
		Sections: []string{"Ensembles"}, File: "ensemble/v1alpha1/ensemble_types.go",
		Groups: []string{"Condition types of an Ensemble", "Reasons of conditions and events of an Ensemble"}, Least: 12,
	},
}

// TestReasonsAreExplained: the page for the user whose pods do not run has a row for each condition and reason, and none for one that
// there is not.
func TestReasonsAreExplained(t *testing.T) {
	t.Parallel()
	sections := sectionsOf(prose(t, filepath.Join("..", "..", "..", filepath.FromSlash(page))))
	row := regexp.MustCompile("(?m)^\\| (`[A-Z][A-Za-z]+`(?:, `[A-Z][A-Za-z]+`)*) \\|")
	for _, s := range subjects {
		known := constants(t, s.File, s.Groups...)
		if len(known) < s.Least {
			t.Errorf("%s has %d conditions and reasons for %q", s.File, len(known), s.Sections)
		}
		explained := map[string]bool{}
		for _, section := range s.Sections {
			for _, match := range row.FindAllStringSubmatch(sections[section], -1) {
				for name := range strings.SplitSeq(match[1], ", ") {
					explained[strings.Trim(name, "`")] = true
				}
			}
		}
		for name := range known {
			if !explained[name] {
				t.Errorf("%s has no row for %s below %q", page, name, s.Sections)
			}
		}
		for name := range explained {
			if !known[name] && !slices.Contains(s.Others, name) {
				t.Errorf("%s has a row for %s below %q, which %s does not have there", page, name, s.Sections, s.File)
			}
		}
	}
}

// TestEveryReasonHasASubject: each reason and condition that the API declares is in a group that the page has a section for, so that a new
// one cannot be left out by being declared elsewhere.
func TestEveryReasonHasASubject(t *testing.T) {
	t.Parallel()
	covered := map[string]map[string]bool{}
	for _, s := range subjects {
		directory := filepath.Dir(filepath.FromSlash(s.File))
		if covered[directory] == nil {
			covered[directory] = map[string]bool{"Ready": true}
		}
		maps.Copy(covered[directory], constants(t, s.File, s.Groups...))
	}
	for directory, has := range covered {
		paths, err := filepath.Glob(filepath.Join("..", "..", "..", "api", directory, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, path := range paths {
			for name, value := range named(t, path, "Reason", "Condition") {
				found++
				if !has[value] {
					t.Errorf("%s: %s is in no group that %s is compared with", path, name, page)
				}
			}
		}
		if found < len(has) {
			t.Errorf("api/%s: %d constants are found, and their groups have %d values", directory, found, len(has))
		}
	}
}

// sectionsOf are the parts of a page below its headings of the second level, by the headings.
func sectionsOf(text string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq("\n"+text, "\n## ") {
		title, rest, _ := strings.Cut(part, "\n")
		out[title] = rest
	}
	return out
}

// constants returns the values of the constants of a file of api in the groups whose comments begin so.
func constants(t *testing.T, path string, comments ...string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, declaration := range parsed(t, filepath.Join("..", "..", "..", "api", filepath.FromSlash(path))).Decls {
		group, is := declaration.(*ast.GenDecl)
		if !is || group.Tok != token.CONST {
			continue
		}
		if !slices.ContainsFunc(comments, func(comment string) bool { return strings.HasPrefix(group.Doc.Text(), comment) }) {
			continue
		}
		for _, value := range valuesOf(t, group) {
			out[value] = true
		}
	}
	return out
}

// named returns the constants of a file whose names have one of the prefixes and a word after it, with their values.
func named(t *testing.T, path string, prefixes ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, declaration := range parsed(t, path).Decls {
		group, is := declaration.(*ast.GenDecl)
		if !is || group.Tok != token.CONST {
			continue
		}
		for name, value := range valuesOf(t, group) {
			if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) && name != prefix }) {
				out[name] = value
			}
		}
	}
	return out
}

// valuesOf are the constants of a group that are texts, by their names.
func valuesOf(t *testing.T, group *ast.GenDecl) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, spec := range group.Specs {
		constant, is := spec.(*ast.ValueSpec)
		if !is || len(constant.Values) != 1 {
			continue
		}
		literal, is := constant.Values[0].(*ast.BasicLit)
		if !is || literal.Kind != token.STRING {
			continue
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		out[constant.Names[0].Name] = text
	}
	return out
}

func parsed(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
)

// TestLinks: each link of a page leads to a file that is there, and to a heading that it has.
func TestLinks(t *testing.T) {
	t.Parallel()
	all, links := pages(t), 0
	for _, page := range all {
		for _, target := range linksOf(t, page) {
			links++
			path, anchor, _ := strings.Cut(target, "#")
			if path = filepath.Join(filepath.Dir(page), filepath.FromSlash(path)); strings.HasPrefix(target, "#") {
				path = page
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %s is not there", page, target)
				continue
			}
			if anchor != "" && !anchors(t, path)[anchor] {
				t.Errorf("%s: %s has no heading #%s", page, path, anchor)
			}
		}
	}
	if links < 200 {
		t.Errorf("%d pages have %d links", len(all), links)
	}
}

// TestWhere: each row of where.md names files, not directories to look through.
func TestWhere(t *testing.T) {
	t.Parallel()
	page := filepath.Join("..", "..", "..", "docs", "where.md")
	targets := linksOf(t, page)
	for _, target := range targets {
		if file, err := os.Stat(filepath.Join(filepath.Dir(page), filepath.FromSlash(target))); err != nil || file.IsDir() {
			t.Errorf("%s leads to %s, which is no file (%v)", page, target, err)
		}
	}
	if len(targets) < 25 {
		t.Errorf("%s has %d links", page, len(targets))
	}
}

// TestNoPageIsLost: docs/README.md leads to each page of docs, the decisions apart, whose own index leads to them.
func TestNoPageIsLost(t *testing.T) {
	t.Parallel()
	index := filepath.Join("..", "..", "..", "docs", "README.md")
	linked := map[string]bool{index: true}
	for _, target := range linksOf(t, index) {
		path, _, _ := strings.Cut(target, "#")
		linked[filepath.Join(filepath.Dir(index), filepath.FromSlash(path))] = true
	}
	for _, page := range pages(t) {
		inDocs := strings.HasPrefix(page, filepath.Dir(index)+string(filepath.Separator))
		if inDocs && filepath.Base(filepath.Dir(page)) != "decisions" && !linked[page] {
			t.Errorf("docs/README.md does not lead to %s", page)
		}
	}
}

// TestLengthOfReadme: the README is read in a few minutes. What is more than that is a page of docs.
func TestLengthOfReadme(t *testing.T) {
	t.Parallel()
	const most = 900
	if words := len(strings.Fields(string(read(t, "README.md")))); words > most || words < most/3 {
		t.Errorf("the README has %d words, and may have %d", words, most)
	}
}

// pages are the paths of everything in Markdown that is written here.
func pages(t *testing.T) []string {
	t.Helper()
	root := filepath.Join("..", "..", "..")
	out := []string{filepath.Join(root, "README.md")}
	for _, directory := range []string{"docs", "examples", "test"} {
		err := filepath.WalkDir(filepath.Join(root, directory), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && filepath.Ext(path) == ".md" {
				out = append(out, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// linksOf are the links of a page that lead to something here.
func linksOf(t *testing.T, page string) []string {
	t.Helper()
	var out []string
	for _, match := range link.FindAllStringSubmatch(prose(t, page), -1) {
		if !strings.Contains(match[1], "://") {
			out = append(out, match[1])
		}
	}
	return out
}

// prose is a page without its blocks of code.
func prose(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fence.ReplaceAllString(string(content), "")
}

// anchors are those of the headings of a page, as GitHub makes them.
func anchors(t *testing.T, path string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(prose(t, path), -1) {
		kept := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
				return r
			}
			return -1
		}, strings.ToLower(match[1]))
		out[kept] = true
	}
	return out
}

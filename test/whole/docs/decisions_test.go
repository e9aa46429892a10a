package docs

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDecisionsAreIndexed: the index of the decisions has one row for each, under its title, with its date and those of its edits that it
// names itself.
func TestDecisionsAreIndexed(t *testing.T) {
	t.Parallel()
	const directory = "docs/decisions"
	paths, err := filepath.Glob(filepath.Join("..", "..", "..", filepath.FromSlash(directory), "[0-9]*.md"))
	if err != nil || len(paths) < 43 {
		t.Fatalf("%d decisions are found (%v)", len(paths), err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(read(t, directory+"/README.md"))) {
		if match := regexp.MustCompile(`^\| \d+ \| \[.*\]\((\d{4}-[^)]*\.md)\)`).FindStringSubmatch(line); match != nil {
			rows[match[1]] = append(rows[match[1]], line)
		}
	}
	title := regexp.MustCompile(`^# (\d+)\. (.+)\n\n(\d{4}-\d\d-\d\d)`)
	for _, path := range paths {
		name := filepath.Base(path)
		text := string(read(t, directory+"/"+name))
		about := title.FindStringSubmatch(text)
		if about == nil {
			t.Errorf("%s does not begin with a number, a title and a date", name)
			continue
		}
		if len(rows[name]) != 1 {
			t.Errorf("the index has %d rows for %s", len(rows[name]), name)
			continue
		}
		row := rows[name][0]
		if begin := "| " + about[1] + " | [" + about[2] + "]("; !strings.HasPrefix(row, begin) {
			t.Errorf("the row of %s does not begin with %q", name, begin)
		}
		if !strings.Contains(row, "| "+about[3]+" |") {
			t.Errorf("the row of %s does not say that it is of %s", name, about[3])
		}
		for _, date := range regexp.MustCompile(`\d{4}-\d\d-\d\d`).FindAllString(text, -1) {
			if !strings.Contains(row, date) {
				t.Errorf("the row of %s does not have %s", name, date)
			}
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("the index has a row for %s, which is not there", name)
	}
}

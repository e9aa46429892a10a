package install

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestPage: the values that docs/install.md names are there, those whose default it tells have that, and each overlay is in its table.
func TestPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	named := 0
	row := regexp.MustCompile("(?m)^\\| `[^|]*\\|[^|]*\\|.*$")
	for _, line := range row.FindAllString(string(page), -1) {
		cells := strings.Split(line, "|")
		for _, name := range regexp.MustCompile("`([a-zA-Z.]+)`").FindAllStringSubmatch(cells[1], -1) {
			path := strings.Split(name[1], ".")
			if values[path[0]] == nil {
				continue // another table
			}
			named++
			value := values
			for i, part := range path {
				inner, has := value[part]
				if !has {
					t.Errorf("there is no value %s", name[1])
				}
				if i == len(path)-1 {
					if is, said := inner.(bool); said && strings.Contains(cells[2], "`") && !strings.Contains(cells[2], "`"+map[bool]string{true: "true", false: "false"}[is]+"`") {
						t.Errorf("%s is %t, and the page says %s", name[1], is, cells[2])
					}
					break
				}
				value, _ = inner.(map[string]any)
			}
		}
	}
	if named < 20 {
		t.Errorf("the page names %d values", named)
	}
	for _, in := range []string{"overlays", "components"} {
		for _, directory := range directories(t, in) {
			// What is there by default is in no row.
			if base := filepath.Base(directory); base != "kwok" && !strings.Contains(string(page), "]("+directory[len("../"):]+"/values.yaml)") {
				t.Errorf("the page does not tell of %s", directory)
			}
		}
	}
}

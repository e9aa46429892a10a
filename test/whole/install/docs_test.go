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
	page, err := os.ReadFile("../../../docs/install.md")
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
					if is, said := inner.(bool); said && strings.Contains(cells[2], "`") && !strings.Contains(
						cells[2], "`"+map[bool]string{true: "true", false: "false"}[is]+"`",
					) {
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
			if base := filepath.Base(directory); base != "kwok" && !strings.Contains(string(page), "]("+directory[len("../../"):]+"/values.yaml)") {
				t.Errorf("the page does not tell of %s", directory)
			}
		}
	}
}

// TestImagesOfAutoscaler: the kustomization of the page names the registry of each image of the example.
func TestImagesOfAutoscaler(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/how-to/cluster-autoscaler.md")
	if err != nil {
		t.Fatal(err)
	}
	const example = "../examples/cluster-autoscaler"
	_, rest, _ := strings.Cut(string(page), "## Its images\n")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	if !strings.Contains(text, "- "+example+"\n") {
		t.Fatalf("the page has no kustomization of %s: %q", example, text)
	}
	directory := t.TempDir()
	text = strings.Replace(text, example, relativeTo(t, directory, "../../"+example), 1)
	if err := os.WriteFile(filepath.Join(directory, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	deployment := kustomize(t, directory)["Deployment "+namespace+"/cluster-autoscaler"]
	if deployment == nil {
		t.Fatal("there is no Deployment")
	}
	rendered, err := yaml.Marshal(deployment.Object)
	if err != nil {
		t.Fatal(err)
	}
	images := regexp.MustCompile(`(?m)^\s*(?:- )?image: (.*)$`).FindAllStringSubmatch(string(rendered), -1)
	for _, image := range images {
		if !strings.HasPrefix(image[1], "REGISTRY/") {
			t.Errorf("image %s has no registry", image[1])
		}
	}
	if len(images) < 2 {
		t.Errorf("%d images are found, want that of the provider and that of Cluster Autoscaler", len(images))
	}
}

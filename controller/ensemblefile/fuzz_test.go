package ensemblefile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// FuzzParse never sees Parse panic, return both a file and faults, or neither, or accept a file that is another
// one, or none, once it is written and read again.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"submit.yaml", "grow.yaml", "everything.yaml"} {
		f.Add(read(f, name))
	}
	for _, row := range faultyTexts() {
		if len(row.text) < 1000 {
			f.Add(row.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, faults := ensemblefile.Parse(text, base)
		if (file == nil) == (len(faults) == 0) {
			t.Fatalf("the file is %v, and the faults are %v", file, faults)
		}
		for _, fault := range faults {
			if fault.Error() == "" || fault.Field == "" {
				t.Errorf("the fault %#v says nothing", fault)
			}
		}
		if file == nil {
			return
		}
		written := write(t, file)
		again, faults := ensemblefile.Parse(written, base)
		if len(faults) > 0 {
			t.Fatalf("read again, the file has faults: %v\n%s", faults, written)
		}
		if diff := cmp.Diff(file, again); diff != "" {
			t.Errorf("read again, the file is another (-first +again):\n%s", diff)
		}
	})
}

// write encodes a file with its strings in quotes: the YAML library and PyYAML do not agree on which need them.
func write(t *testing.T, file *ensemblefile.File) string {
	t.Helper()
	var root yaml.Node
	if err := root.Encode(file); err != nil {
		t.Fatal(err)
	}
	var quote func(node *yaml.Node)
	quote = func(node *yaml.Node) {
		if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str" {
			node.Style = yaml.DoubleQuotedStyle
		}
		for _, child := range node.Content {
			quote(child)
		}
	}
	quote(&root)
	text, err := yaml.Marshal(&root)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package simulation

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of the stories")

// TestStories tells the main cases, each of which a golden file has as a story that a person can read.
func TestStories(t *testing.T) {
	t.Parallel()
	for i := range tales {
		told := &tales[i]
		t.Run(told.name, func(t *testing.T) {
			t.Parallel()
			w := told.tell()
			if len(w.broken) > 0 {
				t.Errorf("broken promises:\n%s", strings.Join(w.broken, "\n"))
			}
			story := told.about + "\n\nTimes are minutes and seconds since the beginning.\n\n" + strings.Join(w.story, "\n") + "\n\n" + w.state()
			path := filepath.Join("testdata", told.name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(story), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(story, "\n")); diff != "" {
				t.Errorf("the story differs (-want +got); if it should, run this test with -update:\n%s", diff)
			}
		})
	}
}

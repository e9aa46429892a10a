// Package flaggrouptest is what the help of every program has to be.
package flaggrouptest

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var (
	heading = regexp.MustCompile(`^(.+) flags:$`)
	flag    = regexp.MustCompile(`^ +(?:-\w, )?--([a-z0-9-]+)`)
)

// Help checks that the help of a command shows these groups in this order, each flag in one of them, in at most a hundred columns.
func Help(t *testing.T, cmd *cobra.Command, groups ...string) {
	t.Helper()
	var help bytes.Buffer
	cmd.SetOut(&help)
	cmd.SetErr(&help)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var shown []string
	times := map[string]int{}
	for line := range bytes.Lines(help.Bytes()) {
		line = bytes.TrimRight(line, "\n")
		if columns := utf8.RuneCount(line); columns > 100 {
			t.Errorf("a line has %d columns: %s", columns, line)
		}
		if found := heading.FindSubmatch(line); found != nil {
			shown = append(shown, string(found[1]))
		}
		if found := flag.FindSubmatch(line); found != nil && len(shown) > 0 {
			times[string(found[1])]++
		}
	}
	if !slices.Equal(shown, groups) {
		t.Errorf("the groups are %q, want %q, in\n%s", shown, groups, help.String())
	}
	limits, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	flags := 0
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags++
		if times[f.Name] != 1 {
			t.Errorf("--%s is shown %d times in a group", f.Name, times[f.Name])
		}
		bounds := strings.HasPrefix(f.Name, "max-") || strings.HasSuffix(f.Name, "-per-second")
		if bounds && !bytes.Contains(limits, []byte("`--"+f.Name+"`")) {
			t.Errorf("docs/limits.md does not tell of --%s", f.Name)
		}
	})
	if flags < len(groups) {
		t.Errorf("the command has %d flags", flags)
	}
}

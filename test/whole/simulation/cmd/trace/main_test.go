package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunPrintsTheThreeStrategies(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run([]string{"-csv", "../../testdata/trace.csv"}, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if len(lines) != 4 || !strings.Contains(lines[1], "nodes first") || !strings.Contains(lines[2], "patch first") ||
		!strings.Contains(lines[3], "always on") {
		t.Errorf("got\n%s\nwant a header and a line for each strategy", out.String())
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad.csv")
	if err := os.WriteFile(bad, []byte("time,member,action,amount\n0,a,grow,none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		arguments []string
		want      string
	}{
		"a bad line":    {[]string{"-csv", bad}, `bad.csv: line 2: amount is "none"; it must be a whole number of pods, at least 1`},
		"no file":       {[]string{"-csv", "missing.csv"}, "open the trace"},
		"too few nodes": {[]string{"-nodes", "0"}, "-nodes is 0; it must be from 1 to 10000"},
		"a long boot":   {[]string{"-boot", "1h"}, "-boot is 1h0m0s and -jitter 30s"},
		"a growth above": {
			[]string{"-csv", "../../testdata/trace.csv", "-nodes", "8"},
			"line 6: amount is 10; lammps has size 1 then and there are 8 nodes, so it must be at most 7",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(c.arguments, &bytes.Buffer{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %s", err, c.want)
			}
		})
	}
}

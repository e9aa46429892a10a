package main

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestJobs(t *testing.T) {
	t.Parallel()
	want := []job{
		{size{Groups: 1000, Nodes: 10000}, []string{tableCalls, tableExpander, tableSizes}},
		{size{Groups: 10, Nodes: 1000}, []string{tableLoop}},
		{size{Groups: 10, Nodes: 10000}, []string{tableSizes}},
		{size{Groups: 100, Nodes: 10000}, []string{tableSizes}},
		{size{Groups: 100, Nodes: 1000}, []string{tableSizes}},
	}
	if diff := cmp.Diff(
		want, jobs(size{Groups: 1000, Nodes: 10000}, allTables), cmp.AllowUnexported(job{}), cmpopts.EquateEmpty(),
	); diff != "" {
		t.Error(diff)
	}
	for _, full := range []size{{Groups: 1, Nodes: 1}, {Groups: 3, Nodes: 7}, {Groups: 20, Nodes: 200}, {Groups: 999, Nodes: 1001}} {
		for _, j := range jobs(full, allTables) {
			sum := 0
			for group := range j.Groups {
				count := j.MachinesIn(group)
				if count < 1 {
					t.Errorf("group %d of %s has no machine", group, j.size)
				}
				sum += count
			}
			if sum != j.Nodes {
				t.Errorf("%s have %d machines", j.size, sum)
			}
		}
	}
}

// TestLoop: at 1,000 nodes in 10 groups the replay makes as many calls as Cluster Autoscaler.
func TestLoop(t *testing.T) {
	t.Parallel()
	sum := 0
	for _, s := range (&calls{}).loop(size{Groups: 10, Nodes: 1000}) {
		sum += s.times
	}
	if want := 1 + 1 + 10 + 30 + 10 + 1800 + 1860; sum != want {
		t.Errorf("%d calls, want %d", sum, want)
	}
}

func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for argument, want := range map[string]string{
		"--only=rpcs":           `--only has no table "rpcs"; there are calls, expander, loop, sizes`,
		"--groups=0":            "--groups is 0",
		"--nodes=999":           "--groups is 1000 and --nodes 999",
		"all":                   `unknown argument "all"`,
		"--quick=true --nodes=": "invalid value",
	} {
		if _, err := parse(strings.Fields(argument), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", argument, err, want)
		}
	}
	o, err := parse([]string{"--quick", "--groups=30"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if want := (size{Groups: 30, Nodes: 1000}); o.full != want {
		t.Errorf("got %v, want %v", o.full, want)
	}
}

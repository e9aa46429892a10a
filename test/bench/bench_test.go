package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestJobs(t *testing.T) {
	t.Parallel()
	want := []job{
		{size{1000, 10000}, []string{tableCalls, tableExpander, tableSizes}},
		{size{10, 1000}, []string{tableLoop}},
		{size{10, 10000}, []string{tableSizes}},
		{size{100, 10000}, []string{tableSizes}},
		{size{100, 1000}, []string{tableSizes}},
	}
	if diff := cmp.Diff(want, jobs(size{1000, 10000}, allTables), cmp.AllowUnexported(job{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	for _, full := range []size{{1, 1}, {3, 7}, {20, 200}, {999, 1001}} {
		for _, j := range jobs(full, allTables) {
			sum := 0
			for group := range j.Groups {
				count := j.machinesIn(group)
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
	for _, s := range (&calls{}).loop(size{10, 1000}) {
		sum += s.times
	}
	if want := 1 + 1 + 10 + 30 + 10 + 1800 + 1860; sum != want {
		t.Errorf("%d calls, want %d", sum, want)
	}
}

func TestProcessFiles(t *testing.T) {
	t.Parallel()
	status := "Name:\tprovider\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t9\n"
	if got, want := parseMemory(status), (memory{Resident: 1 << 20, Peak: 2 << 20}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	stat := "42 (a (strange) name) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1"
	if got := processorTime(stat); got != 3*time.Second {
		t.Errorf("got %s, want 3s", got)
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
	if want := (size{30, 1000}); o.full != want {
		t.Errorf("got %v, want %v", o.full, want)
	}
}

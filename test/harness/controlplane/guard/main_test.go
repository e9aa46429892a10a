package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestHoldFollowsTheLines(t *testing.T) {
	for _, test := range []struct {
		name, lines string
		want        []int
		wantErr     bool
	}{
		{"nothing was said", "", nil, false},
		{"two groups, one of which has ended", "+4711\n+4712\n-4711\n", []int{4712}, false},
		{"an end of a group that was never named", "-4711\n", nil, false},
		{"the last line was cut off by the death of the parent", "+4711\n+", []int{4711}, true},
		{"everybody", "+4711\n+1\n", []int{4711}, true},
		{"one's own group", "0\n", nil, true},
		{"no number", "hello\n", nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			groups, err := hold(strings.NewReader(test.lines))
			if got := slices.Sorted(maps.Keys(groups)); !slices.Equal(got, test.want) {
				t.Errorf("held groups %v, want %v", got, test.want)
			}
			if (err != nil) != test.wantErr {
				t.Errorf("error: %v, want one: %t", err, test.wantErr)
			}
		})
	}
}

func TestRunKillsAndRemoves(t *testing.T) {
	command := exec.Command("sleep", "1000")
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(directory, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}

	lines := strings.NewReader("+" + strconv.Itoa(command.Process.Pid) + "\n")
	if err := run(lines, []string{directory}); err != nil {
		t.Errorf("run: %v", err)
	}
	if err := command.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process under guard: %v, want that it was killed", err)
	}
	if _, err := os.Stat(directory); !os.IsNotExist(err) {
		t.Errorf("the directory is still there (%v)", err)
	}
}

package harness

import (
	"testing"
	"time"
)

func TestProcessFiles(t *testing.T) {
	t.Parallel()
	status := "Name:\tprovider\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t9\n"
	if got, want := parseMemory(status), (Memory{Resident: 1 << 20, Peak: 2 << 20}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	stat := "42 (a (strange) name) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1"
	if got := parseTime(stat); got != 3*time.Second {
		t.Errorf("got %s, want 3s", got)
	}
}

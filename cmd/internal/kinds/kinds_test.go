package kinds_test

import (
	"strings"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
)

// TestMember: a member may be named by the kind and the name of its workload.
func TestMember(t *testing.T) {
	t.Parallel()
	for argument, want := range map[string]string{
		"demo": "demo", "job.sweep": "job.sweep", "job/sweep": "job.sweep", "Jobs/sweep": "job.sweep", "minicluster/demo": "demo",
		"jobset/train": "jobset.train",
		"pod/x":        "pod/x",
	} {
		if got := kinds.Member(argument); got != want {
			t.Errorf("%s is %s, not %s", argument, got, want)
		}
	}
}

// TestOf: kinds are known by their names, in the order of all, and what is none of them is refused by its name.
func TestOf(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ names, want string }{
		{"MiniCluster", "MiniCluster"},
		{"Job,MiniCluster", "MiniCluster,Job"},
		{"MiniCluster,Job,Job", "MiniCluster,Job"},
		{"MiniCluster,JobSet,MiniCluster,Job", "MiniCluster,Job,JobSet"},
		{"Job", "MiniCluster is missing; it is always managed"},
		{"", `"" is no kind of workload; there are MiniCluster, Job, JobSet`},
		{"MiniCluster,job", `"job" is no kind of workload; there are MiniCluster, Job, JobSet`},
	} {
		of, err := kinds.Of(strings.Split(row.names, ","))
		var got string
		if err != nil {
			got = err.Error()
		} else {
			words := make([]string, len(of))
			for i := range of {
				words[i] = of[i].Words().Kind
			}
			got = strings.Join(words, ",")
		}
		if got != row.want {
			t.Errorf("%q: %s, want %s", row.names, got, row.want)
		}
	}
	if of, err := kinds.Of(kinds.Default()); err != nil || len(of) != 1 {
		t.Errorf("by default there are %v: %v", of, err)
	}
}

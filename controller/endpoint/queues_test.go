package endpoint

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestDue: what a size could be decided by is written at once, other counts every ten seconds, and what has not changed every five minutes.
func TestDue(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	before := v1alpha1.Queue{
		At: metav1.NewMicroTime(start), By: "pod ns/m-0", Jobs: v1alpha1.QueueJobs{Sched: 2, Run: 1},
		Waiting: map[string]int64{"4": 2}, Counts: map[string]int64{"train": 1},
	}
	const never = time.Hour
	for name, row := range map[string]struct {
		change func(*v1alpha1.Queue)
		after  time.Duration
	}{
		"more wait":                {func(q *v1alpha1.Queue) { q.Jobs.Sched = 3 }, 0},
		"more are new":             {func(q *v1alpha1.Queue) { q.Jobs.New = 1 }, 0},
		"one goes on to wait":      {func(q *v1alpha1.Queue) { q.Jobs.Sched, q.Jobs.Priority = 1, 1 }, 10 * time.Second},
		"they need more nodes":     {func(q *v1alpha1.Queue) { q.Waiting = map[string]int64{"8": 2} }, 0},
		"nothing runs":             {func(q *v1alpha1.Queue) { q.Jobs.Run = 0 }, 0},
		"more run":                 {func(q *v1alpha1.Queue) { q.Jobs.Run = 2 }, 10 * time.Second},
		"one has ended":            {func(q *v1alpha1.Queue) { q.Jobs.Inactive = 1 }, 10 * time.Second},
		"a count of the member's":  {func(q *v1alpha1.Queue) { q.Counts = map[string]int64{"train": 2} }, 10 * time.Second},
		"nothing, by another pod":  {func(q *v1alpha1.Queue) { q.By = "pod ns/m-1" }, 5 * time.Minute},
		"nothing, an empty object": {func(q *v1alpha1.Queue) {}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue := before.DeepCopy()
			row.change(queue)
			first := never
			for after := time.Duration(0); after < never; after += time.Second {
				if due(&before, queue, start.Add(after)) {
					first = after
					break
				}
			}
			if first != row.after {
				t.Errorf("it is due after %s, want %s", first, row.after)
			}
		})
	}
	if !due(nil, &before, start) {
		t.Error("the first is not due")
	}
}

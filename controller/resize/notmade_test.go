package resize

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// says lets the Job say in an event why it makes no pods.
func (s *scene) says(name, message string, at time.Time) {
	s.Helper()
	s.create(
		&corev1.Event{
			ObjectMeta: metaIn(name), InvolvedObject: corev1.ObjectReference{UID: "*v1.Job/m"}, Reason: failedCreate, Message: message,
			LastTimestamp: metav1.NewTime(at),
		},
	)
}

// TestNotMade: why a Job makes no pods is read from its events, when some have been lacking for a while, and again now and then; in
// words that do not change with the names of pods.
func TestNotMade(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	reads := 0
	s.Live = interceptor.NewClient(s.world, interceptor.Funcs{List: func(
		ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption,
	) error {
		reads++
		return c.List(ctx, list, opts...)
	}})
	s.begin()
	s.says("before", `Error creating: pods "m-0-aaaaa" is forbidden: violates PodSecurity "restricted:latest"`, noon.Add(-time.Minute))
	s.says("last", `Error creating: pods "m-1-bbbbb" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`, noon)
	s.create(
		&corev1.Event{
			ObjectMeta: metaIn("other"), InvolvedObject: corev1.ObjectReference{UID: "*v1.Job/m"}, Reason: "SuccessfulCreate",
			LastTimestamp: metav1.NewTime(noon.Add(time.Hour)),
		},
	)
	s.create(
		&corev1.Event{
			ObjectMeta: metaIn("of-another"), InvolvedObject: corev1.ObjectReference{UID: "x"}, Reason: failedCreate, Message: "no",
			LastTimestamp: metav1.NewTime(noon.Add(time.Hour)),
		},
	)
	s.settle()
	if reads > 0 || s.due.IsZero() || s.due.After(noon.Add(lackingFor)) {
		t.Fatalf("%d reads before pods have been lacking for a while; the next pass is due at %s", reads, s.due)
	}
	s.after(lackingFor)
	const quota = "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
	if m := s.sees(); reads != 1 || m.NotMade != quota {
		t.Errorf("after %d reads pods are not made because of %q", reads, m.NotMade)
	}
	s.says("again", `Error creating: pods "m-0-ccccc" is forbidden: no more`, noon.Add(time.Minute))
	s.clock.SetTime(s.clock.Now().Add(askAgain - time.Second))
	if m := s.sees(); reads != 1 || m.NotMade != quota {
		t.Errorf("%d reads within the time that an answer is good for: %q", reads, m.NotMade)
	}
	s.clock.SetTime(s.clock.Now().Add(time.Second))
	if m := s.sees(); reads != 2 || m.NotMade != "no more" {
		t.Errorf("after %d reads pods are not made because of %q", reads, m.NotMade)
	}
	s.pods(0, 2)
	s.clock.SetTime(s.clock.Now().Add(time.Hour))
	if m := s.sees(); reads != 2 || m.NotMade != "" {
		t.Errorf("%d reads though all pods are there: %q", reads, m.NotMade)
	}
	if len(s.observer.notMade.jobs)+len(s.observer.notMade.budget.asked) > 0 {
		t.Error("a Job whose pods are there is remembered")
	}
}

// TestNotMadeBudget: of many Jobs some are asked for at a time, and what was put off is counted and made good.
func TestNotMadeBudget(t *testing.T) {
	t.Parallel()
	const jobs = 25
	reads := 0
	count := map[string]int{}
	s := newScene(t, 1)
	live := interceptor.NewClient(s.world, interceptor.Funcs{List: func(
		context.Context, client.WithWatch, client.ObjectList, ...client.ListOption,
	) error {
		return errors.New("no")
	}})
	n := newNotMade(live, func(outcome string) { count[outcome]++; reads++ })
	seen := &seen{entries: map[types.NamespacedName]*entry{}}
	for i := range jobs {
		key := types.NamespacedName{Namespace: fmt.Sprintf("ns-%d", i), Name: fmt.Sprint(i)}
		workload := &member.Workload{Groups: []member.Group{{Size: 1, MaxSize: 1}}}
		seen.entries[key] = &entry{key: key, member: &v1alpha1.EnsembleMember{}, workload: workload,
			groups: []group{{
				jobs: []*batchv1.Job{{ObjectMeta: metav1.ObjectMeta{UID: types.UID(key.Name)}}}, ranks: ranksOf(nil, 1, plan.Highest),
			}}}
	}
	now := noon
	n.read(t.Context(), seen, now)
	if reads > 0 {
		t.Fatal("a Job is asked about at once")
	}
	now = now.Add(lackingFor)
	n.read(t.Context(), seen, now)
	if count[readFailed] != readsAtOnce || count[readPutOff] != jobs-readsAtOnce {
		t.Errorf("at first: %v", count)
	}
	for range 3 {
		now = now.Add(time.Second)
		n.read(t.Context(), seen, now)
	}
	if count[readFailed] != jobs {
		t.Errorf("three seconds on %d of %d have been asked: %v", count[readFailed], jobs, count)
	}
}

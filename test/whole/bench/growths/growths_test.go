package main

import (
	"io"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/audit"
)

// TestRound: what happens to a MiniCluster comes to when each step was reached, and who has written in between.
func TestRound(t *testing.T) {
	t.Parallel()
	asked := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return asked.Add(time.Duration(seconds) * time.Second) }
	s := &scene{pool: "pool-1", size: 2, cluster: types.NamespacedName{Namespace: "default", Name: "growth-1"}}
	node := func(name string) *corev1.Node {
		n := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
		n.Name, n.Labels = name, map[string]string{v1alpha1.LabelNodePool: "pool-1"}
		return n
	}
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "growth-1-1", UID: "1",
			Labels: map[string]string{batchv1.JobNameLabel: "growth-1", "hpa-selector": "growth-1"},
		}}
		change(p)
		return p
	}
	record := func(second int, agent, verb, resource, name string, code int) audit.Record {
		r := audit.Record{
			Verb: verb, UserAgent: agent + "/v1", Received: metav1.NewMicroTime(at(second)),
			Answered: metav1.NewMicroTime(at(second).Add(10 * time.Millisecond)),
		}
		r.Object.Resource, r.Object.Name, r.Response.Code = resource, name, code
		return r
	}
	r := newRound(s, asked, []history.Event{
		{At: at(-5), Object: node("n-0")},
		{At: at(11), Object: node("n-1")},
		{At: at(13), Object: pod(func(p *corev1.Pod) {
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
		})},
		{At: at(14), Object: pod(func(*corev1.Pod) {})},
		{At: at(15), Object: pod(func(p *corev1.Pod) { p.Spec.NodeName = "n-1" })},
		{At: at(16), Object: pod(func(p *corev1.Pod) { p.Spec.NodeName, p.Status.Phase = "n-1", corev1.PodRunning })},
	}, []audit.Record{
		record(-1, "fluxoperator", "patch", "jobs", "growth-1", 200),
		record(12, "kube-controller-manager", "update", "jobs", "growth-1", 200),
		record(12, "fluxoperator", "patch", "jobs", "growth-1", 200),
		record(14, "ensemble-autoscaler-controller", "patch", "pods", "growth-1-1", 200),
		record(14, "ensemble-autoscaler-controller", "patch", "pods", "growth-1-1", 409),
		record(17, "ensemble-autoscaler-controller", "patch", "pods", "growth-1-1", 200),
	})
	for step, want := range map[string]time.Duration{
		stepLastNode: 11 * time.Second, stepJob: 12*time.Second + 10*time.Millisecond, stepFirstMade: 13 * time.Second,
		stepLastFree:  14 * time.Second,
		stepLastBound: 15 * time.Second, stepLastRunning: 16 * time.Second,
	} {
		if got := r.at[step]; got != want {
			t.Errorf("%s after %s, want %s", step, got, want)
		}
	}
	if r.whole() != 16*time.Second || r.tail() != 5*time.Second || r.pending != 0 {
		t.Errorf("%s in all, %s from the last node, %s Pending", r.whole(), r.tail(), r.pending)
	}
	w := r.writers[writer{"ensemble-autoscaler-controller", "patch", "pods"}]
	if w == nil || *w != (wrote{count: 2, refused: 1, took: 20 * time.Millisecond}) {
		t.Errorf("the controller has written %v", w)
	}
}

// TestMissed: targets are judged by size, and only where both sides were measured.
func TestMissed(t *testing.T) {
	t.Parallel()
	took := func(w way, size int, node, whole, pending time.Duration) *course {
		return &course{
			way: w, size: size,
			rounds: []*round{{size: size, pending: pending, at: map[string]time.Duration{stepLastNode: node, stepLastRunning: whole}}},
		}
	}
	s := time.Second
	for name, row := range map[string]struct {
		courses []*course
		want    []string
	}{
		"met":  {[]*course{took(grown, 50, 12*s, 13*s, 0), took(patched, 50, 14*s, 15*s, s), took(made, 50, 0, s, 0)}, nil},
		"slow": {[]*course{took(grown, 50, 12*s, 15*s, 0), took(patched, 50, 14*s, 15*s, s)}, []string{"grown 50: 1.00 of the time"}},
		"slow pods": {
			[]*course{took(grown, 50, 12*s, 14*s, 0), took(made, 50, 0, s, 0)}, []string{"grown 50: from the last node to the last pod 2.00"},
		},
		"Pending":    {[]*course{took(grown, 8, 12*s, 13*s, s)}, []string{"grown 8: pods were Pending"}},
		"one beside": {[]*course{took(grown, 200, 12*s, 14*s, 0), took(patched, 50, s, s, 0), took(made, 500, 0, s, 0)}, nil},
	} {
		got := missed(row.courses)
		if len(got) != len(row.want) {
			t.Errorf("%s: %q, want %q", name, got, row.want)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], row.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], row.want[i])
			}
		}
	}
}

func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for argument, want := range map[string]string{
		"-sizes=1":        `"1" is no number from 2 to 1000`,
		"-ways=bought":    `there is no way "bought"; there are grown, patched, made`,
		"-rounds=0":       "-rounds is 0; it must be from 1 to 100",
		"-boot-delay=-1s": "-boot-delay is -1s",
		"all":             `unknown argument "all"`,
	} {
		if _, err := parse([]string{argument}, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", argument, err, want)
		}
	}
	o, err := parse([]string{"-quick", "-rounds=9"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.sizes) != 1 || o.sizes[0] != 8 || o.rounds != 1 || o.bootDelay != time.Second {
		t.Errorf("quick is %+v", o)
	}
}

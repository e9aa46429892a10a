package gates_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/gates"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// cluster is the API server of all tests here, which nothing else speaks to. TestMain sets it once.
var cluster inprocess.Cluster

func TestMain(m *testing.M) { inprocess.Main(m, &cluster, 0) }

const (
	ours   = v1alpha1.SchedulingGate
	others = "example.com/quota"
)

var labelled = map[string]string{v1alpha1.LabelMember: "demo"}

// namespace makes one for the time of a test, with the ServiceAccount that admission asks for.
func namespace(t *testing.T) string {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "gates-"}}
	if err := cluster.Client.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.Name, Name: "default"}}
	if err := cluster.Client.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The context of the test has ended by now.
		if err := cluster.Client.DeleteAllOf(
			context.Background(), &corev1.Pod{}, client.InNamespace(n.Name), client.GracePeriodSeconds(0),
		); err != nil {
			t.Error(err)
		}
	})
	return n.Name
}

// gated creates a pod with gates.
func gated(t *testing.T, namespace, name string, labels map[string]string, names ...string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "flux", Image: "ubuntu:noble"}}},
	}
	for _, gate := range names {
		pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: gate})
	}
	if err := cluster.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// gatesOf are the gates that a pod has now.
func gatesOf(t *testing.T, pod *corev1.Pod) []string {
	t.Helper()
	var now corev1.Pod
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), &now); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, gate := range now.Spec.SchedulingGates {
		names = append(names, gate.Name)
	}
	return names
}

// sweep runs a Sweep with a client and returns what it says.
func sweep(ctx context.Context, c client.Client) (string, error) {
	var out bytes.Buffer
	s := gates.Sweep{Client: c, Clock: clock.RealClock{}, Out: &out}
	err := s.Run(ctx)
	return out.String(), err
}

// TestSweep: every pod loses our gate, labelled or not, in every namespace, and no other gate. Repeating it changes
// nothing.
func TestSweep(t *testing.T) {
	one, two := namespace(t), namespace(t)
	rows := []struct {
		pod  *corev1.Pod
		left []string
	}{
		{gated(t, one, "labelled", labelled, ours), nil},
		{gated(t, two, "labelled", labelled, ours), nil},
		{gated(t, one, "without-label", nil, ours), nil},
		{gated(t, one, "ours-first", labelled, ours, others, "example.com/more"), []string{others, "example.com/more"}},
		{gated(t, one, "ours-between", labelled, others, ours, "example.com/more"), []string{others, "example.com/more"}},
		{gated(t, one, "ours-last", nil, others, ours), []string{others}},
		{gated(t, one, "others-alone", labelled, others), []string{others}},
		{gated(t, one, "no-gate", labelled), nil},
	}
	said, err := sweep(t.Context(), cluster.Client)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if left := gatesOf(t, row.pod); !slices.Equal(left, row.left) {
			t.Errorf("%s has the gates %q, not %q", row.pod.Name, left, row.left)
		}
	}
	for _, line := range []string{
		one + "/labelled may be scheduled\n", two + "/labelled may be scheduled\n", "was taken away from 6 pods; no pod has it any more\n",
	} {
		if !strings.Contains(said, line) {
			t.Errorf("it does not say %q, but:\n%s", line, said)
		}
	}
	if strings.Contains(said, "no-gate") || strings.Contains(said, "others-alone") {
		t.Errorf("it speaks of pods that it has nothing to do with:\n%s", said)
	}

	before := &corev1.Pod{}
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(rows[3].pod), before); err != nil {
		t.Fatal(err)
	}
	said, err = sweep(t.Context(), cluster.Client)
	if err != nil || !strings.Contains(said, "was taken away from 0 pods") {
		t.Errorf("the second time it ends with %v and says:\n%s", err, said)
	}
	after := &corev1.Pod{}
	if err := cluster.Client.Get(
		t.Context(), client.ObjectKeyFromObject(rows[3].pod), after,
	); err != nil || after.ResourceVersion != before.ResourceVersion {
		t.Errorf("the second time it wrote a pod (%v)", err)
	}
}

// TestSweepOfManyPages: there are more pods than a page holds, and some come while it runs.
func TestSweepOfManyPages(t *testing.T) {
	const count = 1100
	where := namespace(t)
	for i := range count {
		gated(t, where, fmt.Sprintf("demo-%d", i), labelled, ours)
	}
	late := false
	said, err := sweep(t.Context(), interceptor.NewClient(cluster.Client, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if err := c.List(ctx, list, options...); err != nil || late {
				return err
			}
			// It sorts before those of the next pages, so this pass does not see it.
			late = true
			gated(t, where, "a-pod-that-comes-late", labelled, ours)
			return nil
		},
	}))
	if err != nil || !strings.Contains(said, fmt.Sprintf("was taken away from %d pods", count+1)) {
		t.Errorf("it ends with %v and says at last: %s", err, said[max(0, len(said)-200):])
	}
	var left corev1.PodList
	if err := cluster.Client.List(t.Context(), &left, client.InNamespace(where)); err != nil {
		t.Fatal(err)
	}
	for i := range left.Items {
		if gates.Has(&left.Items[i]) {
			t.Errorf("%s still has the gate", left.Items[i].Name)
		}
	}
}

// TestSweepGoesOn: what fails is tried again, and neither it nor a pod that goes keeps the others from being scheduled.
// What fails for good is an error that names the pod and the reason.
func TestSweepGoesOn(t *testing.T) {
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "busy", errors.New("another wrote it"))
	expired := apierrors.NewResourceExpired("the list is too old to be continued")
	for name, row := range map[string]struct {
		// patch and list may fail; nth counts the calls for a pod, and all lists, from 1.
		patch func(pod string, nth int) error
		list  func(nth int) error
		err   []string
		says  []string
		left  []string
	}{
		"after a conflict": {
			patch: func(pod string, nth int) error {
				if pod == "busy" && nth < 3 {
					return conflict
				}
				return nil
			},
			says: []string{
				"/busy still has the scheduling gate: ", "another wrote it", "1 pods still have the scheduling gate; trying again",
				"/busy may be scheduled",
			},
		},
		"after a list that could not be continued": {
			list: func(nth int) error {
				if nth == 1 {
					return expired
				}
				return nil
			},
			says: []string{"list the pods that have no node: the list is too old to be continued; trying again", "/busy may be scheduled"},
		},
		"past a pod that is gone": {
			patch: func(pod string, _ int) error {
				if pod != "busy" {
					return nil
				}
				gone := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: pod}}
				return apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, gone.Name)
			},
			// The pod is there all the same; it would be endless if it were tried again.
			says: []string{"/busy is gone", "/calm may be scheduled", "was taken away from 1 pods"},
			left: []string{"busy"},
		},
		"past a pod that a webhook refuses to have changed": {
			patch: func(pod string, _ int) error {
				if pod == "busy" {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, pod, errors.New("a policy of the cluster"))
				}
				return nil
			},
			says: []string{"/calm may be scheduled"},
			err: []string{
				"1 pods still have the scheduling gate " + ours + ", and are not scheduled while they have it", "/busy: ", "a policy of the cluster",
			},
			left: []string{"busy"},
		},
		"but not when nothing can be read": {
			list: func(int) error {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no right"))
			},
			err:  []string{"list the pods that have no node: ", "no right"},
			left: []string{"busy", "calm"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			where := namespace(t)
			pods := []*corev1.Pod{gated(t, where, "busy", labelled, ours), gated(t, where, "calm", nil, ours)}
			var lists int
			var ofBusy, ofCalm atomic.Int32
			said, err := sweep(t.Context(), interceptor.NewClient(cluster.Client, interceptor.Funcs{
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
					if lists++; row.list != nil {
						if err := row.list(lists); err != nil {
							return err
						}
					}
					return c.List(ctx, list, options...)
				},
				Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
					calls := &ofBusy
					if object.GetName() == "calm" {
						calls = &ofCalm
					}
					if nth := int(calls.Add(1)); row.patch != nil {
						if err := row.patch(object.GetName(), nth); err != nil {
							return err
						}
					}
					return c.Patch(ctx, object, patch, options...)
				},
			}))
			if (err == nil) != (row.err == nil) {
				t.Errorf("it ends with %v", err)
			}
			for _, part := range row.err {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not have %q: %v", part, err)
				}
			}
			for _, part := range row.says {
				if !strings.Contains(said, part) {
					t.Errorf("it does not say %q, but:\n%s", part, said)
				}
			}
			for _, pod := range pods {
				if still := len(gatesOf(t, pod)) > 0; still != slices.Contains(row.left, pod.Name) {
					t.Errorf("%s has the gate: %t", pod.Name, still)
				}
			}
		})
	}
}

// TestSweepIsKilled: one that is told to end says so, and the next one does the rest.
func TestSweepIsKilled(t *testing.T) {
	where := namespace(t)
	pods := []*corev1.Pod{gated(t, where, "one", labelled, ours), gated(t, where, "two", labelled, ours)}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	told := errors.New("told to end")
	var patches atomic.Int32
	said, err := sweep(ctx, interceptor.NewClient(cluster.Client, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			if patches.Add(1) > 1 {
				cancel(told)
				return ctx.Err()
			}
			return c.Patch(ctx, object, patch, options...)
		},
	}))
	if !errors.Is(err, told) || !strings.Contains(err.Error(), "run it again") {
		t.Errorf("it ends with %v and says:\n%s", err, said)
	}
	if said, err := sweep(t.Context(), cluster.Client); err != nil {
		t.Errorf("the next one ends with %v and says:\n%s", err, said)
	}
	for _, pod := range pods {
		if left := gatesOf(t, pod); len(left) > 0 {
			t.Errorf("%s has the gates %q", pod.Name, left)
		}
	}
}

// TestRemoveMeetsOthers: the pod that is known may be an old version of the one that is there.
func TestRemoveMeetsOthers(t *testing.T) {
	where := namespace(t)
	old := gated(t, where, "demo-0", labelled, others, ours)
	patch := client.RawPatch(
		types.JSONPatchType,
		[]byte(`[{"op":"remove","path":"/spec/schedulingGates/0"},{"op":"add","path":"/metadata/labels/seen","value":"yes"}]`),
	)
	if err := cluster.Client.Patch(t.Context(), old.DeepCopy(), patch); err != nil {
		t.Fatal(err)
	}
	if err := gates.Remove(t.Context(), cluster.Client, old); err != nil {
		t.Fatal(err)
	}
	if left := gatesOf(t, old); len(left) > 0 || old.Labels["seen"] != "yes" {
		t.Errorf("the pod has the gates %q and the labels %v", left, old.Labels)
	}
	// It has lost the gate meanwhile.
	again := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: where, Name: "demo-0"},
		Spec:       corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: ours}}},
	}
	if err := gates.Remove(t.Context(), cluster.Client, again); err != nil {
		t.Error(err)
	}
	gone := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: where, Name: "gone"}, Spec: again.DeepCopy().Spec}
	gone.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: ours}}
	if err := gates.Remove(t.Context(), cluster.Client, gone); !apierrors.IsNotFound(err) {
		t.Errorf("for a pod that is gone the error is %v", err)
	}
}

package machine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// testRecordDeleted: a person deletes the record of a machine that is in use. No pod comes to its node any more, it is replaced,
// and ended when its pods have left.
func testRecordDeleted(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "kubectl"
	newPool(t, name, target(2))
	s := hasNodes(t, name, 2)
	leave := occupy(t, "kubectl-0")
	if err := cluster.Client.Delete(t.Context(), s.machines["kubectl-0"]); err != nil {
		t.Fatal(err)
	}
	s = await(t, name, func(s *state) string {
		return missing(s.isTainted("kubectl-0") && slices.Contains(s.ready, "kubectl-2"),
			fmt.Sprintf("kubectl-0 is not tainted, or not replaced: %v", s.ready))
	})
	used := func(s *state) string {
		if s.nodes["kubectl-0"] == nil || s.instances["kubectl-0"] == nil || s.instances["kubectl-0"].Status.TerminatingAt != nil ||
			s.machines["kubectl-0"] == nil {
			return "a machine was ended with a pod on its node"
		}
		return ""
	}
	if wrong := used(s); wrong != "" || s.pool.Spec.Replicas != 2 {
		t.Errorf("%s; the target is %d", wrong, s.pool.Spec.Replicas)
	}
	// It hangs, which is told after a while, with the reason; until then it was looked at again and again.
	saw(t, name, v1alpha1.ReasonDeletionHangs, "a pod is on its node; it goes when the pod has left")
	await(t, name, used)
	if n := len(w.cloud.terminations(name)); n > 0 {
		t.Errorf("the cloud was told %d times to end it", n)
	}
	leave()
	if s := hasNodes(t, name, 2); !slices.Equal(s.ready, []string{"kubectl-1", "kubectl-2"}) {
		t.Errorf("Ready are %v", s.ready)
	}
}

// testNodeIsKept: the record of a machine whose node somebody keeps by a finalizer is there until the node is not.
func testNodeIsKept(t *testing.T, _ *world) { //nolint:thelper // It is a test of TestTogether.
	const name, keeper = "kept", "example.com/keeper"
	newPool(t, name, target(1))
	s := hasNodes(t, name, 1)
	node := s.nodes["kept-0"]
	patch := client.MergeFrom(node.DeepCopy())
	node.Finalizers = append(node.Finalizers, keeper)
	if err := cluster.Client.Patch(t.Context(), node, patch); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Client.Delete(t.Context(), s.machines["kept-0"]); err != nil {
		t.Fatal(err)
	}
	s = await(t, name, func(s *state) string {
		node := s.nodes["kept-0"]
		return missing(s.instances["kept-0"] == nil && node != nil && node.DeletionTimestamp != nil, "its machine is not gone yet")
	})
	saw(t, name, v1alpha1.ReasonDeletionHangs, "its node kept-0 is being deleted, and kept by "+keeper)
	if s.machines["kept-0"] == nil {
		t.Error("the record is gone, and the node is there")
	}
	node = s.nodes["kept-0"]
	patch = client.MergeFrom(node.DeepCopy())
	node.Finalizers = nil
	if err := cluster.Client.Patch(t.Context(), node, patch); err != nil {
		t.Fatal(err)
	}
	if s := hasNodes(t, name, 1); !slices.Equal(s.ready, []string{"kept-1"}) {
		t.Errorf("Ready are %v", s.ready)
	}
}

// testCrash: a machine that fails after it has registered is told of at once, leaves the target, and everything of it goes.
func testCrash(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "crash"
	goOn := w.cloud.hold(name)
	defer goOn()
	newPool(t, name, role(func(k *v1alpha1.KwokMachines) { k.CrashPercent, k.FateWithin, k.Seed = 100, after(4*time.Second), 5 }))
	w.increase(t, name, 1)
	await(t, name, func(s *state) string {
		m := s.machines["crash-0"]
		return missing(m != nil && m.Status.NodeName != "", "it has not registered")
	})
	s := await(t, name, func(s *state) string {
		m := s.machines["crash-0"]
		return missing(m != nil && m.Status.Failure != nil && s.pool.Status.LastFailure != nil && s.pool.Spec.Replicas == 0,
			fmt.Sprintf("the failure is not recorded, or not told, or the target is %d", s.pool.Spec.Replicas))
	})
	if f := s.machines["crash-0"].Status.Failure; f.Code != "Crashed" || f.Class != v1alpha1.FailureOther {
		t.Errorf("the failure is %+v", f)
	}
	if f := s.pool.Status.LastFailure; f.Machine != "crash-0" || f.Code != "Crashed" {
		t.Errorf("the pool's last failure is %+v", f)
	}
	// As long as the cloud keeps something of it, Cluster Autoscaler is told that it goes.
	w.lists(t, name, map[string]string{idOf(name, 0): "Deleting"})
	saw(t, name, v1alpha1.ReasonMachineVanished, "machine crash-0 is no more: Crashed")
	saw(t, name, v1alpha1.ReasonMachineFailed, "crash-0")
	goOn()
	hasNodes(t, name, 0)
}

// testNodeDeleted: somebody deletes a Node. That is told, and the instance, which would be paid for, is ended.
func testNodeDeleted(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "vanished"
	newPool(t, name, target(2))
	s := hasNodes(t, name, 2)
	if err := cluster.Client.Delete(t.Context(), s.nodes["vanished-0"]); err != nil {
		t.Fatal(err)
	}
	saw(t, name, v1alpha1.ReasonMachineVanished, "node vanished-0 was deleted, and not by the provider")
	if s := hasNodes(t, name, 1); !slices.Equal(s.ready, []string{"vanished-1"}) {
		t.Errorf("Ready are %v", s.ready)
	}
	if n := len(w.cloud.terminations(name)); n == 0 {
		t.Error("the cloud was not told to end it")
	}
}

// testSpot: of a machine that the cloud takes back somebody hears, no pod comes to it any more, its replacement is Ready before it
// goes, and what its member has claimed stays as it is.
func testSpot(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "spot"
	newPool(t, name, target(1), role(func(k *v1alpha1.KwokMachines) {
		k.SpotPercent, k.SpotNotice, k.FateWithin, k.Seed = 100, after(15*time.Second), after(6*time.Second), 5
	}))
	await(t, name, func(s *state) string { return missing(len(s.ready) == 1, "it is not Ready") })
	edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.Machines.Kwok.SpotPercent = 0 })
	member := cluster.NewMember(t, name)
	cluster.Reserve(t, member, 1, "spot-0")
	leave := occupy(t, "spot-0")
	defer leave()
	var before v1alpha1.EnsembleMember
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(member), &before); err != nil {
		t.Fatal(err)
	}
	saw(t, name, v1alpha1.ReasonMachineLeaves, "the cloud takes machine spot-0, node spot-0, away at")
	s := await(t, name, func(s *state) string {
		return missing(slices.Contains(s.ready, "spot-1") && s.isTainted("spot-0"),
			fmt.Sprintf("Ready are %v, the one that leaves is tainted: %v", s.ready, s.isTainted("spot-0")))
	})
	if s.nodes["spot-0"] == nil || s.pool.Spec.Replicas != 1 {
		t.Errorf("the node went before its replacement came, or the target is not 1 but %d", s.pool.Spec.Replicas)
	}
	s = hasNodes(t, name, 1)
	if !slices.Equal(s.ready, []string{"spot-1"}) {
		t.Errorf("Ready are %v", s.ready)
	}
	var now v1alpha1.EnsembleMember
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(member), &now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, now); diff != "" {
		t.Errorf("the member was changed: %s", diff)
	}
	_ = w
}

// testHangs: a machine that takes its time to go is told once, and again after a while; when that takes too long, somebody is told.
func testHangs(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "hangs"
	newPool(t, name, target(2), role(func(k *v1alpha1.KwokMachines) { k.TerminationDelay = after(14 * time.Second) }))
	hasNodes(t, name, 2)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(&pool.Collector{Pools: w.GetClient(), Machines: w.Observer.Store, Log: logr.Discard(), Alarm: waits.EndAlarm,
		Clock: clock.RealClock{}})
	hanging := func(want float64) {
		t.Helper()
		inprocess.Until(t, func(context.Context) (string, error) {
			families, err := registry.Gather()
			for _, family := range families {
				for _, m := range family.GetMetric() {
					if family.GetName() == "ensemble_autoscaler_nodepool_machines_hanging" && m.GetLabel()[0].GetValue() == name {
						return missing(m.GetGauge().GetValue() == want, fmt.Sprint("the metric is ", m.GetGauge().GetValue())), err
					}
				}
			}
			return "there is no metric", err
		})
	}
	hanging(0)
	if err := w.deleteNodes(t.Context(), name, idOf(name, 0)); err != nil {
		t.Fatal(err)
	}
	saw(t, name, v1alpha1.ReasonDeletionHangs, "machine hangs-0 was told to go")
	hanging(1)
	s := await(t, name, func(s *state) string {
		m := s.machines["hangs-0"]
		return missing(m == nil || slices.ContainsFunc(m.Status.Conditions,
			func(c metav1.Condition) bool { return c.Reason == v1alpha1.ReasonMachineGoing }), "its state is not Going")
	})
	if s.machines["hangs-0"] == nil {
		t.Error("its state has never been Going")
	}
	s = hasNodes(t, name, 1)
	if !slices.Equal(s.ready, []string{"hangs-1"}) {
		t.Errorf("Ready are %v", s.ready)
	}
	hanging(0)
	told := w.cloud.terminations(name)
	// The last one is the question whether it is gone, which its event brings.
	for i := 1; i < len(told)-1; i++ {
		// A call may begin late, and the next one in time.
		if gap := told[i].Sub(told[i-1]); gap < waits.EndAgain/2 {
			t.Errorf("it was told again after %s", gap)
		}
	}
	if len(told) < 3 || len(told) > 7 {
		t.Errorf("the cloud was told %d times, at %v", len(told), told)
	}
	if hangs := slices.DeleteFunc(warnings(t, name),
		func(e string) bool { return !strings.Contains(e, v1alpha1.ReasonDeletionHangs) }); len(hangs) != 1 {
		t.Errorf("it is told of %d times: %q", len(hangs), hangs)
	}
}

// testCopiedNode: a Node that says that it is a machine's and is not is neither taken for its node, nor deleted with it.
func testCopiedNode(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "copied"
	newPool(t, name, target(1))
	s := hasNodes(t, name, 1)
	original := s.nodes["copied-0"]
	copied := create(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "copied-impostor", Labels: original.Labels,
			Annotations: map[string]string{"example.com/is": "untouched"}},
		Spec: corev1.NodeSpec{ProviderID: original.Spec.ProviderID},
	})
	member := cluster.NewMember(t, name)
	cluster.Reserve(t, member, 1, "copied-0")
	await(t, name, func(s *state) string {
		return missing(s.nodes["copied-0"].Annotations[v1alpha1.AnnotationHeldBy] != "", "the node is not held")
	})
	untouched := func(what string) {
		t.Helper()
		var now corev1.Node
		if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(copied), &now); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if now.DeletionTimestamp != nil || now.UID != copied.UID || !cmp.Equal(now.Annotations, copied.Annotations) ||
			len(now.Spec.Taints) > len(copied.Spec.Taints) {
			t.Errorf("%s: the copy was changed: %v, %v", what, now.Annotations, now.Spec)
		}
	}
	untouched("held")
	if s := await(t, name, func(*state) string { return "" }); s.machines["copied-0"].Status.NodeName != "copied-0" ||
		s.pool.Status.Ready != 1 {
		t.Errorf("the node of the machine is %s; %d are Ready", s.machines["copied-0"].Status.NodeName, s.pool.Status.Ready)
	}
	w.lists(t, name, map[string]string{idOf(name, 0): "Running"})
	cluster.Reserve(t, member, 0)
	await(t, name, func(s *state) string {
		return missing(s.nodes["copied-0"] == nil && len(s.machines)+len(s.instances) == 0, "the machine is there")
	})
	untouched("released")
}

package resize

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestMachineOfNode: a node is one of a pool if a machine of that pool has its name and its provider id.
func TestMachineOfNode(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{}
	node.Name, node.Labels, node.Spec.ProviderID = "n", map[string]string{v1alpha1.LabelNodePool: "p"}, "cloud://n"
	node.CreationTimestamp = metav1.NewTime(noon)
	machine := func(name, pool, node, id string) v1alpha1.PoolMachine {
		m := v1alpha1.PoolMachine{Spec: v1alpha1.PoolMachineSpec{NodePool: pool}}
		m.Name, m.UID, m.Status.NodeName, m.Status.ProviderID = name, types.UID(name), node, id
		return m
	}
	list := func(machines ...v1alpha1.PoolMachine) []v1alpha1.PoolMachine { return machines }
	old, others := machine("p-0", "p", "n", "cloud://old"), machine("q-0", "q", "n", "cloud://n")
	failed := machine("p-0", "p", "n", "cloud://n")
	failed.Status.Failure = &v1alpha1.MachineFailure{Message: "preempted"}
	const oldID = `PoolMachine p-0 has a node of this name with the provider id "cloud://old", and this one has "cloud://n"`
	for name, row := range map[string]struct {
		machines []v1alpha1.PoolMachine
		// copies are nodes with the same provider id.
		copies []corev1.Node
		want   string
		why    string
	}{
		"a copy of it": {
			machines: list(machine("p-0", "p", "", "cloud://n")), copies: []corev1.Node{named(*node, "m", time.Second)}, want: "p-0",
		},
		"that it is a copy of": {
			machines: list(
				machine("p-0", "p", "", "cloud://n"),
			), copies: []corev1.Node{named(*node, "o", -time.Second)}, why: "no PoolMachine names it",
		},
		"its machine":                {machines: list(machine("p-0", "p", "n", "cloud://n")), want: "p-0"},
		"no machine":                 {why: "no PoolMachine names it"},
		"one that was launched":      {machines: list(machine("p-0", "p", "", "cloud://n")), want: "p-0"},
		"one that is being launched": {machines: list(machine("p-0", "p", "", "")), why: "no PoolMachine names it"},
		"another that was launched":  {machines: list(machine("p-0", "p", "", "cloud://m")), why: "no PoolMachine names it"},
		"one that was launched in q": {
			machines: list(machine("q-0", "q", "", "cloud://n")), why: "PoolMachine q-0 is this node and belongs to NodePool q",
		},
		"a name that is used at once":   {machines: list(old, machine("p-1", "p", "", "cloud://n")), want: "p-1"},
		"another node of this name":     {machines: list(old), why: oldID},
		"one of another pool":           {machines: list(others), why: "PoolMachine q-0 is this node and belongs to NodePool q"},
		"a name that is used again":     {machines: list(old, machine("p-1", "p", "n", "cloud://n")), want: "p-1"},
		"a name and id that are again":  {machines: list(failed, machine("p-1", "p", "n", "cloud://n")), want: "p-1"},
		"of two the one that stays":     {machines: list(machine("p-1", "p", "n", "cloud://n"), failed), want: "p-1"},
		"one that has failed, and none": {machines: list(failed), want: "p-0"},
	} {
		m, err := (&lists{machines: row.machines}).observer().readMachines(t.Context(), pointers(append(row.copies, *node)))
		if err != nil {
			t.Fatal(err)
		}
		got, why := m.of(node)
		switch {
		case row.want == "" && (got != nil || why != row.why):
			t.Errorf("%s: %v (%s), want none: %s", name, got, why, row.why)
		case row.want != "" && (got == nil || got.Name != row.want):
			t.Errorf("%s: %v, want %s", name, got, row.want)
		}
	}
}

// named is a node under another name and so much younger.
func named(node corev1.Node, name string, younger time.Duration) corev1.Node {
	node.Name, node.CreationTimestamp = name, metav1.NewTime(node.CreationTimestamp.Add(younger))
	return node
}

// TestStranger: a node with a copy of the label is held for nobody, stands in the way of nothing, and is told of once.
func TestStranger(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.run(1)
	s.desire(2)
	s.node(7)
	s.settle()
	if held := s.held(); !slices.Equal(held, []string{"n-0"}) || s.size() != 1 {
		t.Fatalf("%v are held at size %d", held, s.size())
	}
	if r := s.member().Status.Reservations[0]; r.Nodes != 2 || r.Occupied != 0 {
		t.Errorf("%d nodes are claimed beside %d that are occupied, want 2 and 0: a stranger is no node of the pool", r.Nodes, r.Occupied)
	}
	s.after(vouchAfter - time.Millisecond)
	if told := s.toldOf(v1alpha1.ReasonStrangeNode); len(told) != 0 {
		t.Fatalf("told while its record may be on its way: %v", told)
	}
	s.after(time.Second)
	s.after(time.Minute)
	s.pass()
	want := "Warning StrangeNode node n-7 carries the label of NodePool p, and no machine of p is that node (no PoolMachine names it): " +
		"it is held for nobody; take the label off, or delete the node"
	if told := s.toldOf(v1alpha1.ReasonStrangeNode); !slices.Equal(told, []string{want}) {
		t.Errorf("told %q, want once %q", told, want)
	}
	s.provide(1, 2)
	s.settle()
	if held := s.held(); !slices.Equal(held, []string{"n-0", "n-1"}) || s.size() != 2 {
		t.Errorf("%v are held at size %d: %s", held, s.size(), s.ready())
	}
	// The next process says it once more, and no more than that.
	s.begin()
	s.pass()
	s.after(time.Minute)
	s.after(time.Minute)
	s.pass()
	if told := s.toldOf(v1alpha1.ReasonStrangeNode); len(told) != 2 {
		t.Errorf("told %d times by two processes", len(told))
	}
	s.remove(&corev1.Node{ObjectMeta: metaOf("n-7")})
	s.pass()
	if len(s.strangers) != 0 {
		t.Errorf("%d strangers are remembered, and there is none", len(s.strangers))
	}
}

// TestVouchedLater: a node whose machine is written a little later is no stranger, and is used from then on.
func TestVouchedLater(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.run(1)
	s.desire(2)
	s.settle()
	node := s.node(1)
	s.after(time.Second)
	s.pass()
	if len(s.held()) != 1 {
		t.Fatalf("%v are held", s.held())
	}
	machine := machineOf(node)
	machine.ResourceVersion = ""
	s.create(&machine)
	s.settle()
	s.after(time.Hour)
	if s.size() != 2 || len(s.toldOf(v1alpha1.ReasonStrangeNode)) != 0 {
		t.Errorf("the size is %d, and told was %v", s.size(), s.toldOf(v1alpha1.ReasonStrangeNode))
	}
}

// TestPodOnNodeToBeVouched: a pod that gets to a fresh node before the record of its machine does not make the claim sink: a
// machine that boots for it would be given up.
func TestPodOnNodeToBeVouched(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.run(1)
	s.node(1)
	s.pods(1, 2)
	pod := &corev1.Pod{}
	if err := s.world.Get(t.Context(), types.NamespacedName{Namespace: mine.Namespace, Name: "m-1"}, pod); err != nil {
		t.Fatal(err)
	}
	pod.Spec.NodeName, pod.Spec.SchedulingGates = "n-1", nil
	if err := s.world.Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	s.edit(2)
	s.settle()
	if m := s.member(); m.Status.Reserved != 2 {
		t.Errorf("%d nodes are claimed for two pods: %s", m.Status.Reserved, s.ready())
	}
}

// TestRecordGone: a member keeps a node whose record is gone until its pod has left, and gets another one in its place.
func TestRecordGone(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	s.run(2)
	s.after(time.Hour)
	s.remove(&v1alpha1.PoolMachine{ObjectMeta: metaOf("machine-of-n-1")})
	s.settle()
	if m := s.member(); m.Status.Reserved != 2 || !slices.Equal(s.held(), []string{"n-0", "n-1"}) || s.size() != 2 {
		t.Fatalf("%d nodes are claimed and %v held at size %d", m.Status.Reserved, s.held(), s.size())
	}
	if got := s.ready(); !strings.HasPrefix(got, "False: 1 of 2 nodes are Ready") {
		t.Errorf("Ready is %q", got)
	}
	s.provide(2, 3)
	s.settle()
	if held := s.held(); !slices.Equal(held, []string{"n-0", "n-1", "n-2"}) {
		t.Errorf("%v are held", held)
	}
	s.remove(&corev1.Pod{ObjectMeta: metaIn("m-1")})
	s.pods(1, 2)
	s.settle()
	if held := s.held(); !slices.Equal(held, []string{"n-0", "n-2"}) {
		t.Errorf("%v are held when the pod has left", held)
	}
	s.bind()
	s.settle()
	if got := s.ready(); got != "True: at size 2" {
		t.Errorf("Ready is %q", got)
	}
}

// TestRegistrationTaint: a node that the provider has not seen yet is coming: it is not used, whatever the pods tolerate, and
// is no evidence that nodes of the pool are of no use.
func TestRegistrationTaint(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.run(1)
	s.desire(2)
	s.settle()
	s.provide(1, 2)
	taint := func(taints ...corev1.Taint) {
		node := &corev1.Node{}
		if err := s.world.Get(t.Context(), types.NamespacedName{Name: "n-1"}, node); err != nil {
			t.Fatal(err)
		}
		node.Spec.Taints = taints
		if err := s.world.Update(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	taint(corev1.Taint{Key: v1alpha1.TaintRegistration, Effect: corev1.TaintEffectNoSchedule})
	s.settle()
	if r := s.member().Status.Reservations[0]; s.size() != 1 || r.Occupied != 0 || len(r.Held) != 1 {
		t.Errorf("size %d, %d occupied, %v held while the taint is there", s.size(), r.Occupied, r.Held)
	}
	taint()
	s.settle()
	if s.size() != 2 {
		t.Errorf("the size is %d when the taint is gone: %s", s.size(), s.ready())
	}
}

// TestStripMachine: a stripped machine is read as the whole one is.
func TestStripMachine(t *testing.T) {
	t.Parallel()
	l := cluster(1, 1, 4)
	whole := &l.machines[0]
	now, soon := metav1.NewTime(noon), metav1.NewMicroTime(noon)
	whole.DeletionTimestamp, whole.Status.LeavingAt = &now, &soon
	whole.Status.Failure = &v1alpha1.MachineFailure{Message: "preempted"}
	whole.Finalizers = []string{v1alpha1.FinalizerMachine}
	whole.Spec.Template.Labels = map[string]string{"a": "b"}
	stripped, err := StripMachine(whole)
	if err != nil {
		t.Fatal(err)
	}
	machine, is := stripped.(*v1alpha1.PoolMachine)
	if !is {
		t.Fatalf("it is a %T", stripped)
	}
	if machine.Spec.Template.Labels != nil {
		t.Error("the template is kept")
	}
	m := &machines{byNode: map[string]*v1alpha1.PoolMachine{machine.Status.NodeName: machine}}
	if got, why := m.of(&l.nodes[0]); got == nil {
		t.Errorf("it is not the machine of its node any more: %s", why)
	}
	if !leaves(machine) || departureOf(machine).Failure != "preempted" || client.Object(machine).GetUID() != whole.UID {
		t.Errorf("it reads as %+v", machine)
	}
}

// TestNodeOf: what the taints of a node say of it, whatever the pods of a member tolerate.
func TestNodeOf(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		key            string
		ready, leaving bool
		foreign        int
	}{
		"none":                          {ready: true},
		"somebody's":                    {key: "example.com/team", ready: true, foreign: 1},
		"not seen by the provider":      {key: v1alpha1.TaintRegistration},
		"not seen by the cloud":         {key: "node.cloudprovider.kubernetes.io/uninitialized"},
		"not Ready":                     {key: corev1.TaintNodeNotReady},
		"about to be deleted":           {key: v1alpha1.TaintToBeDeleted, ready: true, leaving: true},
		"about to be deleted elsewhere": {key: "karpenter.sh/disrupted", ready: true, leaving: true},
	} {
		node := &corev1.Node{}
		node.Labels = map[string]string{v1alpha1.LabelNodePool: "p"}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		if row.key != "" {
			node.Spec.Taints = []corev1.Taint{{Key: row.key, Effect: corev1.TaintEffectNoSchedule}}
		}
		if got := nodeOf(node); got.Ready != row.ready || got.Leaving != row.leaving || len(got.Taints) != row.foreign {
			t.Errorf("%s: ready %t, leaving %t, foreign taints %v", name, got.Ready, got.Leaving, got.Taints)
		}
	}
}

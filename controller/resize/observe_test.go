package resize

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// lists is a reader of what is in memory already, as the caches are: a list is a slice of shallow copies.
type lists struct {
	client.Reader
	members  []v1alpha1.EnsembleMember
	clusters []unstructured.Unstructured
	pools    []v1alpha1.NodePool
	jobs     []batchv1.Job
	pods     []corev1.Pod
	nodes    []corev1.Node
	machines []v1alpha1.PoolMachine
	daemons  []appsv1.DaemonSet

	namespaces []corev1.Namespace
}

// observer is a new one that has heard of all pods.
func (l *lists) observer() *observer {
	o := newObserver(member.Kinds{minicluster.Kind{}}, l, pods.New(), atNoon(), newNotMade(nil, func(string) {}))
	catchUp(o.ledger.store, l.pods)
	return o
}

// catchUp tells a store of all pods that there are, as the watch does.
func catchUp(store *pods.Store, list []corev1.Pod) {
	all := make([]any, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	if err := store.Replace(all, ""); err != nil {
		panic(err)
	}
}

// cached is an observer that reads what there is much of from stores, as in a program. They have what is there now.
func (l *lists) cached(tb testing.TB) *observer {
	tb.Helper()
	o := l.observer()
	o.stores = &stores{
		nodes: toolscache.NewStore(toolscache.MetaNamespaceKeyFunc), machines: toolscache.NewStore(toolscache.MetaNamespaceKeyFunc),
	}
	for i := range l.nodes {
		if err := o.stores.nodes.Add(&l.nodes[i]); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range l.machines {
		if err := o.stores.machines.Add(&l.machines[i]); err != nil {
			tb.Fatal(err)
		}
	}
	return o
}

// detail is what is kept of a pod of a Job.
func detail(tb testing.TB, pod *corev1.Pod) *corev1.Pod {
	tb.Helper()
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "j", UID: "j", Controller: new(true)}}
	store := pods.New()
	tell(tb, store, pod)
	return store.Get(client.ObjectKeyFromObject(pod)).Detail()
}

// tell tells a store of a pod that has changed.
func tell(tb testing.TB, store *pods.Store, pod *corev1.Pod) {
	tb.Helper()
	if err := store.Update(pod); err != nil {
		tb.Fatal(err)
	}
}

func (l *lists) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	switch into := into.(type) {
	case *v1alpha1.EnsembleMemberList:
		into.Items = append(into.Items, l.members...)
	case *unstructured.UnstructuredList:
		into.Items = append(into.Items, l.clusters...)
	case *v1alpha1.NodePoolList:
		into.Items = append(into.Items, l.pools...)
	case *batchv1.JobList:
		into.Items = append(into.Items, l.jobs...)
	case *corev1.PodList:
		into.Items = append(into.Items, l.pods...)
	case *corev1.NodeList:
		into.Items = append(into.Items, l.nodes...)
	case *corev1.NamespaceList:
		into.Items = append(into.Items, l.namespaces...)
	case *appsv1.DaemonSetList:
		into.Items = append(into.Items, l.daemons...)
	case *v1alpha1.PoolMachineList:
		into.Items = append(into.Items, l.machines...)
	default:
		return fmt.Errorf("there is no list of %T", into)
	}
	return nil
}

// cluster is one of members of the same size, with a pod on each of their nodes; nodes beyond that are free.
func cluster(members, pools, nodes int) *lists {
	l := &lists{}
	meta := func(namespace, format string, number int) metav1.ObjectMeta {
		name := fmt.Sprintf(format, number)
		return metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(name), ResourceVersion: "1", CreationTimestamp: metav1.NewTime(noon),
		}
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
	container := corev1.Container{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3"), corev1.ResourceMemory: resource.MustParse("8Gi")},
	}}
	for p := range pools {
		l.pools = append(l.pools, v1alpha1.NodePool{
			ObjectMeta: meta("", "pool-%d", p),
			Spec: v1alpha1.NodePoolSpec{
				MaxSize: int32(nodes), ProvisionTimeout: metav1.Duration{Duration: time.Hour}, Template: v1alpha1.NodeTemplate{Capacity: capacity},
			},
		})
	}
	for n := range nodes {
		node := corev1.Node{ObjectMeta: meta("", "node-%d", n)}
		node.Labels = map[string]string{v1alpha1.LabelNodePool: fmt.Sprintf("pool-%d", n%pools)}
		node.Status = corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		}
		node.Spec.ProviderID = "cloud://" + node.Name
		l.nodes = append(l.nodes, node)
		l.machines = append(l.machines, machineOf(&node))
	}
	each := nodes * 9 / 10 / members
	for m := range members {
		object := minicluster.New()
		object.Object["spec"] = map[string]any{
			"size": int64(each), "maxSize": int64(each * 2),
			"containers": []any{map[string]any{"image": "i", "resources": map[string]any{"requests": map[string]any{"cpu": "3", "memory": "8Gi"}}}},
		}
		of := meta("default", "member-%d", m)
		object.SetNamespace(of.Namespace)
		object.SetName(of.Name)
		object.SetUID(of.UID)
		object.SetResourceVersion("1")
		object.SetAnnotations(map[string]string{v1alpha1.AnnotationNodePools: fmt.Sprintf("pool-%d", m%pools)})
		l.clusters = append(l.clusters, *object)
		l.members = append(l.members, v1alpha1.EnsembleMember{ObjectMeta: of, Spec: v1alpha1.EnsembleMemberSpec{Size: int32(each)}})
		// The Flux Operator calls the Job as the MiniCluster is called.
		job := batchv1.Job{ObjectMeta: meta("default", "member-%d", m)}
		job.UID = types.UID(fmt.Sprintf("job-%d", m))
		job.Spec.Template.Spec.Containers = []corev1.Container{container}
		job.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(object, minicluster.GroupVersionKind)}
		l.jobs = append(l.jobs, job)
		for i := range each {
			pod := corev1.Pod{ObjectMeta: meta("default", fmt.Sprintf("member-%d-%%d", m), i)}
			pod.Labels = map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(i)}
			pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&job, batchv1.SchemeGroupVersion.WithKind("Job"))}
			pod.Spec.NodeName, pod.Spec.Containers = fmt.Sprintf("node-%d", m*each+i), []corev1.Container{container}
			l.pods = append(l.pods, pod)
		}
	}
	return l
}

// machineOf is the machine that a node is.
func machineOf(node *corev1.Node) v1alpha1.PoolMachine {
	name := "machine-of-" + node.Name
	return v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "1"},
		Spec:       v1alpha1.PoolMachineSpec{NodePool: node.Labels[v1alpha1.LabelNodePool]},
		Status:     v1alpha1.PoolMachineStatus{NodeName: node.Name, ProviderID: node.Spec.ProviderID},
	}
}

// atNoon is a clock that stands still.
func atNoon() *clocktesting.FakePassiveClock { return clocktesting.NewFakePassiveClock(noon) }

// TestObserveAgain: what a second pass sees is what a new process would, whatever has changed in between.
func TestObserveAgain(t *testing.T) {
	t.Parallel()
	l := cluster(3, 2, 20)
	o := l.observer()
	same := func(what string) {
		t.Helper()
		// A reader that lists and stores are the same to it.
		o.stores = l.cached(t).stores
		catchUp(o.ledger.store, l.pods)
		again, err := o.observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second, err := l.observer().observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sorted(second), sorted(again)); diff != "" {
			t.Errorf("after %s (-new process +this one):\n%s", what, diff)
		}
	}
	same("nothing")
	same("nothing, again")
	// A store has another object for another version, and the same one for the same version.
	l.nodes = slices.Clone(l.nodes)
	l.nodes[3].Status.Conditions, l.nodes[3].ResourceVersion = nil, "2"
	l.pods[4].Spec.NodeName, l.pods[4].ResourceVersion = "node-19", "2"
	l.pools[1].Spec.Paused, l.pools[1].ResourceVersion = true, "2"
	l.jobs[0].Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	l.jobs[0].ResourceVersion = "2"
	changed := l.clusters[1].DeepCopy()
	changed.Object["spec"] = map[string]any{"size": int64(2), "maxSize": int64(9)}
	changed.SetResourceVersion("2")
	l.clusters[1] = *changed
	same("a change of each kind")
	for what, change := range map[string]func(){
		"a machine that fails":                func() { l.machines[5].Status.Failure = &v1alpha1.MachineFailure{Message: "broken"} },
		"a machine that goes":                 func() { l.machines[6].Status.LeavingAt = &metav1.MicroTime{Time: noon} },
		"a machine of another pool":           func() { l.machines[7].Spec.NodePool = "other" },
		"a machine of another order":          func() { l.machines[8].Spec.Order.ID = "order" },
		"a machine of which no node is known": func() { l.machines[9].Status.NodeName = "" },
		"two machines for one node":           func() { l.machines[10].Status.NodeName = l.machines[11].Status.NodeName },
		"a machine that is gone":              func() { l.machines = l.machines[:len(l.machines)-1] },
	} {
		l.machines = slices.Clone(l.machines)
		change()
		same(what)
		same(what + ", again")
	}
	l.nodes, l.pods = l.nodes[1:], l.pods[2:]
	same("nodes and pods that are gone")
	if kept := len(o.nodes.read); kept != len(l.nodes) {
		t.Errorf("%d nodes are remembered, and there are %d", kept, len(l.nodes))
	}
}

// BenchmarkObserve measures what a pass costs before it plans: the first one of a process, and one of which nothing has
// changed but the version of one pod.
func BenchmarkObserve(b *testing.B) {
	for _, size := range []struct{ members, pools, nodes int }{
		{100, 10, 1_000}, {1_000, 100, 10_000}, {10_000, 1_000, 100_000},
	} {
		l := cluster(size.members, size.pools, size.nodes)
		name := fmt.Sprintf("members=%d/pools=%d/nodes=%d", size.members, size.pools, size.nodes)
		b.Run(name+"/first", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.observer().observe(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/again", func(b *testing.B) {
			o := l.cached(b)
			if _, err := o.observe(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				pod := &l.pods[n%len(l.pods)]
				pod.ResourceVersion = strconv.Itoa(n + 2)
				tell(b, o.ledger.store, pod)
				if _, err := o.observe(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPass measures a whole pass of a large cluster but for its writes, of which nothing has changed but one pod: a foreign one on a
// node of a pool. Foreign pods are as many as nodes have in clusters that are well used.
func BenchmarkPass(b *testing.B) {
	const members, pools, nodes, foreign = 500, 50, 5_000, 150_000
	l := cluster(members, pools, nodes)
	o := l.cached(b)
	pod := func(i, version int) *corev1.Pod {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("tenant-%d", i%20), Name: fmt.Sprintf("foreign-%d", i), UID: types.UID(strconv.Itoa(i)),
			ResourceVersion: strconv.Itoa(version),
		}}
		pod.Spec.NodeName = l.nodes[i%nodes].Name
		pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: *resource.NewMilliQuantity(10, resource.DecimalSI),
		}}}}
		return pod
	}
	for i := range foreign {
		tell(b, o.ledger.store, pod(i, 1))
	}
	pass := func() {
		seen, err := o.observe(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		plan.Plan(seen.values(), noon)
	}
	pass()
	b.Run(fmt.Sprintf("members=%d/pools=%d/nodes=%d/pods=%d", members, pools, nodes, len(l.pods)+foreign), func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			tell(b, o.ledger.store, pod(n%foreign, n+2))
			pass()
		}
	})
}

// sorted are the values that a pass plans with, in an order that does not depend on the map they come from.
func sorted(s *seen) plan.Observed {
	values := s.values()
	slices.SortFunc(values.Members, func(a, b plan.Member) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	slices.SortFunc(values.Nodes, func(a, b plan.Node) int { return strings.Compare(a.Name, b.Name) })
	return values
}

// TestRefusedSince: a gated pod is not scheduled from its creation on, and refused only from its release on.
func TestRefusedSince(t *testing.T) {
	t.Parallel()
	released := noon.Add(time.Hour)
	pod := func(reason string, since time.Time) *corev1.Pod {
		p := &corev1.Pod{}
		p.Labels = map[string]string{v1alpha1.LabelMember: "m"}
		p.Annotations = map[string]string{v1alpha1.AnnotationNode: "n", v1alpha1.AnnotationReleasedAt: released.Format(time.RFC3339)}
		p.Status.Conditions = []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, LastTransitionTime: metav1.NewTime(since)},
		}
		return p
	}
	labelled := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelMember: "m"}}}
	for name, row := range map[string]struct {
		pod  *corev1.Pod
		want time.Time
	}{
		"not refused":                           {pod(corev1.PodReasonSchedulingGated, noon), time.Time{}},
		"not scheduled since before":            {pod(corev1.PodReasonUnschedulable, noon), released},
		"refused after it was tried":            {pod(corev1.PodReasonUnschedulable, released.Add(time.Minute)), released.Add(time.Minute)},
		"nothing was said about its scheduling": {labelled, time.Time{}},
	} {
		if got := refusedSince(detail(t, row.pod)); !got.Equal(row.want) {
			t.Errorf("%s: refused since %s, not %s", name, got, row.want)
		}
	}
}

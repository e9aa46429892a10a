package resize

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

func fullNode(pool string) *corev1.Node {
	now := metav1.NewTime(noon)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: "n", UID: "u", ResourceVersion: "7", CreationTimestamp: now, DeletionTimestamp: &now,
		Labels: map[string]string{v1alpha1.LabelNodePool: pool, corev1.LabelHostname: "n", "zone": "a"},
		Annotations: map[string]string{
			v1alpha1.AnnotationReserved: "true", v1alpha1.AnnotationReleasing: noon.Format(time.RFC3339), "other": "x",
		},
	}}
	node.Spec = corev1.NodeSpec{Unschedulable: true, ProviderID: "cloud://n", Taints: []corev1.Taint{
		{
			Key: v1alpha1.TaintToBeDeleted, Value: v1alpha1.ToBeDeletedValue(noon), Effect: corev1.TaintEffectNoSchedule,
		}, {Key: "t", Effect: corev1.TaintEffectNoSchedule},
	}}
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
	node.Status.Images = []corev1.ContainerImage{{Names: []string{"i"}}}
	node.Status.Conditions = []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now, Message: "m"},
	}
	return node
}

// TestStripNode: what is kept of a node reads as the whole does.
func TestStripNode(t *testing.T) {
	t.Parallel()
	for _, pool := range []string{"hpc", ""} {
		whole := fullNode(pool)
		kept, err := StripNode(whole.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		node, is := kept.(*corev1.Node)
		if !is {
			t.Fatalf("a node becomes a %T", kept)
		}
		want := nodeOf(whole)
		if pool == "" {
			// Of a node in no pool it is not even read.
			want.Reserved = false
		}
		if diff := cmp.Diff(want, nodeOf(node)); diff != "" {
			t.Errorf("in pool %q (-whole +kept):\n%s", pool, diff)
		}
		if len(node.Status.Images) > 0 || node.Annotations["other"] != "" || len(node.Status.Conditions) > 1 {
			t.Errorf("in pool %q more is kept than is read: %v", pool, node)
		}
	}
}

// TestNodeChanged: a kubelet that says that its node is as it was leads to no pass, and whatever a pass reads does.
func TestNodeChanged(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*corev1.Node)
		passes bool
	}{
		"a heartbeat": {func(n *corev1.Node) {
			n.Status.Conditions[1].LastHeartbeatTime, n.ResourceVersion = metav1.NewTime(noon.Add(time.Hour)), "8"
		}, false},
		"it is Ready no more":  {func(n *corev1.Node) { n.Status.Conditions[1].Status = corev1.ConditionFalse }, true},
		"it says nothing more": {func(n *corev1.Node) { n.Status.Conditions = nil }, true},
		"a taint":              {func(n *corev1.Node) { n.Spec.Taints = n.Spec.Taints[:1] }, true},
		"a label":              {func(n *corev1.Node) { n.Labels["zone"] = "b" }, true},
		"another pool":         {func(n *corev1.Node) { n.Labels[v1alpha1.LabelNodePool] = "" }, true},
		"a release":            {func(n *corev1.Node) { delete(n.Annotations, v1alpha1.AnnotationReleasing) }, true},
		"less room":            {func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("2") }, true},
		"another node":         {func(n *corev1.Node) { n.UID = "other" }, true},
		"it is being deleted":  {func(n *corev1.Node) { n.DeletionTimestamp = nil }, true},
	} {
		before, after := fullNode("hpc"), fullNode("hpc")
		row.change(after)
		stripped := func(n *corev1.Node) *corev1.Node {
			kept, err := StripNode(n)
			if err != nil {
				t.Fatal(err)
			}
			return kept.(*corev1.Node) //nolint:forcetypeassert,errcheck // It is one.
		}
		if got := nodeChanged.Update(event.UpdateEvent{ObjectOld: stripped(before), ObjectNew: stripped(after)}); got != row.passes {
			t.Errorf("%s: a pass: %t, want %t", name, got, row.passes)
		}
	}
}

// TestStripJob: of the Job of a MiniCluster what a pass reads is kept, of another one whose it is.
func TestStripJob(t *testing.T) {
	t.Parallel()
	for kind, isMember := range map[string]bool{"MiniCluster": true, "CronJob": false} {
		group := map[bool]string{true: "flux-framework.org/v1alpha2", false: "batch/v1"}[isMember]
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "j", UID: "u", ResourceVersion: "3", OwnerReferences: []metav1.OwnerReference{
				{APIVersion: group, Kind: kind, Name: "j", UID: "o", Controller: new(true)},
			},
		}}
		job.Spec.Suspend = new(true)
		job.Spec.Template.Spec = corev1.PodSpec{
			NodeSelector: map[string]string{"a": "b"}, Tolerations: []corev1.Toleration{{Key: "t"}}, Overhead: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("1"),
			},
			Containers: []corev1.Container{
				{
					Name: "c", Image: "i", Env: []corev1.EnvVar{{Name: "E"}},
					Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}},
				},
			},
			InitContainers: []corev1.Container{
				{
					Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}},
				},
			},
		}
		job.Status.CompletedIndexes = "0-3"
		job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}
		kept, err := StripJob(member.Kinds{minicluster.Kind{}})(job.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		got, is := kept.(*batchv1.Job)
		if !is {
			t.Fatalf("a Job becomes a %T", kept)
		}
		if isMember {
			if diff := cmp.Diff(
				needsOf(&job.Spec.Template.Spec), needsOf(&got.Spec.Template.Spec), cmp.AllowUnexported(needs{}), cmpopts.EquateEmpty(),
				cmp.Comparer(sameSelector),
			); diff != "" {
				t.Errorf("needs (-whole +kept):\n%s", diff)
			}
			if finished(got) != finished(job) || suspended(got) != suspended(job) || got.Status.CompletedIndexes != job.Status.CompletedIndexes {
				t.Errorf("how far it is was lost: %v", got)
			}
		} else if len(got.Spec.Template.Spec.Containers) > 0 {
			t.Error("the template of a foreign Job is kept")
		}
		if diff := cmp.Diff(job.OwnerReferences, got.OwnerReferences); diff != "" {
			t.Errorf("owners (-whole +kept):\n%s", diff)
		}
	}
}

func sameSelector(a, b plan.Selector) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.String() == b.String()
}

// TestConcerns: a pod leads to a pass where one would see something else by it.
func TestConcerns(t *testing.T) {
	t.Parallel()
	l := cluster(1, 1, 3)
	l.jobs[0].Name, l.jobs[0].Namespace = l.clusters[0].GetName(), l.clusters[0].GetNamespace()
	o := l.observer()
	concerns := func(change func(*corev1.Pod)) bool {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x", UID: "x", ResourceVersion: "1"}}
		change(pod)
		tell(t, o.ledger.store, pod)
		return o.ledger.concern(o.ledger.store.Get(client.ObjectKeyFromObject(pod))) != noConcern
	}
	if !concerns(func(*corev1.Pod) {}) {
		t.Error("before the first pass nobody knows what concerns it")
	}
	s, err := o.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var job pods.JobKey
	for job = range s.owners {
		break
	}
	ofJob := func(uid types.UID) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Namespace, p.ResourceVersion = job.Namespace, "j"+string(uid)
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "j", UID: uid, Controller: new(true)}}
		}
	}
	for name, row := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"on a node of nobody": {func(p *corev1.Pod) { p.ResourceVersion, p.Spec.NodeName = "2", "elsewhere" }, false},
		"on no node":          {func(p *corev1.Pod) { p.ResourceVersion = "3" }, false},
		"on a node of a pool": {func(p *corev1.Pod) { p.ResourceVersion, p.Spec.NodeName = "4", "node-1" }, true},
		"behind the gate": {func(p *corev1.Pod) {
			p.ResourceVersion, p.Spec.SchedulingGates = "5", []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
		}, true},
		"of a Job of nobody": {ofJob("unknown"), false},
		"of a member":        {ofJob(job.UID), true},
	} {
		if got := concerns(row.change); got != row.want {
			t.Errorf("a pod %s: %t, want %t", name, got, row.want)
		}
	}
}

package resize

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// podAt changes the pod of a rank.
func (s *scene) podAt(rank int, change func(*corev1.Pod)) {
	s.Helper()
	pod := &corev1.Pod{}
	if err := s.world.Get(s.Context(), types.NamespacedName{Namespace: mine.Namespace, Name: fmt.Sprintf("m-%d", rank)}, pod); err != nil {
		s.Fatal(err)
	}
	change(pod)
	s.update(pod)
}

// job changes the Job of the MiniCluster.
func (s *scene) job(change func(*batchv1.Job)) {
	s.Helper()
	job := &batchv1.Job{}
	if err := s.world.Get(s.Context(), mine, job); err != nil {
		s.Fatal(err)
	}
	change(job)
	s.update(job)
}

// cluster changes the MiniCluster.
func (s *scene) cluster(change func(*unstructured.Unstructured)) {
	s.Helper()
	cluster := minicluster.New()
	if err := s.world.Get(s.Context(), mine, cluster); err != nil {
		s.Fatal(err)
	}
	change(cluster)
	if err := s.world.Update(s.Context(), cluster); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) pool(change func(*v1alpha1.NodePool)) {
	s.Helper()
	pool := &v1alpha1.NodePool{}
	if err := s.world.Get(s.Context(), types.NamespacedName{Name: "p"}, pool); err != nil {
		s.Fatal(err)
	}
	change(pool)
	if err := s.world.Update(s.Context(), pool); err != nil {
		s.Fatal(err)
	}
}

func ofCPU(amount string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(amount)}
}

// TestFacts: what pods that exist say counts beside their template.
func TestFacts(t *testing.T) {
	t.Parallel()
	gpu := corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists}
	for name, row := range map[string]struct {
		change func(*scene)
		cpu    int64
		text   string
		gpu    bool
	}{
		"the template alone": {func(*scene) {}, 3000, "", false},
		"pods like it":       {func(s *scene) { s.pods(0, 2) }, 3000, "", false},
		"a LimitRange": {func(s *scene) {
			s.pods(0, 2)
			s.podAt(1, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = ofCPU("6") })
		}, 6000, "", false},
		"a container that was injected": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) {
				p.Spec.Containers = append(
					p.Spec.Containers, corev1.Container{Name: "proxy", Resources: corev1.ResourceRequirements{Requests: ofCPU("100m")}},
				)
			})
		}, 3100, "", false},
		"an overhead": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) { p.Spec.Overhead = ofCPU("250m") })
		}, 3250, "", false},
		"an init container": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Name: "i", Resources: corev1.ResourceRequirements{Requests: ofCPU("7")}}}
			})
		}, 7000, "", false},
		"pods that ask for less": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = ofCPU("1") })
		}, 3000, "", false},
		"one that has ended asks for nothing": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests, p.Status.Phase = ofCPU("6"), corev1.PodFailed
			})
		}, 3000, "", false},
		"the selector of a namespace": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} })
		}, 3000, "disk=ssd", false},
		"that of the template": {func(s *scene) {
			s.job(func(j *batchv1.Job) { j.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "ssd"} })
		}, 3000, "disk=ssd", false},
		"ours is none": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) {
				p.Spec.SchedulingGates = nil
				p.Spec.NodeSelector = map[string]string{"disk": "ssd", corev1.LabelHostname: "n-0"}
				p.Annotations = map[string]string{v1alpha1.AnnotationNode: "n-0"}
			})
		}, 3000, "disk=ssd", false},
		"the user's own is one": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "n-0"} })
		}, 3000, corev1.LabelHostname + "=n-0", false},
		"a toleration of all pods": {func(s *scene) {
			s.pods(0, 2)
			for rank := range 2 {
				s.podAt(rank, func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{gpu} })
			}
		}, 3000, "", true},
		"a toleration of one": {func(s *scene) {
			s.pods(0, 2)
			s.podAt(0, func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{gpu} })
		}, 3000, "", false},
		"what every pod tolerates": {func(s *scene) {
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{
					gpu,
					{
						Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
						TolerationSeconds: new(int64(300)),
					},
				}
			})
		}, 3000, "", true},
		"what its release has added": {func(s *scene) {
			taint := corev1.Taint{Key: "hpc", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
			s.pool(func(p *v1alpha1.NodePool) { p.Spec.Template.Taints = []corev1.Taint{taint} })
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) {
				p.Spec.SchedulingGates, p.Spec.Tolerations = nil, []corev1.Toleration{gpu, tolerationOf(&taint)}
				p.Annotations = map[string]string{v1alpha1.AnnotationNode: "n-0"}
			})
		}, 3000, "", true},
	} {
		s := newScene(t, 2)
		s.pass()
		row.change(s)
		m := s.sees()
		text := ""
		if m.Selects != nil {
			text = m.Selects.String()
		}
		var tolerations []corev1.Toleration
		if row.gpu {
			tolerations = []corev1.Toleration{gpu}
		}
		if m.PodRequests[corev1.ResourceCPU] != row.cpu || text != row.text || len(m.Tolerations) != len(tolerations) ||
			(row.gpu && m.Tolerations[0] != gpu) {
			t.Errorf(
				"%s: a pod requests %v, selects %q and tolerates %v; want %dm, %q, %v", name, m.PodRequests, text, m.Tolerations, row.cpu, row.text,
				tolerations,
			)
		}
	}
}

// TestLife: how far a member is, and which of its ranks have ended or are lacking.
func TestLife(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change             func(*scene)
		want               plan.Lifecycle
		succeeded, lacking []int32
		running            int32
	}{
		"no pods":   {func(*scene) {}, plan.Running, nil, []int32{0, 1, 2}, 0},
		"some":      {func(s *scene) { s.pods(1, 2) }, plan.Running, nil, []int32{0, 2}, 0},
		"suspended": {func(s *scene) { s.job(func(j *batchv1.Job) { j.Spec.Suspend = new(true) }) }, plan.Suspended, nil, []int32{0, 1, 2}, 0},
		"resumed":   {func(s *scene) { s.job(func(j *batchv1.Job) { j.Spec.Suspend = new(false) }) }, plan.Running, nil, []int32{0, 1, 2}, 0},
		"suspended when it had ended": {func(s *scene) {
			s.job(func(j *batchv1.Job) {
				j.Spec.Suspend = new(true)
				j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
			})
		}, plan.Finished, nil, []int32{0, 1, 2}, 0},
		"its namespace goes": {func(s *scene) {
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: mine.Namespace, Finalizers: []string{"x/y"}}}
			s.create(namespace)
			s.remove(namespace)
		}, plan.Deleting, nil, []int32{0, 1, 2}, 0},
		"a rank that has succeeded": {func(s *scene) {
			s.pods(0, 3)
			s.podAt(1, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		}, plan.Running, []int32{1}, nil, 0},
		"one that has failed": {func(s *scene) {
			s.pods(0, 3)
			s.podAt(1, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		}, plan.Running, nil, []int32{1}, 0},
		"ranks of which only the Job knows": {func(s *scene) {
			s.pods(1, 2)
			s.job(func(j *batchv1.Job) { j.Status.CompletedIndexes = "0,2-4" })
		}, plan.Running, []int32{0, 2, 3, 4}, nil, 0},
		"pods that run": {func(s *scene) {
			s.pods(0, 4)
			for rank, ready := range []corev1.ConditionStatus{
				corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionTrue,
			} {
				s.podAt(rank, func(p *corev1.Pod) {
					p.Spec.SchedulingGates, p.Spec.NodeName, p.Status.Phase = nil, "n", corev1.PodRunning
					p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
				})
			}
		}, plan.Running, nil, nil, 2},
	} {
		s := newScene(t, 3)
		s.pass()
		row.change(s)
		m := s.sees()
		if m.Lifecycle != row.want || m.Running != row.running || !slices.Equal(m.Succeeded, row.succeeded) ||
			!slices.Equal(m.Lacking, row.lacking) {
			t.Errorf("%s: lifecycle %d, %d run, %v have succeeded, %v are lacking; want %d, %d, %v, %v",
				name, m.Lifecycle, m.Running, m.Succeeded, m.Lacking, row.want, row.running, row.succeeded, row.lacking)
		}
	}
}

// TestOthersPods: a pod with the Job of a member as its owner is one of it in its namespace alone, and one that says it has a rank does
// not take the place of the other.
func TestOthersPods(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	s.pods(0, 2)
	s.pass()
	owner := []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: mine.Name, UID: "*v1.Job/m", Controller: new(true)}}
	alien := func(namespace, name string, change func(*corev1.Pod)) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, OwnerReferences: owner,
			CreationTimestamp: metav1.NewTime(noon.Add(time.Minute)),
			Labels: map[string]string{
				batchv1.JobCompletionIndexAnnotation: "0", v1alpha1.LabelMember: mine.Name,
			}}, Spec: corev1.PodSpec{Containers: containers()}}
		change(pod)
		s.create(pod)
	}
	gated := func(p *corev1.Pod) {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
	}
	alien("evil", "m-0", gated)
	alien("evil", "bound", func(p *corev1.Pod) { p.Spec.NodeName = "n-0" })
	if m := s.sees(); len(m.Pods) > 0 || !slices.Equal(m.Gated, []int32{0, 1}) {
		t.Errorf("pods of another namespace are the member's: %v, gated %v", m.Pods, m.Gated)
	}
	alien(mine.Namespace, "a-second", gated)
	if m := s.sees(); !slices.Equal(m.Gated, []int32{0, 1}) {
		t.Errorf("two pods of a rank are two ranks: %v", m.Gated)
	}
	// The first node is full.
	s.provide(0, 3)
	s.settle()
	released := func(namespace, name string) bool {
		pod := &corev1.Pod{}
		if err := s.world.Get(s.Context(), types.NamespacedName{Namespace: namespace, Name: name}, pod); err != nil {
			t.Fatal(err)
		}
		return len(pod.Spec.SchedulingGates) == 0
	}
	if !released(mine.Namespace, "m-0") || !released(mine.Namespace, "m-1") {
		t.Errorf("the pods of the member were not released: %s", s.ready())
	}
	if released("evil", "m-0") || released(mine.Namespace, "a-second") {
		t.Error("a pod was released that is not the member's, or the second of its rank")
	}
}

// TestInterrupted: nothing is decided while a watch is interrupted, and it goes on by itself.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	interrupted := errors.New("the watch of pods is interrupted")
	s.Interrupted = func() error { return interrupted }
	s.pass()
	if n := s.writes.Load(); n > 0 || s.due.IsZero() || testutil.ToFloat64(s.Metrics.putOff) != 1 {
		t.Errorf("%d writes while a watch is interrupted; the next pass is due at %s", n, s.due)
	}
	interrupted = nil
	s.after(interruptedAfter)
	if s.writes.Load() == 0 {
		t.Error("nothing goes on")
	}
}

// TestComing: machines that are well and have no node yet, or one that is not seen yet, are counted by their orders, and a node knows the
// order that it came with.
func TestComing(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.provide(0, 1)
	s.machine(0, func(m *v1alpha1.PoolMachine) { m.Spec.Order.ID = "claim" })
	for name, change := range map[string]func(*v1alpha1.PoolMachine){
		"a": func(*v1alpha1.PoolMachine) {}, "b": func(*v1alpha1.PoolMachine) {},
		"unseen": func(m *v1alpha1.PoolMachine) { m.Status.NodeName = "late" },
		"failed": func(m *v1alpha1.PoolMachine) { m.Status.Failure = &v1alpha1.MachineFailure{} },
		"other":  func(m *v1alpha1.PoolMachine) { m.Spec.Order.ID = "floor" },
		"leaves": func(m *v1alpha1.PoolMachine) { m.Status.LeavingAt = new(metav1.NewMicroTime(noon)) },
	} {
		machine := &v1alpha1.PoolMachine{
			ObjectMeta: metaOf(name), Spec: v1alpha1.PoolMachineSpec{NodePool: "p", Order: v1alpha1.MachineOrder{ID: "claim"}},
		}
		change(machine)
		kept, err := StripMachine(machine)
		if err != nil {
			t.Fatal(err)
		}
		s.create(kept.(*v1alpha1.PoolMachine)) //nolint:errcheck,forcetypeassert // It is one.
	}
	seen, err := s.observer.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int32{"claim": 3, "floor": 1}, seen.pools[0].Coming); diff != "" || seen.nodes[0].Order != "claim" {
		t.Errorf("the node came with order %q; coming are (-want +got):\n%s", seen.nodes[0].Order, diff)
	}
}

// TestFailureWaitsForRecord: a pool that is out of stock is believed when the record of its machine has been seen to say so, as the
// records before it are then seen too; when that record is gone; and after a while without it.
func TestFailureWaitsForRecord(t *testing.T) {
	t.Parallel()
	failure := func(machine string) *v1alpha1.MachineFailure {
		return &v1alpha1.MachineFailure{
			Machine: machine, Time: metav1.NewMicroTime(noon), Class: v1alpha1.FailureOutOfResources, Message: "none is left",
		}
	}
	for name, row := range map[string]struct {
		machines []*v1alpha1.PoolMachine
		noted    []string
		later    time.Duration
		want     bool
	}{
		"no record yet":                  {noted: []string{"x"}},
		"a record that says nothing yet": {noted: []string{"x"}, machines: []*v1alpha1.PoolMachine{{ObjectMeta: metaOf("x")}}},
		"the record says so": {
			noted:    []string{"x"},
			machines: []*v1alpha1.PoolMachine{{ObjectMeta: metaOf("x"), Status: v1alpha1.PoolMachineStatus{Failure: failure("")}}}, want: true,
		},
		"another record says so": {
			noted:    []string{"x", "y"},
			machines: []*v1alpha1.PoolMachine{{ObjectMeta: metaOf("y"), Status: v1alpha1.PoolMachineStatus{Failure: failure("")}}},
		},
		"the record is gone":                {noted: []string{"y"}, want: true},
		"no record for as long as it takes": {noted: []string{"x"}, later: recordsAfter, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, 1)
			s.pool(func(pool *v1alpha1.NodePool) {
				pool.Status.FailedMachines, pool.Status.LastFailure = row.noted, failure("x")
			})
			for _, machine := range row.machines {
				machine.Spec.NodePool = "p"
				s.create(machine)
			}
			s.clock.SetTime(noon.Add(row.later))
			seen, err := s.observer.observe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := !seen.pools[0].OutOfStock.At.IsZero(); got != row.want {
				t.Errorf("believed: %t, not %t", got, row.want)
			}
			if !row.want && !seen.next.Equal(noon.Add(recordsAfter)) {
				t.Errorf("the next pass is at %s, not when the record has had its time", seen.next)
			}
		})
	}
}

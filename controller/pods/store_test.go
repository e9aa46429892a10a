package pods

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// some is a pod of any kind, as it comes from the API server.
func some(random *rand.Rand, name string, version int) *corev1.Pod {
	one := func(n int) bool { return random.IntN(n) == 0 }
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID(fmt.Sprint(name, random.IntN(2))), ResourceVersion: strconv.Itoa(version),
		},
	}
	switch random.IntN(4) {
	case 0:
		pod.OwnerReferences = []metav1.OwnerReference{
			{APIVersion: "batch/v1", Kind: "Job", Name: "j", UID: types.UID(fmt.Sprint("job-", random.IntN(2))), Controller: new(true)},
		}
	case 1:
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", UID: "d", Controller: new(true)}}
	}
	pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewMilliQuantity(random.Int64N(3), resource.DecimalSI), "example.com/gpu": resource.MustParse("2"),
	}}}}
	if one(2) {
		pod.Spec.NodeName = fmt.Sprint("node-", random.IntN(3))
		pod.Status.PodIP, pod.Status.HostIP = fmt.Sprint("10.0.0.", random.IntN(6)), "192.0.2.1"
		pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}, {IP: fmt.Sprint("fd00::", random.IntN(6))}}
		pod.Spec.HostNetwork = one(4)
	} else if one(2) {
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
	}
	if one(4) {
		pod.Status.Phase = corev1.PodSucceeded
	}
	if one(8) {
		pod.DeletionTimestamp = new(metav1.Now())
	}
	return pod
}

// account is what a store says, in plain values.
type account struct {
	At        map[string][]string
	On        map[string][]string
	Requested map[string]plan.Resources
	Daemons   map[string]plan.Resources
	Jobs      map[string][]string
	Gated     []string
}

func newAccount() *account {
	return &account{
		At: map[string][]string{}, On: map[string][]string{}, Requested: map[string]plan.Resources{}, Daemons: map[string]plan.Resources{},
		Jobs: map[string][]string{},
	}
}

func accountOf(s *Store) *account {
	a := newAccount()
	names := func(list []*Pod) (names []string) {
		for _, p := range list {
			names = append(names, p.name)
		}
		slices.Sort(names)
		return names
	}
	put := func(into map[string][]string, key string, list []*Pod) {
		if len(list) > 0 {
			into[key] = names(list)
		}
	}
	for n := range 6 {
		put(a.At, fmt.Sprint("10.0.0.", n), s.At(fmt.Sprint("10.0.0.", n)))
		put(a.At, fmt.Sprint("fd00::", n), s.At(fmt.Sprint("fd00::", n)))
	}
	s.Look(func(v *View) {
		for n := range 3 {
			node := fmt.Sprint("node-", n)
			if requested, daemons := v.Requested(node); requested != nil {
				a.Requested[node] = requested
				if daemons != nil {
					a.Daemons[node] = daemons
				}
			}
		}
		for n := range 2 {
			job := fmt.Sprint("job-", n)
			of, _ := v.Job(JobKey{"ns", types.UID(job)})
			put(a.Jobs, job, slices.Collect(maps.Values(of)))
		}
		a.Gated = names(slices.Collect(maps.Values(v.Gated())))
	})
	for n := range 3 {
		put(a.On, fmt.Sprint("node-", n), s.On(fmt.Sprint("node-", n)))
	}
	return a
}

// countByHand is the same, by hand.
func countByHand(pods map[string]*corev1.Pod, foreign map[string]bool) *account {
	a := newAccount()
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		pod := pods[name]
		ended := pod.Status.Phase == corev1.PodSucceeded
		gated := len(pod.Spec.SchedulingGates) > 0
		owner := metav1.GetControllerOf(pod)
		if owner != nil && owner.Kind == "Job" && (!foreign[string(owner.UID)] || gated) {
			a.Jobs[string(owner.UID)] = append(a.Jobs[string(owner.UID)], name)
		}
		if ended {
			continue
		}
		if gated && pod.DeletionTimestamp == nil {
			a.Gated = append(a.Gated, name)
		}
		node := pod.Spec.NodeName
		if node == "" {
			continue
		}
		a.On[node] = append(a.On[node], name)
		into := []map[string]plan.Resources{a.Requested}
		if owner != nil && owner.Kind == "DaemonSet" {
			into = append(into, a.Daemons)
		}
		for _, sums := range into {
			if sums[node] == nil {
				sums[node] = plan.Resources{}
			}
			sums[node].Add(plan.Resources{"cpu": pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue(), "example.com/gpu": 2, "pods": 1})
		}
		if !pod.Spec.HostNetwork {
			for _, ip := range pod.Status.PodIPs {
				a.At[ip.IP] = append(a.At[ip.IP], name)
			}
		}
	}
	return a
}

// TestStore: whatever happens to pods, and whenever it becomes known whose their Jobs are, the store says what a count by hand does, and
// so does one that is told of all at once. Of pods that are gone nothing is left.
func TestStore(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 7))
		s, there, foreign := New(), map[string]*corev1.Pod{}, map[string]bool{}
		changes := 0
		s.Listen(func(before, after *Pod) {
			if before == nil && after == nil {
				t.Error("a change of nothing is told")
			}
			changes++
		})
		for version := range 120 {
			name := fmt.Sprint("pod-", random.IntN(9))
			switch pod := there[name]; random.IntN(6) {
			case 0:
				if pod != nil {
					delete(there, name)
					if err := s.Delete(pod); err != nil {
						t.Fatal(err)
					}
				}
			case 1:
				job := fmt.Sprint("job-", random.IntN(2))
				if foreign[job] {
					continue // As whose it was that it is known for stays.
				}
				foreign[job] = random.IntN(8) == 0
				if s.judge(JobKey{"ns", types.UID(job)}, foreign[job]) {
					t.Error("pods are to be asked for again")
				}
			default:
				there[name] = some(random, name, version+1)
				if err := s.Update(there[name].DeepCopy()); err != nil {
					t.Fatal(err)
				}
			}
			want := countByHand(there, foreign)
			if diff := cmp.Diff(want, accountOf(s)); diff != "" {
				t.Fatalf("seed %d, step %d (-by hand +store):\n%s", seed, version, diff)
			}
			again := New()
			for job, is := range foreign {
				again.judge(JobKey{"ns", types.UID(job)}, is)
			}
			var all []any
			for _, pod := range there {
				all = append(all, pod.DeepCopy())
			}
			if err := again.Replace(all, ""); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, accountOf(again)); diff != "" {
				t.Fatalf("seed %d, step %d, told of all at once (-by hand +store):\n%s", seed, version, diff)
			}
		}
		if err := s.Replace(nil, ""); err != nil {
			t.Fatal(err)
		}
		if kept := len(s.pods) + len(s.nodes) + len(s.jobs) + len(s.gated) + len(s.addresses) + len(s.shared); kept > 0 || changes == 0 {
			t.Errorf("seed %d: %d things are kept of pods that are gone; %d changes were told", seed, kept, changes)
		}
	}
}

// TestForeignJobs: of the pods of a Job of nobody here little is kept. When it becomes a MiniCluster's all pods are asked for again.
func TestForeignJobs(t *testing.T) {
	t.Parallel()
	s := New()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", ResourceVersion: "1",
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "batch/v1", Kind: "Job", Name: "j", UID: "j", Controller: new(true),
		}}}}
	job := JobKey{"ns", "j"}
	hear := func() {
		t.Helper()
		if err := s.Replace([]any{pod.DeepCopy()}, ""); err != nil {
			t.Fatal(err)
		}
	}
	hear()
	if s.Get(types.NamespacedName{Namespace: "ns", Name: "p"}).Detail() == nil {
		t.Fatal("a pod of a Job that is not known yet has no detail")
	}
	s.judge(job, true)
	hear()
	if s.Get(types.NamespacedName{Namespace: "ns", Name: "p"}).Detail() != nil {
		t.Error("a pod of a foreign Job has detail")
	}
	if !s.judge(job, false) {
		t.Error("the pods of a Job that has become a MiniCluster's are not asked for again")
	}
	hear()
	if s.Get(types.NamespacedName{Namespace: "ns", Name: "p"}).Detail() == nil {
		t.Error("a pod of a MiniCluster that was a foreign Job's has no detail")
	}
	s.judge(job, true)
	s.forget(job)
	if len(s.foreign) > 0 {
		t.Error("a Job that is gone is remembered")
	}
}

// TestOtherObjects: what is no pod changes nothing.
func TestOtherObjects(t *testing.T) {
	t.Parallel()
	if err := New().Add(&corev1.Node{}); err == nil {
		t.Error("a node is taken for a pod")
	}
}

// TestJobOfTheSameName: of a Job that another one has followed under its name, during a gap in the watch, nothing is kept.
func TestJobOfTheSameName(t *testing.T) {
	t.Parallel()
	f := &feed{store: New(), again: make(chan struct{}, 1)}
	job := func(uid types.UID) *batchv1.Job {
		return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "job", UID: uid}}
	}
	f.judge(job("a"))
	f.changed(job("a"), job("b"))
	if f.store.isForeign(JobKey{"ns", "a"}) || !f.store.isForeign(JobKey{"ns", "b"}) {
		t.Errorf("foreign are %v", f.store.foreign)
	}
	f.forget(job("b"))
	if len(f.store.foreign) > 0 {
		t.Errorf("of Jobs that are gone is kept %v", f.store.foreign)
	}
}

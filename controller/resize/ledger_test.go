package resize

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// crowd is a few nodes and members with pods of all kinds that come, change and go, and an observer that hears of some of it late.
type crowd struct {
	*testing.T
	*lists
	random  *rand.Rand
	version int
	// size is that of the members.
	size  int32
	there map[types.NamespacedName]*corev1.Pod
	// heard are the pods as the observer has been told of them: in order for each, and late.
	heard map[types.NamespacedName]*corev1.Pod
}

func newCrowd(t *testing.T, seed uint64) *crowd {
	t.Helper()
	l := cluster(2, 1, 5)
	l.pods, l.jobs[1].Namespace = nil, "default"
	l.namespaces = []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": "a"}}}}
	for i := range l.jobs {
		l.jobs[i].Name = l.clusters[i].GetName()
	}
	c := &crowd{
		T: t, lists: l, random: rand.New(rand.NewPCG(seed, 1)), there: map[types.NamespacedName]*corev1.Pod{},
		heard: map[types.NamespacedName]*corev1.Pod{},
	}
	c.resize(4)
	return c
}

// resize gives the MiniClusters another size.
func (c *crowd) resize(size int32) {
	c.size = size
	c.version++
	for i := range c.clusters {
		changed := c.clusters[i].DeepCopy()
		changed.Object["spec"] = map[string]any{"size": int64(size), "maxSize": int64(9)}
		changed.SetResourceVersion(strconv.Itoa(c.version))
		c.clusters[i] = *changed
	}
}

func pick[T any](c *crowd, of ...T) T { return of[c.random.IntN(len(of))] }

func (c *crowd) one(n int) bool { return c.random.IntN(n) == 0 }

// step lets something happen to one of the pods.
func (c *crowd) step() {
	key := types.NamespacedName{Namespace: pick(c, "default", "default", "default", "evil"), Name: fmt.Sprintf("pod-%d", c.random.IntN(14))}
	c.version++
	before := c.there[key]
	switch {
	case before == nil || c.one(12):
		// Of the same name, and another one.
		c.there[key] = c.pod(key)
	case c.one(5):
		delete(c.there, key)
	default:
		c.there[key] = c.changed(before)
	}
}

func (c *crowd) pod(key types.NamespacedName) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: key.Namespace, Name: key.Name, UID: types.UID(
			fmt.Sprintf("%s-%d", key.Name, c.version),
		), ResourceVersion: strconv.Itoa(c.version),
		CreationTimestamp: metav1.NewTime(noon),
	}}
	owner := pick(c, []string{"batch/v1", "Job", "job-0"}, []string{"batch/v1", "Job", "job-0"}, []string{"batch/v1", "Job", "job-1"},
		[]string{"batch/v1", "Job", "job-7"},
		[]string{"evil.io/v1", "Job", "job-0"}, []string{"batch/v1", "CronJob", "job-0"}, []string{"apps/v1", "DaemonSet", "d"}, nil)
	if owner != nil {
		pod.OwnerReferences = []metav1.OwnerReference{
			{APIVersion: owner[0], Kind: owner[1], Name: owner[2], UID: types.UID(owner[2]), Controller: new(true)},
		}
	}
	pod.Labels = map[string]string{
		batchv1.JobCompletionIndexAnnotation: strconv.Itoa(c.random.IntN(5)), v1alpha1.LabelMember: "m", "other": "x",
	}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewMilliQuantity(int64(1+c.random.IntN(900)), resource.DecimalSI),
	}}}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "i", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewMilliQuantity(int64(1+c.random.IntN(900)), resource.DecimalSI),
	}}}}
	if c.one(2) {
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
	} else if c.one(2) {
		pod.Spec.NodeName = c.node()
	}
	return pod
}

func (c *crowd) node() string { return fmt.Sprintf("node-%d", c.random.IntN(6)) }

// changed is a pod a step later in its life.
func (c *crowd) changed(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.ResourceVersion = strconv.Itoa(c.version)
	switch {
	case c.one(6):
		pod.DeletionTimestamp = new(metav1.NewTime(noon))
	case len(pod.Spec.SchedulingGates) > 0:
		pod.Spec.SchedulingGates = nil
		pod.Annotations = map[string]string{v1alpha1.AnnotationNode: c.node()}
	case pod.Spec.NodeName == "":
		pod.Spec.NodeName = c.node()
	case pod.Status.Phase == "":
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: pick(c, corev1.ConditionTrue, corev1.ConditionFalse)}}
	default:
		pod.Status.Phase = pick(c, corev1.PodSucceeded, corev1.PodFailed, corev1.PodRunning)
	}
	return pod
}

// hear tells an observer of what has become of a pod, as its watch does: changes that were missed are one, a pod that was made
// again under its name is a change, and of the end of one what was known of it may be old.
func (c *crowd) hear(key types.NamespacedName, o *observer) {
	c.Helper()
	store := o.ledger.store
	now, before := c.there[key], c.heard[key]
	var err error
	switch {
	case now == nil && before == nil:
	case now == nil:
		err = store.Delete(before.DeepCopy())
	case before == nil:
		err = store.Add(now.DeepCopy())
	default:
		err = store.Update(now.DeepCopy())
	}
	if err != nil {
		c.Fatal(err)
	}
	if now == nil {
		delete(c.heard, key)
	} else {
		c.heard[key] = now.DeepCopy()
	}
}

// account is what a pass knows of pods, in plain values.
type account struct {
	Requested, Daemons map[string]plan.Resources
	Members            map[string]memberAccount
	Strays             []string
}

type memberAccount struct {
	Pods                      []string
	Gated, Succeeded, Lacking []int32
	Running, Pending          int32
	Requests                  int64
}

// of is what an observer makes of it.
func (c *crowd) of(o *observer) *account {
	c.Helper()
	s, err := o.observe(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	a := &account{Requested: map[string]plan.Resources{}, Daemons: map[string]plan.Resources{}, Members: map[string]memberAccount{}}
	for i := range s.nodes {
		n := &s.nodes[i]
		if len(n.Requested) > 0 {
			a.Requested[n.Name] = n.Requested
		}
		if len(n.Daemons) > 0 {
			a.Daemons[n.Name] = n.Daemons
		}
	}
	observed := s.values()
	for i := range observed.Members {
		m := &observed.Members[i]
		of := memberAccount{Running: m.Running, Pending: s.entries[m.Key].groups[0].ranks.pending, Requests: m.PodRequests[corev1.ResourceCPU]}
		for _, p := range m.Pods {
			of.Pods = append(of.Pods, fmt.Sprintf("%d on %s, released %t", p.Index, p.Node, p.Released))
		}
		slices.Sort(of.Pods)
		of.Gated, of.Succeeded, of.Lacking = slices.Sorted(slices.Values(m.Gated)), slices.Sorted(slices.Values(m.Succeeded)),
			slices.Sorted(slices.Values(m.Lacking))
		a.Members[m.Key.Name] = of
	}
	for _, pod := range s.strays {
		a.Strays = append(a.Strays, pod.Key().String())
	}
	slices.Sort(a.Strays)
	return a
}

// recount is the same, counted by hand from what there is.
func (c *crowd) recount() *account {
	a := &account{Requested: map[string]plan.Resources{}, Daemons: map[string]plan.Resources{}, Members: map[string]memberAccount{}}
	nodes := map[string]bool{}
	for i := range c.nodes {
		nodes[c.nodes[i].Name] = true
	}
	add := func(to map[string]plan.Resources, node string, cpu int64) {
		if !nodes[node] {
			return
		}
		if to[node] == nil {
			to[node] = plan.Resources{}
		}
		to[node][corev1.ResourceCPU] += cpu
		to[node][corev1.ResourcePods]++
	}
	owners := map[string]string{}
	for i := range c.jobs {
		owners[string(c.jobs[i].UID)] = c.jobs[i].Name
	}
	type rank struct{ present, running, succeeded bool }
	ranks, members := map[string]map[int32]*rank{}, map[string]*memberAccount{}
	for i := range c.clusters {
		name := c.clusters[i].GetName()
		ranks[name], members[name] = map[int32]*rank{}, &memberAccount{}
	}
	for _, pod := range c.there {
		cpu := max(pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue(), pod.Spec.InitContainers[0].Resources.Requests.Cpu().MilliValue())
		over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		node := pod.Spec.NodeName
		if node != "" && !over {
			add(a.Requested, node, cpu)
			if len(pod.OwnerReferences) > 0 && pod.OwnerReferences[0].Kind == "DaemonSet" {
				add(a.Daemons, node, cpu)
			}
		}
		gated, goes := len(pod.Spec.SchedulingGates) > 0, pod.DeletionTimestamp != nil
		m := ""
		if len(pod.OwnerReferences) > 0 && pod.OwnerReferences[0].APIVersion == "batch/v1" && pod.OwnerReferences[0].Kind == "Job" &&
			pod.Namespace == "default" {
			m = owners[string(pod.OwnerReferences[0].UID)]
		}
		of := members[m]
		if of == nil {
			if gated && !goes && !over {
				a.Strays = append(a.Strays, pod.Namespace+"/"+pod.Name)
			}
			continue
		}
		index := indexOf(pod)
		r := ranks[m][index]
		if r == nil {
			r = &rank{}
			ranks[m][index] = r
		}
		to, released := node, false
		if node == "" && !gated {
			to = pod.Annotations[v1alpha1.AnnotationNode]
			released = to != ""
		}
		r.succeeded = r.succeeded || pod.Status.Phase == corev1.PodSucceeded
		if over || (goes && (to == "" || released)) {
			continue
		}
		r.present = true
		if !goes {
			of.Requests = max(of.Requests, cpu)
		}
		switch {
		case gated:
			of.Gated = append(of.Gated, index)
			continue
		case to == "":
			of.Pending++
			continue
		case released:
			add(a.Requested, to, cpu)
		}
		r.running = r.running || (!goes && pod.Status.Phase == corev1.PodRunning && pod.Status.Conditions[0].Status == corev1.ConditionTrue)
		of.Pods = append(of.Pods, fmt.Sprintf("%d on %s, released %t", index, to, released))
	}
	for name, of := range members {
		for index, r := range ranks[name] {
			if r.succeeded && !r.present {
				of.Succeeded = append(of.Succeeded, index)
			}
			if r.running && index < c.size {
				of.Running++
			}
		}
		for index := range c.size {
			if r := ranks[name][index]; r == nil || (!r.present && !r.succeeded) {
				of.Lacking = append(of.Lacking, index)
			}
		}
		if owners["job-0"] != name && owners["job-1"] != name {
			// Without its Job nothing is known of its pods.
			*of = memberAccount{}
			for index := range c.size {
				of.Lacking = append(of.Lacking, index)
			}
		} else {
			of.Requests = max(of.Requests, 3000)
		}
		slices.Sort(of.Pods)
		slices.Sort(of.Gated)
		slices.Sort(of.Succeeded)
		of.Gated = slices.Compact(of.Gated)
		a.Members[name] = *of
	}
	slices.Sort(a.Strays)
	return a
}

// TestLedger: whatever happens to pods, in whatever order and how late it is heard, the ledger knows what a recount of all of them
// finds, and so does a new one that is told of all at once. Jobs become known after their pods, and are gone before them.
func TestLedger(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		c := newCrowd(t, seed)
		o := c.observer()
		jobs := slices.Clone(c.jobs)
		for round := range 40 {
			for range 1 + c.random.IntN(8) {
				c.step()
				if c.one(2) {
					// What it does not hear of now it hears of later, together with what has happened since.
					c.hear(pick(c, slices.SortedFunc(maps.Keys(c.there), byName)...), o)
				}
			}
			if c.one(4) {
				c.resize(pick(c, int32(3), 4, 5))
			}
			if c.one(4) {
				c.jobs = pick(c, jobs, jobs, jobs[:1], jobs[1:], nil)
			}
			for _, key := range slices.SortedFunc(maps.Keys(c.all()), byName) {
				c.hear(key, o)
			}
			want := c.recount()
			if diff := cmp.Diff(want, c.of(o)); diff != "" {
				t.Fatalf("seed %d, round %d: the ledger knows something else than a recount finds (-recount +ledger):\n%s", seed, round, diff)
			}
			fresh := newObserver(member.Kinds{minicluster.Kind{}}, c.lists, pods.New(), atNoon(), newNotMade(nil, func(string) {}))
			for _, pod := range c.there {
				tell(t, fresh.ledger.store, pod.DeepCopy())
			}
			if diff := cmp.Diff(want, c.of(fresh)); diff != "" {
				t.Fatalf("seed %d, round %d: a new ledger knows something else than a recount finds (-recount +ledger):\n%s", seed, round, diff)
			}
			if kept := len(o.ledger.members); kept != len(fresh.ledger.members) {
				t.Fatalf("seed %d, round %d: the ledger keeps what is gone", seed, round)
			}
		}
	}
}

// all are the pods that are there, or that the observer believes to be.
func (c *crowd) all() map[types.NamespacedName]*corev1.Pod {
	all := maps.Clone(c.there)
	maps.Copy(all, c.heard)
	return all
}

func byName(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }

// TestLedgerBesidePasses: events come while passes run, and what a pass has got does not change any more.
func TestLedgerBesidePasses(t *testing.T) {
	t.Parallel()
	l := cluster(3, 1, 20)
	o := l.observer()
	var wait sync.WaitGroup
	wait.Go(func() {
		for n := range 500 {
			pod := l.pods[n%len(l.pods)].DeepCopy()
			pod.ResourceVersion, pod.Spec.NodeName = strconv.Itoa(n+2), fmt.Sprintf("node-%d", n%20)
			if n%7 == 0 {
				_ = o.ledger.store.Delete(pod)
			} else {
				_ = o.ledger.store.Update(pod)
			}
			o.ledger.store.Look(func(v *pods.View) { _ = v.Version(client.ObjectKeyFromObject(pod)) })
		}
	})
	for range 50 {
		s, err := o.observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		plan.Plan(s.values(), noon)
	}
	wait.Wait()
}

// TestIsMiniCluster: the owner of a Job is a MiniCluster by its kind and its group.
func TestIsMiniCluster(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"flux-framework.org/v1alpha2": true, "flux-framework.org/v1": true, "evil.io/v1": false, "v1": false,
	} {
		if got := minicluster.Is(&metav1.OwnerReference{APIVersion: version, Kind: "MiniCluster"}); got != want {
			t.Errorf("a MiniCluster of %s: %t, want %t", version, got, want)
		}
	}
	if minicluster.Is(nil) || minicluster.Is(&metav1.OwnerReference{APIVersion: "flux-framework.org/v1alpha2", Kind: "Other"}) {
		t.Error("what is no MiniCluster is taken for one")
	}
}

// TestBehindWhenRead: a pass is put off when it has read a pod as it was before this process wrote it, also where the ledger has heard of
// the write by the time that this is asked. It would give the node that the pod was released for to another one.
func TestBehindWhenRead(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "m-0", UID: "u", ResourceVersion: "7",
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "batch/v1", Kind: "Job", Name: "m", UID: "j", Controller: new(true),
		}}}}
	released := pod.DeepCopy()
	released.ResourceVersion = "8"
	tell(t, s.observer.ledger.store, pod)
	s.Reconciler.writes.note(podWritten(released), released)
	seen, err := s.observer.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tell(t, s.observer.ledger.store, released)
	if s.Reconciler.writes.behind(seen) == "" {
		t.Error("a pass goes on that has read the pod as it was before its release")
	}
	if seen, err = s.observer.observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if behind := s.Reconciler.writes.behind(seen); behind != "" {
		t.Errorf("the next pass is put off too: behind by %s", behind)
	}
}

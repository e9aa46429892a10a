package resize

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/crew"
)

var ofCrew = types.NamespacedName{Namespace: mine.Namespace, Name: "crew.g"}

// withCrew is a scene with a Crew g and its Jobs, in place of the MiniCluster.
func withCrew(t *testing.T, groups ...crew.Group) *scene {
	t.Helper()
	s := newScene(t, 1)
	s.Kinds = member.Kinds{minicluster.Kind{}, crew.Kind{}}
	s.begin()
	cluster := minicluster.New()
	cluster.SetNamespace(mine.Namespace)
	cluster.SetName(mine.Name)
	s.remove(cluster)
	s.remove(&batchv1.Job{ObjectMeta: metaIn(mine.Name)})
	g := crew.New(mine.Namespace, "g", "p", groups...)
	s.create(g)
	jobs, err := crew.Jobs(g, containers())
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs {
		s.create(job)
	}
	return s
}

// leaderAndWorkers are two groups that come by single pods.
func leaderAndWorkers() []crew.Group {
	return []crew.Group{{Name: "leader", Size: 1, Max: 1}, {Name: "workers", Size: 2, Max: 8}}
}

// crew is the Crew as it is, after a change of it; nil is none.
func (s *scene) crew(change func(*unstructured.Unstructured)) *member.Workload {
	s.Helper()
	g := crew.Reference(mine.Namespace, "g")
	if err := s.world.Get(s.Context(), client.ObjectKeyFromObject(g), g); err != nil {
		s.Fatal(err)
	}
	if change != nil {
		change(g)
		g.SetGeneration(g.GetGeneration() + 1)
		if err := s.world.Update(s.Context(), g); err != nil {
			s.Fatal(err)
		}
	}
	w, err := crew.Kind{}.Parse(g)
	if err != nil {
		s.Fatal(err)
	}
	return w
}

// crewPods makes the gated pods of a group with the ranks, as its Jobs do.
func (s *scene) crewPods(group string, from, to, unit int) {
	s.Helper()
	for rank := from; rank < to; rank++ {
		job := &batchv1.Job{}
		name := types.NamespacedName{Namespace: mine.Namespace, Name: fmt.Sprintf("g-%s-%d", group, rank%unit)}
		if err := s.world.Get(s.Context(), name, job); err != nil {
			s.Fatal(err)
		}
		labels := maps.Clone(job.Spec.Template.Labels)
		labels[batchv1.JobCompletionIndexAnnotation] = fmt.Sprint(rank / unit)
		s.create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: mine.Namespace, Name: fmt.Sprintf("g-%s-%d", group, rank), Labels: labels,
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
			},
			Spec: job.Spec.Template.Spec,
		})
	}
}

func (s *scene) crewMember() *v1alpha1.EnsembleMember {
	s.Helper()
	m := &v1alpha1.EnsembleMember{}
	if err := s.world.Get(s.Context(), ofCrew, m); err != nil {
		s.Fatal(err)
	}
	return m
}

// desireOf sets the desired size of a group.
func (s *scene) desireOf(group string, size int32) {
	s.Helper()
	m := s.crewMember()
	v1alpha1.SetGroupSize(m, group, size)
	m.Generation++
	if err := s.world.Update(s.Context(), m); err != nil {
		s.Fatal(err)
	}
}

// account is what the member of the Crew says of its groups, and its Ready condition.
func (s *scene) account() []string {
	s.Helper()
	m := s.crewMember()
	status := &m.Status
	out := []string{fmt.Sprintf(
		"%d of %d, %d reserved, %d ready, %d running", status.Size, m.Spec.Size, status.Reserved, status.Nodes, status.Running,
	)}
	for _, g := range m.Status.Groups {
		held := 0
		for _, r := range g.Reservations {
			held += len(r.Held)
		}
		out = append(out, fmt.Sprintf(
			"%s: %d of %d, %d reserved, %d held, %d running", g.Name, g.Size, v1alpha1.GroupOf(m, g.Name).Size, g.Reserved, held, g.Running,
		))
	}
	for _, c := range m.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			out = append(out, string(c.Status)+": "+c.Message)
		}
	}
	return out
}

func (s *scene) accounts(when string, want ...string) {
	s.Helper()
	if diff := cmp.Diff(want, s.account()); diff != "" {
		s.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// TestGroupsComeTogether: the groups of a workload grow together. No pod of any of them is released before the nodes of all are Ready, all
// sizes are given in one write that says they are the controller's, and each group says how it is.
func TestGroupsComeTogether(t *testing.T) {
	t.Parallel()
	s := withCrew(t, leaderAndWorkers()...)
	s.crewPods("leader", 0, 1, 1)
	s.crewPods("workers", 0, 2, 1)
	s.settle()
	if m := s.crewMember(); m.Status.Reserved != 3 || len(m.Status.Groups) != 2 || m.Status.Reservations[0].Nodes != 3 {
		t.Fatalf("reserved are %d for %d groups: %q", m.Status.Reserved, len(m.Status.Groups), s.account())
	}
	s.provide(0, 2)
	s.settle()
	if bound := s.bind(); bound != 0 {
		t.Errorf("%d pods were released before the nodes of all were there", bound)
	}
	s.provide(2, 3)
	s.settle()
	if bound := s.bind(); bound != 3 {
		t.Fatalf("%d of 3 pods were released: %q", bound, s.account())
	}
	s.settle()
	s.accounts(
		"with its first sizes", "3 of 3, 3 reserved, 3 ready, 3 running", "leader: 1 of 1, 1 reserved, 1 held, 1 running",
		"workers: 2 of 2, 2 reserved, 2 held, 2 running", "True: group leader: at size 1; group workers: at size 2",
	)

	s.after(time.Minute)
	s.desireOf("workers", 4)
	s.settle()
	s.provide(3, 4)
	s.settle()
	if sizes := s.crew(nil).Sizes().String(); sizes != "leader=1,workers=2" {
		t.Errorf("with one of two more nodes the sizes are %s", sizes)
	}
	s.provide(4, 5)
	s.settle()
	if w := s.crew(nil); w.Sizes().String() != "leader=1,workers=4" || !w.Applied.Same(w.Sizes()) {
		t.Errorf("with both the sizes are %s, and %s are the controller's", w.Sizes(), w.Applied)
	}
	s.crewPods("workers", 2, 4, 1)
	s.settle()
	s.bind()
	s.settle()
	s.accounts(
		"grown", "5 of 5, 5 reserved, 5 ready, 5 running", "leader: 1 of 1, 1 reserved, 1 held, 1 running",
		"workers: 4 of 4, 4 reserved, 4 held, 4 running", "True: group leader: at size 1; group workers: at size 4",
	)
	if told := s.toldOf(v1alpha1.ReasonResizing); len(told) != 1 || strings.Count(told[0], "group workers") != 1 {
		t.Errorf("that the workers grow is told as %q", told)
	}

	s.after(time.Minute)
	s.desireOf("workers", 3)
	s.settle()
	s.remove(&corev1.Pod{ObjectMeta: metaIn("g-workers-3")})
	s.settle()
	s.accounts(
		"shrunk", "4 of 4, 4 reserved, 4 ready, 4 running", "leader: 1 of 1, 1 reserved, 1 held, 1 running",
		"workers: 3 of 3, 3 reserved, 3 held, 3 running", "True: group leader: at size 1; group workers: at size 3",
	)
	m := s.crewMember()
	reasons := make([]string, 0, len(m.Status.Decisions))
	for _, d := range m.Status.Decisions {
		if d.Reason == v1alpha1.ReasonResized {
			reasons = append(reasons, d.Message)
		}
	}
	if want := []string{
		"the Crew has size leader=1,workers=4 now, after leader=1,workers=2",
		"the Crew has size leader=1,workers=3 now, after leader=1,workers=4",
	}; !slices.Equal(reasons, want) {
		t.Errorf("resizes are told as %q, want %q", reasons, want)
	}
}

// TestJobsThatAreMadeUp: whoever may create Jobs can have one say that it is of a group that there is none of, or one more of a group than
// there are. Its pods are no ranks of the member.
func TestJobsThatAreMadeUp(t *testing.T) {
	t.Parallel()
	workers := crew.Group{Name: "workers", Size: 2, Max: 8}
	for name, row := range map[string]struct {
		groups []crew.Group
		job    string
		// bound are the pods of the Jobs that there are.
		bound int
	}{
		"one Job more of a group":               {leaderAndWorkers(), "g-workers-1", 2},
		"a group that there is none of":         {leaderAndWorkers(), "g-zzz-0", 2},
		"the same, where there is an only one":  {[]crew.Group{workers}, "g-zzz-0", 1},
		"one more of the only group that it is": {[]crew.Group{workers}, "g-workers-1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := withCrew(t, row.groups...)
			if len(row.groups) > 1 {
				s.crewPods("leader", 0, 1, 1)
			}
			s.crewPods("workers", 0, 1, 1)
			own, forged := &batchv1.Job{}, &batchv1.Job{ObjectMeta: metaIn(row.job)}
			if err := s.world.Get(s.Context(), types.NamespacedName{Namespace: mine.Namespace, Name: "g-workers-0"}, own); err != nil {
				t.Fatal(err)
			}
			forged.OwnerReferences, forged.Spec = own.OwnerReferences, own.Spec
			s.create(forged)
			labels := maps.Clone(own.Spec.Template.Labels)
			labels[batchv1.JobCompletionIndexAnnotation] = "1"
			s.create(&corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: mine.Namespace, Name: "forged", Labels: labels,
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(forged, batchv1.SchemeGroupVersion.WithKind("Job"))},
				},
				Spec: own.Spec.Template.Spec,
			})
			s.settle()
			s.provide(0, 3)
			s.settle()
			if bound := s.bind(); bound != row.bound {
				t.Errorf("%d pods were released, not the %d of its own Jobs", bound, row.bound)
			}
		})
	}
}

// TestGroupsOutlastARestart: what was recorded of each group is known to the next process: it writes nothing.
func TestGroupsOutlastARestart(t *testing.T) {
	t.Parallel()
	s := withCrew(t, leaderAndWorkers()...)
	s.crewPods("leader", 0, 1, 1)
	s.crewPods("workers", 0, 2, 1)
	s.settle()
	s.provide(0, 2)
	s.settle()
	before := s.crewMember()
	if before.Status.Growth == nil || before.Status.Groups[1].Growth == nil {
		t.Fatalf("nothing grows: %q", s.account())
	}
	s.begin()
	writes := s.writes.Load()
	s.hear()
	s.settle()
	if after := s.crewMember(); after.ResourceVersion != before.ResourceVersion || s.writes.Load() != writes {
		t.Errorf("after a restart %d writes were made (-before +after):\n%s", s.writes.Load()-writes, cmp.Diff(before.Status, after.Status))
	}
}

// TestEditOfAGroup: sizes that a user has written into the workload are the desired ones of their groups.
func TestEditOfAGroup(t *testing.T) {
	t.Parallel()
	s := withCrew(t, leaderAndWorkers()...)
	s.settle()
	s.crew(func(u *unstructured.Unstructured) {
		crew.SetGroups(u, crew.Group{Name: "leader", Size: 1, Max: 1}, crew.Group{Name: "workers", Size: 5, Max: 8})
	})
	s.settle()
	m := s.crewMember()
	request := m.Spec.Request
	if m.Spec.Size != 6 || v1alpha1.GroupOf(m, "workers").Size != 5 || request == nil || request.Action != v1alpha1.RequestAdopt ||
		request.Amount != 3 || request.Size != 6 {
		t.Errorf("desired is %d, of groups %+v, by %+v", m.Spec.Size, m.Spec.Groups, m.Spec.Request)
	}
	want := "a user set the size of the Crew to leader=1,workers=5; that is the desired size now, in place of leader=1,workers=2"
	if told := s.toldOf(v1alpha1.ReasonAdopted); len(told) != 1 || !strings.Contains(told[0], want) {
		t.Errorf("told is %q, want %q", told, want)
	}
	if w := s.crew(nil); w.Applied.String() != "leader=1,workers=5" {
		t.Errorf("the sizes that are known are %s", w.Applied)
	}
}

// TestEditBesideARequest: an edit of one group leaves what was asked for of another one, which has yet to get its nodes.
func TestEditBesideARequest(t *testing.T) {
	t.Parallel()
	s := withCrew(t, crew.Group{Name: "drivers", Size: 1, Max: 4}, crew.Group{Name: "workers", Size: 2, Max: 8})
	s.settle()
	s.crew(func(u *unstructured.Unstructured) {
		u.SetAnnotations(map[string]string{
			v1alpha1.AnnotationNodePools: "p", v1alpha1.AnnotationAppliedSize: "drivers=1,workers=2",
		})
	})
	s.settle()
	s.desireOf("drivers", 3)
	s.settle()
	s.crew(func(u *unstructured.Unstructured) {
		crew.SetGroups(u, crew.Group{Name: "drivers", Size: 1, Max: 4}, crew.Group{Name: "workers", Size: 5, Max: 8})
	})
	s.settle()
	m := s.crewMember()
	if wanted := desired(m).String(); wanted != "drivers=3,workers=5" || m.Spec.Size != 8 {
		t.Errorf("desired are %s, in all %d", wanted, m.Spec.Size)
	}
	want := "a user set the size of the Crew to drivers=1,workers=5; the desired size is " +
		"drivers=3,workers=5 now, in place of drivers=3,workers=2"
	if told := s.toldOf(v1alpha1.ReasonAdopted); len(told) != 1 || !strings.Contains(told[0], want) {
		t.Errorf("told is %q, want %q", told, want)
	}
}

// TestRanksOfSeveralJobs: the pods of a group that several Jobs make have ranks of their own, and those of one index leave together.
func TestRanksOfSeveralJobs(t *testing.T) {
	t.Parallel()
	s := withCrew(t, crew.Group{Name: "leader", Size: 1, Max: 1}, crew.Group{Name: "workers", Size: 4, Max: 8, Unit: 2})
	s.crewPods("leader", 0, 1, 1)
	s.crewPods("workers", 0, 4, 2)
	s.settle()
	s.hear()
	seen, err := s.observer.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	workers := seen.entries[ofCrew].group("workers")
	if len(workers.jobs) != 2 || !slices.Equal(workers.ranks.gated, []int32{0, 1, 2, 3}) || len(workers.ranks.lacking) > 0 {
		t.Errorf("%d Jobs make %v, and %v are lacking", len(workers.jobs), workers.ranks.gated, workers.ranks.lacking)
	}
	for _, m := range seen.values().Members {
		if m.Group == "workers" && (m.Unit != 2 || m.MinSize != 2 || m.Wants != 4) {
			t.Errorf("the workers come by %d, %d of them at least, and %d are wanted", m.Unit, m.MinSize, m.Wants)
		}
	}
	if unit := v1alpha1.GroupOf(s.crewMember(), "workers").Unit; unit != 2 {
		t.Errorf("the member says that they come by %d", unit)
	}
	s.provide(0, 5)
	s.settle()
	s.bind()
	s.settle()
	s.after(time.Minute)
	s.desireOf("workers", 2)
	s.settle()
	if sizes := s.crew(nil).Sizes().String(); sizes != "leader=1,workers=2" {
		t.Errorf("the sizes are %s", sizes)
	}
}

// TestSuspendedCrew: what a workload says of itself counts, not what one of its Jobs does.
func TestSuspendedCrew(t *testing.T) {
	t.Parallel()
	s := withCrew(t, leaderAndWorkers()...)
	s.settle()
	job := &batchv1.Job{}
	if err := s.world.Get(t.Context(), types.NamespacedName{Namespace: mine.Namespace, Name: "g-leader-0"}, job); err != nil {
		t.Fatal(err)
	}
	job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	s.update(job)
	lives := func() plan.Lifecycle {
		seen, err := s.observer.observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return seen.entries[ofCrew].lifecycle()
	}
	if life := lives(); life != plan.Running {
		t.Errorf("with a leader that has ended the lifecycle is %d", life)
	}
	s.crew(func(u *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(u.Object, true, "spec", "suspend"); err != nil {
			t.Fatal(err)
		}
	})
	if life := lives(); life != plan.Suspended {
		t.Errorf("suspended, the lifecycle is %d", life)
	}
}

// TestMembersFromBeforeGroups: a member that was made before there were groups needs no conversion. It has none, and its status is written
// and read as before.
func TestMembersFromBeforeGroups(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	s.run(2)
	m := s.member()
	if m.Spec.Groups != nil || m.Status.Groups != nil || m.Spec.Unit != 0 {
		t.Errorf("a MiniCluster has groups %+v and %+v, which come by %d", m.Spec.Groups, m.Status.Groups, m.Spec.Unit)
	}
	version := m.ResourceVersion
	s.begin()
	s.settle()
	if m := s.member(); m.ResourceVersion != version {
		t.Errorf("it is written again: %+v", m.Status)
	}
}

// TestGroupsDropped: where the definition in the cluster has targets and drops groups, no member of a workload with several is made, and one
// that is there is left as it is. That is said once.
func TestGroupsDropped(t *testing.T) {
	t.Parallel()
	dropping := func(s *scene, changes *int) {
		s.targets.Store(true)
		s.Client = interceptor.NewClient(s.world, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if m, is := o.(*v1alpha1.EnsembleMember); is {
					m.Spec.Groups = nil
				}
				return c.Create(ctx, o, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				m, is := o.(*v1alpha1.EnsembleMember)
				if is && len((&client.PatchOptions{}).ApplyOptions(opts).DryRun) == 0 {
					*changes++
				}
				err := c.Patch(ctx, o, p, opts...)
				if is {
					m.Spec.Groups = nil
				}
				return err
			},
		})
	}
	said := func(s *scene) {
		t.Helper()
		for range 3 {
			s.pass()
		}
		if told := s.toldOf(v1alpha1.ReasonInvalid); len(told) != 1 || !strings.Contains(told[0], "an older one without spec.groups") {
			t.Errorf("told is %q", told)
		}
	}
	fresh, changes := withCrew(t, leaderAndWorkers()...), 0
	dropping(fresh, &changes)
	said(fresh)
	if err := fresh.world.Get(t.Context(), ofCrew, &v1alpha1.EnsembleMember{}); !apierrors.IsNotFound(err) {
		t.Errorf("a member without groups is there: %v", err)
	}

	old := withCrew(t, leaderAndWorkers()...)
	old.settle()
	m := old.crewMember()
	m.Spec.Groups = nil
	if err := old.world.Update(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	dropping(old, &changes)
	said(old)
	if after := old.crewMember(); changes != 0 || after.ResourceVersion != m.ResourceVersion {
		t.Errorf("it is written %d times: %+v", changes, after.Spec)
	}
}

// TestTooManyGroups: what cannot be the groups of a member is told once, and nothing is made of it.
func TestTooManyGroups(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		groups []crew.Group
		want   string
	}{
		"two of a name": {[]crew.Group{{Name: "a", Size: 1, Max: 1}, {Name: "a", Size: 1, Max: 1}}, `two groups of pods are called "a"`},
		"no name":       {[]crew.Group{{Name: "a", Size: 1, Max: 1}, {Size: 1, Max: 1}}, `a group of pods is called ""`},
		"too large": {
			[]crew.Group{{Name: "a", Size: 1, Max: 1}, {Name: "b", Size: 1, Max: 1 << 30}}, "the maximum size of group b is 1073741824",
		},
	} {
		s := withCrew(t, row.groups[0])
		s.crew(func(u *unstructured.Unstructured) { crew.SetGroups(u, row.groups...) })
		s.settle()
		if told := s.toldOf(v1alpha1.ReasonInvalid); len(told) != 1 || !strings.Contains(told[0], row.want) {
			t.Errorf("%s: told is %q, want %q", name, told, row.want)
		}
	}
}

// loose are Crews whose pods no Job makes, and leave by name.
type loose struct{ crew.Kind }

func (loose) Leaves() plan.Leaves { return plan.Named }

func (loose) Owner(metav1.Object) *member.Owner { return nil }

func (loose) JobOf(string, string) string { return "" }

// TestPodsOfNoJob: pods that no Job has made are known by their labels, whatever they are called, and leave by their names.
func TestPodsOfNoJob(t *testing.T) {
	t.Parallel()
	s := withCrew(t, leaderAndWorkers()...)
	s.Kinds = member.Kinds{minicluster.Kind{}, loose{}}
	s.begin()
	s.settle()
	job := &batchv1.Job{}
	for group, names := range map[string][]string{"leader": {"head"}, "workers": {"worker-x", "worker-a"}} {
		if err := s.world.Get(t.Context(), types.NamespacedName{Namespace: mine.Namespace, Name: "g-" + group + "-0"}, job); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			pod := &corev1.Pod{ObjectMeta: metaIn(name), Spec: job.Spec.Template.Spec}
			pod.Labels = job.Spec.Template.Labels
			s.create(pod)
		}
	}
	s.hear()
	seen, err := s.observer.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := seen.entries[ofCrew]
	if got := e.group("workers").ranks; !slices.Equal(got.gated, []int32{0, 1}) || got.nameOf(0) != "worker-a" || got.nameOf(1) != "worker-x" {
		t.Errorf("the workers are %v, called %v", got.gated, got.names)
	}
	if len(seen.strays) > 0 {
		t.Errorf("%d pods are nobody's", len(seen.strays))
	}
	v := memberDecision{e: e, groups: []plan.Decision{{Group: "leader"}, {Group: "workers", Resize: 1, Leave: []int32{1}}}}
	change := v.change()
	if change.Sizes.String() != "leader=1,workers=1" || len(change.Leave) != 1 ||
		!slices.Equal(change.Leave["workers"], []string{"worker-x"}) {
		t.Errorf("the change is %s, and %v leave", change.Sizes, change.Leave)
	}
	s.provide(0, 3)
	s.settle()
	if bound := s.bind(); bound != 3 {
		t.Errorf("%d of 3 pods were released: %q", bound, s.account())
	}
	s.settle()
	s.accounts(
		"with its first sizes", "3 of 3, 3 reserved, 3 ready, 3 running", "leader: 1 of 1, 1 reserved, 1 held, 1 running",
		"workers: 2 of 2, 2 reserved, 2 held, 2 running", "True: group leader: at size 1; group workers: at size 2",
	)
}

package resize

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/job"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// sweep is an Indexed Job of a size that is to be managed.
func sweep(size int32) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metaIn("sweep"), Spec: batchv1.JobSpec{
		Parallelism: &size, Completions: &size, CompletionMode: new(batchv1.IndexedCompletion),
	}}
	j.Annotations = map[string]string{v1alpha1.AnnotationNodePools: "p", v1alpha1.AnnotationMaxSize: "9"}
	j.Spec.Template.Spec.Containers = containers()
	return j
}

var ofSweep = types.NamespacedName{Namespace: mine.Namespace, Name: "job.sweep"}

// withJobs is a scene in which Jobs are managed too.
func withJobs(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, 2)
	s.Kinds = member.Kinds{minicluster.Kind{}, job.Kind{}}
	s.begin()
	return s
}

// TestJobIsMember: a Job that is to be managed gets a member that says so, and is the Job of its pods by itself. The Job of the MiniCluster
// is none beside it, whatever its annotations say.
func TestJobIsMember(t *testing.T) {
	t.Parallel()
	s := withJobs(t)
	s.create(sweep(3))
	var made batchv1.Job
	if err := s.world.Get(t.Context(), mine, &made); err != nil {
		t.Fatal(err)
	}
	made.Annotations = map[string]string{v1alpha1.AnnotationNodePools: "p"}
	if err := s.world.Update(t.Context(), &made); err != nil {
		t.Fatal(err)
	}
	s.settle()
	var members v1alpha1.EnsembleMemberList
	if err := s.world.List(t.Context(), &members); err != nil {
		t.Fatal(err)
	}
	got := map[string]v1alpha1.MemberTarget{}
	for i := range members.Items {
		got[members.Items[i].Name] = *members.Items[i].Spec.Target
	}
	want := map[string]v1alpha1.MemberTarget{"m": *mineAsTarget, "job.sweep": {APIVersion: "batch/v1", Kind: "Job", Name: "sweep"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	seen, err := s.observer.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := seen.entries[ofSweep]
	if e.job() == nil || e.job().Name != "sweep" || e.workload.Size() != 3 || e.member.Spec.MaxSize != 9 || e.lifecycle() != plan.Running {
		t.Errorf("the Job is %v, its size %d of %d", e.job(), e.workload.Size(), e.member.Spec.MaxSize)
	}
}

// TestStripIndexedJob: what is kept of a Job in the cache reads as the whole does, as its own workload and as the Job of its pods.
func TestStripIndexedJob(t *testing.T) {
	t.Parallel()
	whole := sweep(3)
	whole.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "much"
	whole.Annotations[v1alpha1.AnnotationMinSize] = "2"
	whole.Spec.Template.Labels = map[string]string{v1alpha1.LabelMember: "job.sweep"}
	whole.Spec.Template.Spec.Containers[0].Image = "i"
	whole.Spec.Template.Spec.NodeSelector = map[string]string{"zone": "a"}
	whole.Spec.Template.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	for name, change := range map[string]func(*batchv1.Job){
		"as it is":        func(*batchv1.Job) {},
		"not Indexed":     func(j *batchv1.Job) { j.Spec.CompletionMode = nil },
		"not elastic":     func(j *batchv1.Job) { j.Spec.Completions = nil },
		"without maximum": func(j *batchv1.Job) { delete(j.Annotations, v1alpha1.AnnotationMaxSize) },
	} {
		before := whole.DeepCopy()
		change(before)
		stripped, err := StripJob(member.Kinds{minicluster.Kind{}, job.Kind{}})(before.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		kept, is := stripped.(*batchv1.Job)
		if !is {
			t.Fatalf("a Job becomes a %T", stripped)
		}
		want, whatsWrong := job.Kind{}.Parse(before)
		got, stillWrong := job.Kind{}.Parse(kept)
		if (whatsWrong == nil) != (stillWrong == nil) || (whatsWrong != nil && whatsWrong.Error() != stillWrong.Error()) {
			t.Errorf("%s: what is wrong is %v, and of what is kept %v", name, whatsWrong, stillWrong)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-whole +kept):\n%s", name, diff)
		}
		if len(kept.Spec.Template.Labels) > 0 || kept.Spec.Template.Spec.Containers[0].Image != "" || len(kept.Annotations) > 3 {
			t.Errorf("%s: what nobody reads is kept: %v, %v", name, kept.Annotations, kept.Spec.Template)
		}
	}
	stripped, err := StripJob(member.Kinds{minicluster.Kind{}})(whole.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	if kept, is := stripped.(*batchv1.Job); !is || kept.Spec.Parallelism != nil || len(kept.Annotations) > 0 {
		t.Errorf("where Jobs are not managed there is kept %v", stripped)
	}
}

// TestJobNeedsTarget: where the definition in the cluster is an older one, which drops the target, no member of a Job is made: it would be
// taken for that of a MiniCluster. That is said once.
func TestJobNeedsTarget(t *testing.T) {
	t.Parallel()
	s := withJobs(t)
	s.Client = interceptor.NewClient(s.world, interceptor.Funcs{Create: func(
		ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption,
	) error {
		if member, is := o.(*v1alpha1.EnsembleMember); is {
			member.Spec.Target = nil
		}
		return c.Create(ctx, o, opts...)
	}})
	s.create(sweep(3))
	for range 4 {
		s.pass()
	}
	var members v1alpha1.EnsembleMemberList
	if err := s.world.List(t.Context(), &members); err != nil {
		t.Fatal(err)
	}
	if len(members.Items) != 1 || members.Items[0].Name != mine.Name {
		t.Errorf("there are %d members, the first %v", len(members.Items), members.Items[0].ObjectMeta)
	}
	if told := s.toldOf(v1alpha1.ReasonInvalid); len(told) != 1 {
		t.Errorf("it was said %d times: %q", len(told), told)
	}
}

// TestJobNoMore: a Job whose annotation goes is left to itself, and its member is deleted.
func TestJobNoMore(t *testing.T) {
	t.Parallel()
	s := withJobs(t)
	s.create(sweep(3))
	s.settle()
	var now batchv1.Job
	if err := s.world.Get(t.Context(), types.NamespacedName{Namespace: mine.Namespace, Name: "sweep"}, &now); err != nil {
		t.Fatal(err)
	}
	delete(now.Annotations, v1alpha1.AnnotationNodePools)
	if err := s.world.Update(t.Context(), &now); err != nil {
		t.Fatal(err)
	}
	s.settle()
	var left v1alpha1.EnsembleMember
	if err := s.world.Get(t.Context(), ofSweep, &left); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the member is there: %v", err)
	}
}

// TestKindNotManaged: a member of a kind that is switched off says so, in one event, and keeps what it has reserved. When the kind is
// switched on again it says what it waits for.
func TestKindNotManaged(t *testing.T) {
	t.Parallel()
	s := withJobs(t)
	s.create(sweep(3))
	s.settle()
	now := func() (*v1alpha1.EnsembleMember, metav1.Condition) {
		t.Helper()
		var of v1alpha1.EnsembleMember
		if err := s.world.Get(t.Context(), ofSweep, &of); err != nil {
			t.Fatal(err)
		}
		ready := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil {
			t.Fatal("it says nothing of itself")
		}
		return &of, *ready
	}
	before, waits := now()
	if before.Status.Reserved != 3 || waits.Reason != v1alpha1.ReasonWaitingForNodes {
		t.Fatalf("it has reserved %d nodes, and is %s", before.Status.Reserved, waits.Reason)
	}

	s.Kinds = member.Kinds{minicluster.Kind{}}
	s.begin()
	s.settle()
	off, says := now()
	if says.Status != metav1.ConditionUnknown || says.Reason != v1alpha1.ReasonKindNotManaged || !strings.Contains(says.Message, "--kinds") ||
		!strings.HasSuffix(says.Message, "or Job sweep is deleted") {
		t.Errorf("switched off it is %s, %s: %s", says.Status, says.Reason, says.Message)
	}
	if diff := cmp.Diff(before.Status.Reservations, off.Status.Reservations); diff != "" {
		t.Errorf("switched off it has reserved (-before +now):\n%s", diff)
	}
	s.begin()
	s.settle()
	if told := s.toldOf(v1alpha1.ReasonKindNotManaged); len(told) != 1 {
		t.Errorf("it was said %d times: %q", len(told), told)
	}

	s.Kinds = member.Kinds{minicluster.Kind{}, job.Kind{}}
	s.begin()
	s.settle()
	if _, again := now(); again.Status != metav1.ConditionFalse || again.Reason != waits.Reason {
		t.Errorf("switched on again it is %s, %s: %s", again.Status, again.Reason, again.Message)
	}
}

// TestWatchedOnce: Jobs make the pods of workloads, and are workloads themselves, and are watched once.
func TestWatchedOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for _, object := range Watched(member.Kinds{minicluster.Kind{}, job.Kind{}}) {
		seen[fmt.Sprintf("%T %s", object, object.GetObjectKind().GroupVersionKind())]++
	}
	for what, times := range seen {
		if times != 1 {
			t.Errorf("%s is watched %d times", what, times)
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d kinds of objects are watched: %v", len(seen), seen)
	}
}

package resize

import (
	"context"
	"net/http"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// train is a JobSet of one Job with two pods.
const train = `
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: train, namespace: ns, generation: 1}
spec:
  replicatedJobs:
  - name: work
    template:
      spec:
        completionMode: Indexed
        parallelism: 2
        completions: 2
        template: {spec: {containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}]}}
`

var (
	ofTrain = types.NamespacedName{Namespace: mine.Namespace, Name: "jobset.train"}
	managed = map[string]string{v1alpha1.AnnotationNodePools: "p", v1alpha1.AnnotationMaxSize: "8"}
	// given are the annotations of one whose Job was given four pods.
	given = map[string]string{
		v1alpha1.AnnotationNodePools: "p", v1alpha1.AnnotationMaxSize: "8", v1alpha1.AnnotationJobSizes: "4", v1alpha1.AnnotationAppliedSize: "4",
	}
)

// withJobSet is a scene with a JobSet and its Job.
func withJobSet(t *testing.T, annotations map[string]string) *scene {
	t.Helper()
	s := newScene(t, 1)
	s.Kinds = member.Kinds{minicluster.Kind{}, jobset.Kind{}}
	s.begin()
	u := &unstructured.Unstructured{}
	encoded, err := yaml.YAMLToJSON([]byte(train))
	if err == nil {
		err = u.UnmarshalJSON(encoded)
	}
	if err != nil {
		t.Fatal(err)
	}
	u.SetAnnotations(annotations)
	s.create(u)
	job := &batchv1.Job{ObjectMeta: metaIn("train-work-0"), Spec: batchv1.JobSpec{
		CompletionMode: new(batchv1.IndexedCompletion), Parallelism: new(int32(2)), Completions: new(int32(2)),
	}}
	job.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(u, jobset.GroupVersionKind)}
	job.Spec.Template.Spec.Containers = containers()
	s.create(job)
	return s
}

// trainSizes are the annotation of the JobSet that has the sizes of its Job, and how many pods its Job has.
func (s *scene) trainSizes() (given string, pods int32) {
	s.Helper()
	u, job := member.NewObject(jobset.GroupVersionKind), &batchv1.Job{}
	key := types.NamespacedName{Namespace: mine.Namespace, Name: "train"}
	if err := s.world.Get(s.Context(), key, u); err != nil {
		s.Fatal(err)
	}
	key.Name = "train-work-0"
	if err := s.world.Get(s.Context(), key, job); err != nil {
		s.Fatal(err)
	}
	return u.GetAnnotations()[v1alpha1.AnnotationJobSizes], *job.Spec.Parallelism
}

// changeTrain changes the JobSet, as its user does, and nothing of its spec.
func (s *scene) changeTrain(change func(*unstructured.Unstructured)) {
	s.Helper()
	u := member.NewObject(jobset.GroupVersionKind)
	if err := s.world.Get(s.Context(), types.NamespacedName{Namespace: mine.Namespace, Name: "train"}, u); err != nil {
		s.Fatal(err)
	}
	change(u)
	if err := s.world.Update(s.Context(), u); err != nil {
		s.Fatal(err)
	}
}

// refuse lets every write of the JobSet's own sizes fail.
func (s *scene) refuse(with error) {
	s.Client = interceptor.NewClient(s.world, interceptor.Funcs{Patch: func(
		ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption,
	) error {
		if _, is := o.(*unstructured.Unstructured); is && p.Type() == types.JSONPatchType {
			return with
		}
		return c.Patch(ctx, o, p, opts...)
	}})
}

// immutable is how the webhook of JobSets refuses other sizes without its feature gate.
func immutable(path string) error {
	return apierrors.NewInvalid(jobset.GroupVersionKind.GroupKind(), "train", field.ErrorList{
		field.Invalid(field.NewPath(path), "[]", "field is immutable"),
	})
}

// byPolicy is how a ValidatingAdmissionPolicy with the reason Invalid refuses a write.
func byPolicy() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity,
		Message: "ValidatingAdmissionPolicy 'frozen' denied request: no sizes on Fridays",
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Message: "no sizes on Fridays"}}},
	}}
}

// TestSizesOfJobsAreOwn: sizes that the controller gives to Jobs are nobody else's, though the generation of their JobSet stays that of
// the sizes which a user gave it.
func TestSizesOfJobsAreOwn(t *testing.T) {
	t.Parallel()
	s := withJobSet(t, managed)
	s.settle()
	sees := func() (size int32, given bool) {
		t.Helper()
		seen, err := s.observer.observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range seen.values().Members {
			if m.Key == ofTrain {
				return m.Size, m.SizeGiven
			}
		}
		t.Fatal("there is no member")
		return 0, false
	}
	if size, given := sees(); size != 2 || !given {
		t.Errorf("its first size is %d, which a user gave: %t", size, given)
	}
	s.changeTrain(func(u *unstructured.Unstructured) { u.SetAnnotations(given) })
	if size, given := sees(); size != 4 || given {
		t.Errorf("the size that the controller gives to its Job is %d, which a user gave: %t", size, given)
	}
}

// TestJobsOfUnmanaged: the Jobs of a JobSet that something else controls are left alone, whatever its annotations say.
func TestJobsOfUnmanaged(t *testing.T) {
	t.Parallel()
	s := withJobSet(t, given)
	s.changeTrain(func(u *unstructured.Unstructured) {
		u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "TrainJob", Name: "t", UID: "t", Controller: new(true)}})
	})
	s.refuse(immutable("spec.replicatedJobs"))
	s.pass()
	s.pass()
	if _, pods := s.trainSizes(); pods != 2 {
		t.Errorf("the Job of one that something else controls is given %d pods", pods)
	}
	s.changeTrain(func(u *unstructured.Unstructured) { u.SetOwnerReferences(nil) })
	s.pass()
	s.pass()
	if _, pods := s.trainSizes(); pods != 4 {
		t.Errorf("the Job of one that is managed has %d pods", pods)
	}
}

// TestRefusedSizes: Jobs are given sizes that their JobSet does not take, and no others: what an administrator refuses stays refused.
func TestRefusedSizes(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		with  error
		given string
	}{
		"without the feature gate": {with: immutable("spec.replicatedJobs"), given: "4"},
		"another field":            {with: immutable("spec.managedBy")},
		"by a policy":              {with: byPolicy()},
	} {
		s := withJobSet(t, managed)
		s.settle()
		seen, err := s.observer.observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.refuse(row.with)
		_, err = s.giveSizes(t.Context(), seen.entries[ofTrain].workload, member.To(member.Sizes{"work": 4}))
		if (err == nil) != (row.given != "") {
			t.Errorf("%s: %v", name, err)
		}
		if given, _ := s.trainSizes(); given != row.given {
			t.Errorf("%s: the Job is to have %q, want %q", name, given, row.given)
		}
	}
}

// TestJobsWaitForPolicy: nor are Jobs given sizes back that an administrator refuses.
func TestJobsWaitForPolicy(t *testing.T) {
	t.Parallel()
	s := withJobSet(t, managed)
	s.settle()
	s.changeTrain(func(u *unstructured.Unstructured) { u.SetAnnotations(given) })
	s.refuse(byPolicy())
	seen, err := s.observer.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failures := flattenErrors(s.levelJobs(t.Context(), seen))
	if _, pods := s.trainSizes(); pods != 2 || len(failures) != 1 || apierrors.ReasonForError(failures[0]) != metav1.StatusReasonInvalid {
		t.Errorf("the Job has %d pods, and what failed is %v", pods, failures)
	}
}

package job_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/job"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// indexed is an Indexed Job of a size that is to be managed, with pairs of further annotations.
func indexed(size int32, annotations ...string) *batchv1.Job {
	j := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "sweep", UID: "u", ResourceVersion: "42", Generation: 3,
			Annotations: map[string]string{v1alpha1.AnnotationNodePools: "a"},
		},
		Spec: batchv1.JobSpec{Parallelism: &size, Completions: &size, CompletionMode: new(batchv1.IndexedCompletion)},
	}
	for i := 0; i < len(annotations); i += 2 {
		j.Annotations[annotations[i]] = annotations[i+1]
	}
	return j
}

func TestParse(t *testing.T) {
	t.Parallel()
	const youngest = ": of any other Job the youngest pod would leave at a shrink, and not the one with the highest index"
	of := func(change func(*batchv1.Job)) *batchv1.Job {
		j := indexed(3, v1alpha1.AnnotationMaxSize, "9")
		change(j)
		return j
	}
	for name, row := range map[string]struct {
		job  *batchv1.Job
		want string
	}{
		"no bounds": {indexed(3),
			"annotation autoscaling.flux-framework.org/max-size is not there; it has to be the maximum size, at least 3"},
		"all that matters": {indexed(3, v1alpha1.AnnotationMinSize, "2", v1alpha1.AnnotationMaxSize, "9"), "size 3 of 2 to 9, managed"},
		"no minimum":       {indexed(3, v1alpha1.AnnotationMaxSize, "9"), "size 3 of 1 to 9, managed"},
		"not Indexed": {of(func(j *batchv1.Job) { j.Spec.CompletionMode = nil }),
			"spec.completionMode is NonIndexed; it has to be Indexed" + youngest},
		"no completions": {of(func(j *batchv1.Job) { j.Spec.Completions = nil }),
			"spec.completions is not set; it has to be spec.parallelism, which is 3" + youngest},
		"other completions": {of(func(j *batchv1.Job) { j.Spec.Completions = new(int32(8)) }),
			"spec.completions is 8; it has to be spec.parallelism, which is 3" + youngest},
		"no pods": {of(func(j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Completions = new(int32(0)), new(int32(0)) }),
			"spec.parallelism is 0; it has to be at least 1; spec.suspend stops a Job"},
		"a size above the maximum": {indexed(9, v1alpha1.AnnotationMaxSize, "5"),
			"spec.parallelism is 9; it must not exceed the annotation autoscaling.flux-framework.org/max-size, which is 5"},
		"a minimum above the maximum": {indexed(3, v1alpha1.AnnotationMaxSize, "5", v1alpha1.AnnotationMinSize, "6"),
			`annotation autoscaling.flux-framework.org/min-size is "6"; it must not exceed the annotation autoscaling.flux-framework.org/max-size, which is 5`},
		"a maximum in words": {indexed(3, v1alpha1.AnnotationMaxSize, "many"),
			`annotation autoscaling.flux-framework.org/max-size is "many"; it has to be a number of pods, at least 1`},
		"a minimum of nothing": {indexed(3, v1alpha1.AnnotationMaxSize, "5", v1alpha1.AnnotationMinSize, "0"),
			`annotation autoscaling.flux-framework.org/min-size is "0"; it has to be a number of pods, at least 1`},
		"an annotation of every kind": {indexed(3, v1alpha1.AnnotationMaxSize, "5", v1alpha1.AnnotationPlacement, "span"),
			`annotation autoscaling.flux-framework.org/placement is "span"; it has to be one of Span, Single`},
		"without the annotation": {of(func(j *batchv1.Job) { j.Annotations, j.Spec.CompletionMode = nil, nil }),
			"size 3 of 1 to 3, not managed"},
		"of a MiniCluster": {of(func(j *batchv1.Job) {
			j.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&metav1.ObjectMeta{Name: "m"}, minicluster.GroupVersionKind)}
		}), "size 3 of 1 to 3, not managed"},
	} {
		w, err := job.Kind{}.Parse(row.job)
		var got string
		switch {
		case err != nil:
			got = err.Error()
		case w.Managed():
			got = sizes(w.Size(), w.MinSize(), w.MaxSize()) + ", managed"
		default:
			got = sizes(w.Size(), w.MinSize(), w.MaxSize()) + ", not managed"
		}
		if got != row.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, row.want)
		}
	}
	if _, err := (job.Kind{}).Parse(&corev1.Pod{}); err == nil {
		t.Error("a Pod is taken for a Job")
	}
}

func sizes(size, least, most int32) string {
	return "size " + resource.NewQuantity(int64(size), resource.DecimalSI).String() + " of " +
		resource.NewQuantity(int64(least), resource.DecimalSI).String() + " to " + resource.NewQuantity(int64(most), resource.DecimalSI).String()
}

// TestPatch: one write has both fields of a size, and the note that it is the controller's.
func TestPatch(t *testing.T) {
	t.Parallel()
	w, err := job.Kind{}.Parse(indexed(3, v1alpha1.AnnotationMaxSize, "9"))
	if err != nil {
		t.Fatal(err)
	}
	target, patch, err := w.SizePatch(member.To(member.Sizes{"": 5}))
	if err != nil {
		t.Fatal(err)
	}
	data, err := patch.Data(target)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"op":"replace","path":"/metadata/resourceVersion","value":"42"},` +
		`{"op":"add","path":"/metadata/annotations/autoscaling.flux-framework.org~1applied-size","value":"5"},` +
		`{"op":"add","path":"/spec/completions","value":5},{"op":"add","path":"/spec/parallelism","value":5}]`
	if string(data) != want || patch.Type() != types.JSONPatchType || client.ObjectKeyFromObject(target).String() != "ns/sweep" {
		t.Errorf("the patch of %s is %s, want %s", client.ObjectKeyFromObject(target), data, want)
	}
}

// TestOwner: a Job is a workload of its own only where it is to be managed and nothing else controls it.
func TestOwner(t *testing.T) {
	t.Parallel()
	kind := job.Kind{}
	if owner := kind.Owner(indexed(3)); owner == nil || owner.Name != "sweep" || owner.UID != "u" || owner.Job != kind.JobOf("sweep", "") {
		t.Errorf("the pods of a managed Job are of %+v", owner)
	}
	plain := indexed(3)
	plain.Annotations = nil
	if owner := kind.Owner(plain); owner != nil {
		t.Errorf("those of another one are of %+v", owner)
	}
	for _, by := range []string{"JobSet", "CronJob", "MiniCluster"} {
		made := indexed(3)
		made.OwnerReferences = []metav1.OwnerReference{{APIVersion: "x/v1", Kind: by, Name: "o", UID: "o", Controller: new(true)}}
		if owner := kind.Owner(made); owner != nil {
			t.Errorf("those of the Job of a %s are of %+v", by, owner)
		}
	}
}

// TestNames: a name is refused where its member would not fit a label, or the last pod a host name.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		length  int
		maxSize int32
		want    string
	}{
		{59, 1000, ""},
		{60, 1, "has 60 characters; it has to have at most 59: the pods carry job.NAME in a label"},
		{59, 1001, "has 59 characters; it has to have at most 58: with the maximum size 1001 the last pod has the host name NAME-1000"},
	} {
		if got := job.CheckName(strings.Repeat("n", row.length), row.maxSize); got != row.want {
			t.Errorf("%d characters, maximum %d: %q, want %q", row.length, row.maxSize, got, row.want)
		}
	}
}

// TestMarks: what marks the pods is there from the creation on, and an update does not take it away.
func TestMarks(t *testing.T) {
	t.Parallel()
	all := job.Marks{PodLabel: "job.sweep", PodSafeToEvict: "false", MaxSize: "3"}
	if diff := cmp.Diff(all, job.MarksOfNew(indexed(3))); diff != "" {
		t.Errorf("a new one (-want +got):\n%s", diff)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(indexed(3))
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: content}
	if err := all.AddTo(object); err != nil {
		t.Fatal(err)
	}
	marked, err := job.Read(object)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(job.Marks{}, job.MarksOfNew(marked)); diff != "" {
		t.Errorf("one that is asked about again (-want +got):\n%s", diff)
	}
	marked.Annotations[v1alpha1.AnnotationMaxSize] = "7"
	for name, row := range map[string]struct {
		before, after *batchv1.Job
		want          job.Marks
	}{
		"a file without them":      {marked, indexed(5), job.Marks{PodLabel: "job.sweep", PodSafeToEvict: "false", MaxSize: "7"}},
		"pods that never had them": {indexed(3), indexed(5), job.Marks{MaxSize: "5"}},
		"nothing is lost":          {marked, marked, job.Marks{}},
	} {
		if diff := cmp.Diff(row.want, job.MarksOfUpdate(row.before, row.after)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	unmanaged := indexed(3)
	unmanaged.Annotations = nil
	if marks := job.MarksOfNew(unmanaged); marks != (job.Marks{}) {
		t.Errorf("one that is not managed gets %+v", marks)
	}
}

// FuzzParse: whatever a user writes into a Job, it is read or refused with words, and the sizes of one that was read are in order.
func FuzzParse(f *testing.F) {
	f.Add(int32(3), int32(3), true, v1alpha1.AnnotationMaxSize, "9", v1alpha1.AnnotationMinSize, "2")
	f.Add(int32(-1), int32(0), false, v1alpha1.AnnotationMaxSize, "2147483648", v1alpha1.AnnotationPodsPerNode, "Auto")
	f.Add(int32(2147483647), int32(2147483647), true, v1alpha1.AnnotationMaxSize, "2147483647", v1alpha1.AnnotationAppliedSize, "-3")
	f.Fuzz(func(t *testing.T, parallelism, completions int32, isIndexed bool, key, value, other, text string) {
		j := indexed(parallelism, key, value, other, text)
		j.Spec.Completions = &completions
		if !isIndexed {
			j.Spec.CompletionMode = nil
		}
		w, err := job.Kind{}.Parse(j)
		if err != nil {
			if err.Error() == "" {
				t.Error("the error says nothing")
			}
			return
		}
		g := w.Only()
		inOrder := g.Size >= 1 && g.MinSize >= 1 && g.Size <= g.MaxSize && g.MinSize <= g.MaxSize
		if w.Managed() && (!inOrder || !isIndexed || parallelism != completions) {
			t.Errorf("size %d of %d to %d of %d and %d, Indexed %t", g.Size, g.MinSize, g.MaxSize, parallelism, completions, isIndexed)
		}
	})
}

package kinds

import (
	"context"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// TestJobsAreJudged: what could be no member is refused when it is written, by its field, its value and what would be right; a Job that is
// managed is marked at its creation, and stays so when its file is applied again.
func TestJobsAreJudged(t *testing.T) {
	t.Parallel()
	p := begin(t, &subjects[1], "judged", "1s", 0)
	file, err := subjects[1].object(p.name, p.name, 0)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*unstructured.Unstructured) error) *unstructured.Unstructured {
		object := file.DeepCopy()
		object.SetName("other")
		if err := change(object); err != nil {
			t.Fatal(err)
		}
		return object
	}
	set := func(value any, path ...string) func(*unstructured.Unstructured) error {
		return func(u *unstructured.Unstructured) error { return unstructured.SetNestedField(u.Object, value, path...) }
	}
	create := func(object *unstructured.Unstructured) func(context.Context) error {
		return func(ctx context.Context) error { return shared.Client.Create(ctx, object, client.DryRunAll) }
	}
	patch := func(text string) func(context.Context) error {
		return func(ctx context.Context) error {
			of := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: p.name, Name: "m"}}
			return shared.Client.Patch(ctx, of, client.RawPatch(types.MergePatchType, []byte(text)), client.DryRunAll)
		}
	}
	for name, row := range map[string]struct {
		write func(context.Context) error
		want  string
	}{
		"not Indexed":             {create(with(set("NonIndexed", "spec", "completionMode"))), "spec.completionMode: Invalid value"},
		"completions that differ": {create(with(set(int64(9), "spec", "completions"))), "spec.completions: Invalid value: 9"},
		"a pool that is not there": {
			create(with(set("nowhere", "metadata", "annotations", v1alpha1.AnnotationNodePools))), `there is no NodePool "nowhere"`,
		},
		"parallelism alone": {patch(`{"spec":{"parallelism":3}}`), "spec.completions: Invalid value: 2: it has to be spec.parallelism, which is 3"},
		"above the maximum": {patch(`{"spec":{"parallelism":7,"completions":7}}`), "spec.parallelism: Invalid value: 7"},
		"a maximum in words": {
			patch(`{"metadata":{"annotations":{"autoscaling.flux-framework.org/max-size":"many"}}}`), "it has to be a number of pods",
		},
		"suspension, and a size that is right": {patch(`{"spec":{"suspend":true,"parallelism":3,"completions":3}}`), ""},
		"one that nothing is said of": {create(with(func(u *unstructured.Unstructured) error {
			u.SetAnnotations(nil)
			return unstructured.SetNestedField(u.Object, "NonIndexed", "spec", "completionMode")
		})), ""},
	} {
		err := system.Write(t.Context(), row.write)
		if (row.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}

	// A file that says nothing of the marks takes them away by itself.
	if err := shared.Apply(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	var stored batchv1.Job
	if err := shared.Client.Get(t.Context(), types.NamespacedName{Namespace: p.name, Name: "m"}, &stored); err != nil {
		t.Fatal(err)
	}
	template := &stored.Spec.Template
	if template.Labels[v1alpha1.LabelMember] != "job.m" || template.Annotations[v1alpha1.AnnotationSafeToEvict] != "false" {
		t.Errorf("the pods are marked with %v and %v", template.Labels, template.Annotations)
	}
	p.runs(2)
}

package planned_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/planned"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
)

// TestOfJob: a Job that does not exist yet is planned for as admission would complete it, and one that could be no member is refused by
// what is wrong with it.
func TestOfJob(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	kind := minicluster.GroupVersionKind
	scheme.AddKnownTypeWithName(kind, &unstructured.Unstructured{})
	scheme.AddKnownTypeWithName(kind.GroupVersion().WithKind(kind.Kind+"List"), &unstructured.UnstructuredList{})
	pool := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "hpc"}, Spec: v1alpha1.NodePoolSpec{
		MaxSize: 8, ProvisionTimeout: metav1.Duration{Duration: time.Minute}, Template: v1alpha1.NodeTemplate{Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("110"),
		}},
	}}
	object := func(annotations, spec string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		encoded, err := yaml.YAMLToJSON([]byte("{apiVersion: batch/v1, kind: Job, metadata: {name: sweep, namespace: default, annotations: {" +
			annotations + "}}, spec: {" + spec + "template: {spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 3}}}]}}}}"))
		if err == nil {
			err = u.UnmarshalJSON(encoded)
		}
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	const (
		managed = v1alpha1.AnnotationNodePools + ": hpc"
		three   = "completionMode: Indexed, parallelism: 3, completions: 3, "
	)
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(pool).Build()
	answer, err := planned.OfManifest(t.Context(), reader, clock.RealClock{}, object(managed, three))
	if err != nil {
		t.Fatal(err)
	}
	if answer.Outcome != whatif.Granted || answer.Asked != 3 || answer.Member != "default/job.sweep" {
		t.Errorf("it is %s (%s): %d for %s", answer.Outcome, answer.Message, answer.Asked, answer.Member)
	}
	for name, row := range map[string]struct {
		object *unstructured.Unstructured
		want   string
	}{
		"not managed": {object("", three), "metadata.annotations of Job sweep has no " + v1alpha1.AnnotationNodePools},
		"not Indexed": {
			object(managed, "parallelism: 3, completions: 3, "), "Job sweep: spec.completionMode is NonIndexed; it has to be Indexed",
		},
	} {
		_, err := planned.OfManifest(t.Context(), reader, clock.RealClock{}, row.object)
		if err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
	there := object(managed, three)
	if err := reader.Create(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	_, err = planned.OfManifest(t.Context(), reader, clock.RealClock{}, object(managed, three))
	const want = "Job default/sweep exists already; ask with: kubectl ensemble plan job.sweep --namespace default --size N"
	if err == nil || err.Error() != want {
		t.Errorf("one that is there: %v, want %s", err, want)
	}

	// Nobody decides for one whose kind the controller was not told to manage.
	member := &v1alpha1.EnsembleMember{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "job.sweep"},
		Status: v1alpha1.EnsembleMemberStatus{Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonKindNotManaged, Message: "not told to",
		}}},
	}
	if err := reader.Create(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	_, err = planned.OfMember(t.Context(), reader, clock.RealClock{}, client.ObjectKeyFromObject(member), whatif.Change{Grow: 1})
	if err == nil || err.Error() != "EnsembleMember default/job.sweep: not told to" {
		t.Errorf("one of a kind that is not managed: %v", err)
	}
}

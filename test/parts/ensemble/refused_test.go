package ensemble

import (
	"context"
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// refuse lets the API server refuse updates in a namespace for which an expression is false, and returns when it does.
func refuse(t *testing.T, namespace, group, version, resource, expression string, refused client.Object) {
	t.Helper()
	name := namespace + "-" + resource
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Update},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}},
				}}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: expression, Message: "not in this test"}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
	for _, object := range []client.Object{policy, binding} {
		if err := cluster.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		object, _ := refused.DeepCopyObject().(client.Object)
		switch err := cluster.Client.Update(ctx, object, client.DryRunAll); {
		case err == nil:
			return "nothing is refused", nil
		case apierrors.IsInvalid(err) || apierrors.IsForbidden(err):
			return "", nil
		default:
			return "", err
		}
	})
}

// TestRefusedChange: a member that runs is shown to run, with its size, also when what it is made of cannot be changed, and that
// is said.
func TestRefusedChange(t *testing.T) {
	const at = "refused-change"
	place(t, at)
	m := start(t, -1)
	defer m.Stop()
	create(t, newEnsemble(at, beginning(2, "hpc-a"), beginning(2)))
	until(t, at, func(s *seen) string { return whole(s, 2, 2) })

	object := minicluster.New()
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: at, Name: "demo-0"}, object); err != nil {
		t.Fatal(err)
	}
	object.SetAnnotations(map[string]string{"refused": "yes"})
	refuse(t, at, minicluster.GroupVersionKind.Group, minicluster.GroupVersionKind.Version, "miniclusters",
		"!object.metadata.annotations.exists(key, object.metadata.annotations[key] in ['hpc-b', 'yes'])", object)
	texts := &corev1.ConfigMap{}
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: at, Name: "demo-1"}, texts); err != nil {
		t.Fatal(err)
	}
	texts.Data["ensemble.yaml"] = text("goodbye")
	refuse(t, at, "", "v1", "configmaps", "!object.data.exists(key, object.data[key].contains('goodbye'))", texts)

	change(t, at, func(e *v1alpha1.Ensemble) {
		e.Spec.Members[0].NodePools, e.Spec.Members[1].Ensemble = []string{"hpc-b"}, text("goodbye")
	})
	until(t, at, func(s *seen) string {
		if s.Status.ObservedGeneration != s.Generation {
			return "the change has not been seen"
		}
		for i, want := range []struct{ state, message string }{{"Waiting", "change the MiniCluster: "}, {"Unmanaged", "update the ConfigMap: "}} {
			line := &s.Status.Members[i]
			if line.State != want.state || line.Size != 2 || !strings.HasPrefix(line.Message, want.message) || !strings.Contains(
				line.Message, "not in this test",
			) {
				return fmt.Sprintf("member %d is %+v", i, line)
			}
		}
		if said := s.says(v1alpha1.ConditionUpToDate); !strings.HasPrefix(
			said, "False Refused: cannot be brought in line with the spec: demo-0: change the MiniCluster: ",
		) || s.Status.Size != 4 {
			return fmt.Sprintf("the size is %d, and UpToDate %q", s.Status.Size, said)
		}
		return ""
	})
}

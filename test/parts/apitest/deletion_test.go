package apitest

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestDeletionWaitsForNobody: while nobody answers for the webhooks, what exists can be deleted, in the foreground too, and whoever removes
// a finalizer or adds a label is not kept from it. What would be judged is refused.
func TestDeletionWaitsForNobody(t *testing.T) {
	finalized := []string{"example.com/finalizer"}
	const managed = `{metadata: {annotations: {autoscaling.flux-framework.org/node-pools: a}}}`
	for name, text := range map[string]string{"ensemble": "", "minicluster": validMiniCluster, "nodepool": validNodePool} {
		object := documents(t, "ensemble-hello-world.yaml")[0]
		judged := `{spec: {sidecar: {port: "50052"}}}`
		switch name {
		case "minicluster":
			object, judged = edit(t, parse(t, text), managed), `{spec: {minSize: 2}}`
		case "nodepool":
			object, judged = parse(t, text), `{spec: {maxSize: 1}}`
		}
		object.SetName("to-be-deleted")
		object.SetFinalizers(finalized)
		if err := server.client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			applyManifest(t, "controller", "admission.yaml")
			t.Cleanup(func() { withdrawAdmission(t) })
			patch := func(ctx context.Context, change string, options ...client.PatchOption) error {
				after := edit(t, object, change)
				return server.client.Patch(ctx, after, client.MergeFrom(object), options...)
			}
			// The API server learns of webhooks by watching.
			if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
				return apierrors.IsInternalError(patch(ctx, judged, client.DryRunAll)), nil
			}); err != nil {
				t.Fatalf("the webhook is not asked about what it judges: %v", patch(t.Context(), judged, client.DryRunAll))
			}
			if err := patch(t.Context(), `{metadata: {labels: {another: label}}}`); err != nil {
				t.Errorf("a label: %v", err)
			}
			if err := server.client.Delete(
				t.Context(), object.DeepCopy(), client.PropagationPolicy(metav1.DeletePropagationForeground),
			); err != nil {
				t.Fatal(err)
			}
			// Also that of the foreground deletion, which nobody removes here: there is no garbage collector.
			if err := server.client.Patch(
				t.Context(), object.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)),
			); err != nil {
				t.Errorf("a finalizer: %v", err)
			}
			if err := server.client.Get(t.Context(), client.ObjectKeyFromObject(object), object.DeepCopy()); !apierrors.IsNotFound(err) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
}

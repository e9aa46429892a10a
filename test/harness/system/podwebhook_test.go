package system_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// gateRun is a cluster without policies that give pods a gate, and one MiniCluster on it.
type gateRun struct {
	*system.System
	user *user
	demo types.NamespacedName
}

// TestPodWebhook: before Kubernetes 1.36 a webhook gives the pods of managed MiniClusters their gate. All is as with the policy,
// and while the controller is down those pods alone wait for it.
//
//nolint:tparallel // The last part takes the controller away from the others.
func TestPodWebhook(t *testing.T) {
	t.Parallel()
	s, err := system.Start(t.Context(), system.Options{
		Progress: os.Stderr, LogDir: t.ArtifactDir(), AutoscalerFlags: []string{"--scan-interval=1s"}, PodWebhook: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	var policies admissionregistrationv1.MutatingAdmissionPolicyList
	if err := s.Client.List(t.Context(), &policies); err != nil || len(policies.Items) > 0 {
		t.Fatalf("%d policies might give pods a gate: %v", len(policies.Items), err)
	}
	r := &gateRun{System: s, user: newUser(t, s), demo: types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "demo"}}
	t.Run("pods wait for their nodes", r.wait)
	t.Run("pods of others are not asked about", r.others)
	t.Run("the controller is down", r.down)
}

// wait: pods are gated until the nodes of the whole size are Ready, and then run on them.
func (r *gateRun) wait(t *testing.T) {
	pool := objectOf(t, poolOfText, "hpc", 8, "")
	if err := r.Apply(t.Context(), pool, objectOf(t, clusterText, r.demo.Name, toHPC, "")); err != nil {
		t.Fatal(err)
	}
	r.running(t, 2)
	if err := patch(t.Context(), r.user, pool, `{"spec":{"paused":true}}`); err != nil {
		t.Fatal(err)
	}
	if err := patch(t.Context(), r.user, objectOf(t, clusterText, r.demo.Name, toHPC, ""), `{"spec":{"size":4}}`); err != nil {
		t.Fatal(err)
	}
	until(t, func(ctx context.Context) (bool, error) {
		pods, err := r.pods(ctx)
		gated, scheduled := 0, 0
		for i := range pods {
			if len(pods[i].Spec.SchedulingGates) == 1 && pods[i].Spec.SchedulingGates[0].Name == v1alpha1.SchedulingGate {
				gated++
			}
			if pods[i].Spec.NodeName != "" {
				scheduled++
			}
		}
		return gated == 2 && scheduled == 2 && len(pods) == 4, err
	})
	if err := patch(t.Context(), r.user, pool, `{"spec":{"paused":false}}`); err != nil {
		t.Fatal(err)
	}
	r.running(t, 4)
}

// others: the webhook has been asked about the pods of the MiniCluster and the trial at the start, and about no other.
func (r *gateRun) others(t *testing.T) {
	before := r.asked(t)
	if before == "" || strings.HasSuffix(before, " 0") {
		t.Errorf("the metrics say %q of the pods that it was asked about", before)
	}
	r.createOthers(t, "up")
	if after := r.asked(t); after != before {
		t.Errorf("pods of others reached the webhook: %s was %s", after, before)
	}
}

// down: pods without the label, and those that want no gate, come at once. A pod of a MiniCluster that dies comes again when the
// controller is back, and not before: it would be without its gate.
func (r *gateRun) down(t *testing.T) {
	if err := r.Controller.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	r.createOthers(t, "down")
	if err := r.user.Create(t.Context(), podOf(t, "labelled", "demo", "Job")); !system.NotAnswered(err) {
		t.Errorf("a pod of a member is answered %v without the controller", err)
	}
	pods, err := r.pods(t.Context())
	if err != nil || len(pods) != 4 {
		t.Fatalf("%d pods, %v", len(pods), err)
	}
	if err := r.Client.Delete(t.Context(), &pods[0], client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	until(t, func(ctx context.Context) (bool, error) {
		var events corev1.EventList
		if err := r.Client.List(ctx, &events, client.InNamespace(r.demo.Namespace)); err != nil {
			return false, err
		}
		for i := range events.Items {
			e := &events.Items[i]
			if e.InvolvedObject.Kind == "Job" && e.Reason == "FailedCreate" && strings.Contains(e.Message, "pods.autoscaling.flux-framework.org") {
				return true, nil
			}
		}
		return false, nil
	})
	if pods, err := r.pods(t.Context()); err != nil || len(pods) != 3 {
		t.Errorf("%d pods, and not the 3 that did not die (%v)", len(pods), err)
	}
	if err := r.RestartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.running(t, 4)
}

// createOthers creates pods that are no concern of the webhook.
func (r *gateRun) createOthers(t *testing.T, prefix string) {
	t.Helper()
	bound := podOf(t, prefix+"-bound", "demo", "Job")
	if err := unstructured.SetNestedField(bound.Object, "nowhere", "spec", "nodeName"); err != nil {
		t.Fatal(err)
	}
	for what, pod := range map[string]*unstructured.Unstructured{
		"a pod of a Job":                     podOf(t, prefix+"-job", "", "Job"),
		"a pod of nobody":                    podOf(t, prefix+"-nobody", "", ""),
		"a pod with the label by mistake":    podOf(t, prefix+"-mistake", "demo", "ReplicaSet"),
		"a pod with the label and of nobody": podOf(t, prefix+"-alone", "demo", ""),
		"a pod that names its node":          bound,
	} {
		if err := r.user.Create(t.Context(), pod, client.DryRunAll); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if gates, _, err := unstructured.NestedSlice(pod.Object, "spec", "schedulingGates"); err != nil || len(gates) > 0 {
			t.Errorf("%s has the gates %v (%v)", what, gates, err)
		}
	}
}

// podOf is a pod with the label of members, unless that is empty, and with an owner of a kind, unless that is.
func podOf(t *testing.T, name, member, owner string) *unstructured.Unstructured {
	t.Helper()
	pod := objectOf(t, `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default}
spec: {containers: [{name: c, image: i}]}
`, name)
	if member != "" {
		pod.SetLabels(map[string]string{v1alpha1.LabelMember: member})
	}
	if owner != "" {
		pod.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: owner, Name: "owner", UID: "owner", Controller: new(true)}})
	}
	return pod
}

// asked is what the metrics say of the pods that the webhook was asked about.
func (r *gateRun) asked(t *testing.T) string {
	t.Helper()
	metrics, err := r.Metrics(t.Context(), r.ControllerMetrics)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(metrics, "\n") {
		if strings.HasPrefix(line, `ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="gate-pod"}`) {
			return line
		}
	}
	return ""
}

// pods are those of the MiniCluster that are not going.
func (r *gateRun) pods(ctx context.Context) (alive []corev1.Pod, err error) {
	var pods corev1.PodList
	if err := r.Client.List(
		ctx, &pods, client.InNamespace(r.demo.Namespace), client.MatchingLabels{batchv1.JobNameLabel: r.demo.Name},
	); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil {
			alive = append(alive, pods.Items[i])
		}
	}
	return alive, nil
}

// running waits until so many pods of the MiniCluster, and no others, run on nodes of its pool.
func (r *gateRun) running(t *testing.T, want int) {
	t.Helper()
	until(t, func(ctx context.Context) (bool, error) {
		pods, err := r.pods(ctx)
		running := 0
		for i := range pods {
			if pods[i].Status.Phase == corev1.PodRunning && strings.HasPrefix(
				pods[i].Spec.NodeName, "hpc-",
			) && len(pods[i].Spec.SchedulingGates) == 0 {
				running++
			}
		}
		return running == want && len(pods) == want, err
	})
}

package apitest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

// TestManifests deploys everything as the README says, and finds nothing that the API server would warn of: no
// unknown field, and no pod that the namespace's own security standard would refuse.
func TestManifests(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, server.config); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), server.kubectl, "--kubeconfig="+kubeconfig,
		"apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", filepath.Join("..", "..", "..", "manifests"))
	example := exec.CommandContext(t.Context(), server.kubectl, "--kubeconfig="+kubeconfig,
		"apply", "--server-side", "--force-conflicts", "--validate=strict", "-k",
		filepath.Join("..", "..", "..", "examples", "cluster-autoscaler"))
	t.Cleanup(func() { withdrawAdmission(t) })
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	if err := command.Run(); err != nil {
		t.Fatalf("%v: %s", err, problems.String())
	}
	if problems.Len() > 0 {
		t.Errorf("it warns: %s", problems.String())
	}
	if said, err := example.CombinedOutput(); err != nil || strings.Contains(string(said), "Warning") {
		t.Errorf("examples/cluster-autoscaler: %v: %s", err, said)
	}
	for _, name := range []string{"provider", "controller"} {
		var deployment appsv1.Deployment
		if err := server.client.Get(t.Context(), client.ObjectKey{Namespace: "ensemble-autoscaler-system", Name: name}, &deployment); err != nil {
			t.Fatalf("%v; applied was:\n%s", err, out.String())
		}
		pod := &deployment.Spec.Template.Spec
		hardened(t, name, pod)
		if *deployment.Spec.Replicas != 2 || len(pod.TopologySpreadConstraints) != 1 {
			t.Errorf("%s has %d replicas, spread by %+v", name, *deployment.Spec.Replicas, pod.TopologySpreadConstraints)
		}
		labels := labels.Set(deployment.Spec.Template.Labels)
		var budget policyv1.PodDisruptionBudget
		var policy networkingv1.NetworkPolicy
		key := client.ObjectKeyFromObject(&deployment)
		if err := errors.Join(server.client.Get(t.Context(), key, &budget), server.client.Get(t.Context(), key, &policy)); err != nil {
			t.Fatal(err)
		}
		for what, selector := range map[string]*metav1.LabelSelector{
			"its PodDisruptionBudget": budget.Spec.Selector, "its NetworkPolicy": &policy.Spec.PodSelector,
			"its spread": pod.TopologySpreadConstraints[0].LabelSelector,
		} {
			selects, err := metav1.LabelSelectorAsSelector(selector)
			if err != nil || selects.Empty() || !selects.Matches(labels) {
				t.Errorf("%s: %s selects %v, and the pods have %v (%v)", name, what, selects, labels, err)
			}
		}
		ports := map[string]bool{}
		for _, rule := range policy.Spec.Ingress {
			for _, port := range rule.Ports {
				ports[port.Port.StrVal] = len(rule.From) > 0
			}
		}
		for _, port := range []string{"grpc", "metrics"} {
			if !ports[port] || !slices.ContainsFunc(pod.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port }) {
				t.Errorf("%s lets nobody to its port %s, or has none: %v", name, port, ports)
			}
		}
		if strings.Contains(strings.Join(pod.Containers[0].Args, " "), "--insecure") {
			t.Errorf("%s serves without TLS", name)
		}
	}
}

// withdrawAdmission takes away what would keep the other tests from writing objects: nobody answers for the webhooks here,
// and the policy takes members of the controller alone.
func withdrawAdmission(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "manifests", "controller", "admission.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// The context of the test has ended by now.
	ctx := context.Background()
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if err := server.client.Delete(ctx, parse(t, document)); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	}
	// The API server learns of it by watching, of each by itself.
	var last error
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		last = errors.Join(server.client.Create(ctx, parse(t, validNodePool), client.DryRunAll), withdrawn(ctx, t))
		return last == nil, nil
	}); err != nil {
		t.Errorf("%v: %v", err, last)
	}
}

// withdrawn is an error while a policy keeps an EnsembleMember, or its status, from being written.
func withdrawn(ctx context.Context, t *testing.T) error {
	t.Helper()
	member := edit(t, parse(t, validMember), `{metadata: {name: withdrawn}}`)
	if err := server.client.Create(ctx, member); err != nil {
		return err
	}
	status := server.client.Status().Update(ctx, edit(t, member, `{status: {size: 1, reserved: 0, nodes: 0}}`), client.DryRunAll)
	return errors.Join(status, server.client.Delete(ctx, member))
}

// hardened checks that a pod could do little harm.
func hardened(t *testing.T, name string, pod *corev1.PodSpec) {
	t.Helper()
	security := pod.Containers[0].SecurityContext
	if pod.SecurityContext == nil || !*pod.SecurityContext.RunAsNonRoot ||
		pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
		!*security.ReadOnlyRootFilesystem || *security.AllowPrivilegeEscalation || !slices.Equal(
		security.Capabilities.Drop, []corev1.Capability{"ALL"},
	) {
		t.Errorf("%s runs with %+v and %+v", name, pod.SecurityContext, security)
	}
	resources := pod.Containers[0].Resources
	if resources.Requests.Cpu().IsZero() || resources.Requests.Memory().IsZero() || resources.Limits.Memory().IsZero() {
		t.Errorf("%s has the resources %+v", name, resources)
	}
	if pod.Containers[0].LivenessProbe == nil || pod.Containers[0].ReadinessProbe == nil || pod.PriorityClassName == "" {
		t.Errorf("%s has no probes, or no priority", name)
	}
}

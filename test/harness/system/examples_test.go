package system_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// examples applies those whose machines are simulated, where webhooks judge what is applied, and sees what their pages say that one sees.
func examples(t *testing.T, s *system.System) {
	t.Helper()
	for _, name := range []string{"lammps", "fallback", "one-zone", "hpa", "gitops/pools", "gitops/apps"} {
		applyExample(t, s, name)
	}
	ask(t, s, "fallback", 8)
	ask(t, s, "gitops", 5)
	applyExample(t, s, "gitops/apps")
	for name, want := range map[string]string{
		"lammps-0": "lammps 1", "fallback": "fallback-cheap 3, fallback-dear 5", "one-zone": "zone-b 4", "hpa": "hpa 2", "gitops": "gitops 5",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			until(t, func(ctx context.Context) (bool, error) {
				var member v1alpha1.EnsembleMember
				err := s.Client.Get(ctx, types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: name}, &member)
				return member.Status.Pools == want, client.IgnoreNotFound(err)
			})
		})
	}
}

// applyExample applies a directory of the examples with kubectl, as its page says.
func applyExample(t *testing.T, s *system.System, name string) {
	t.Helper()
	kubectl, err := s.Plane.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), kubectl, "--kubeconfig="+s.Kubeconfig,
		"apply", "-k", filepath.Join("..", "..", "..", "examples", filepath.FromSlash(name))).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl apply -k examples/%s: %v: %s", name, err, said)
	}
}

// ask has a member want a size, as kubectl scale does. It is there a moment after its MiniCluster.
func ask(t *testing.T, s *system.System, name string, size int32) {
	t.Helper()
	member := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}}
	until(t, func(ctx context.Context) (bool, error) {
		err := patch(ctx, s.Client, member, fmt.Sprintf(`{"spec":{"size":%d}}`, size))
		return err == nil, client.IgnoreNotFound(err)
	})
}

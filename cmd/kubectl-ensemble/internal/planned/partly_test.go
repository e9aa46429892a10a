package planned_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/planned"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/inprocess"
)

// TestPartly: members of other namespaces whose MiniClusters may not be read are not taken for members that are being deleted: what they
// have reserved stays theirs.
func TestPartly(t *testing.T) {
	t.Parallel()
	as := newServer(t)
	admin := as("")
	// The pool has 6 nodes, of which the neighbour has 3 and mine one.
	pool := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "hpc-a"}, Spec: v1alpha1.NodePoolSpec{
		MaxSize: 6, Replicas: 4, ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute}, Machines: v1alpha1.MachinesSpec{
			Kwok: &v1alpha1.KwokMachines{},
		},
		Template: v1alpha1.NodeTemplate{Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
			corev1.ResourcePods: resource.MustParse("110"),
		}},
	}}
	if err := written(t.Context(), admin, pool, func(p *v1alpha1.NodePool) { p.Status.Reserved, p.Status.Floor = 4, 4 }); err != nil {
		t.Fatal(err)
	}
	if err := admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-b"}}); err != nil {
		t.Fatal(err)
	}
	key := types.NamespacedName{Namespace: "default", Name: "mine"}
	for of, size := range map[types.NamespacedName]int32{key: 1, {Namespace: "team-b", Name: "neighbour"}: 3} {
		if _, err := createMember(t.Context(), admin, of, size, v1alpha1.Reservation{NodePool: "hpc-a", Nodes: size}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(ctx context.Context, reader client.Client, size int32) (*whatif.Answer, error) {
		return planned.OfMember(ctx, reader, clock.RealClock{}, key, whatif.Change{To: size})
	}

	grant(t, admin, "half", "default", reads...)
	everywhere := slices.DeleteFunc(
		slices.Clone(reads), func(rule rbacv1.PolicyRule) bool { return slices.Contains(rule.Resources, "miniclusters") },
	)
	grant(t, admin, "half", "", everywhere...)
	half := as("half")
	inprocess.UntilWithin(t, patience, 50*time.Millisecond, func(ctx context.Context) (string, error) {
		// The API server learns of rights by watching.
		a, err := ask(ctx, half, 2)
		missing := ""
		switch {
		case err != nil:
			missing = err.Error()
		case len(a.MissingRights) != 1 || a.MissingRights[0].Resource != "miniclusters.flux-framework.org":
			missing = fmt.Sprintf("missing rights: %+v", a.MissingRights)
		}
		return missing, nil
	})
	for size, want := range map[int32]struct {
		outcome whatif.Outcome
		order   int32
	}{3: {whatif.Granted, 2}, 4: {whatif.Refused, 0}} {
		for who, reader := range map[string]client.Client{"the administrator": admin, "who may not read the neighbour": half} {
			a, err := ask(t.Context(), reader, size)
			if err != nil {
				t.Fatal(err)
			}
			// What the neighbour gave back would take the place of machines that are to be ordered.
			if a.Outcome != want.outcome || a.Pools[0].Order != want.order || len(a.Others) > 0 {
				t.Errorf("size %d is told to %s as %+v, want it %s with an order of %d", size, who, a, want.outcome, want.order)
			}
		}
	}
}

package planned_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/planned"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// TestPartly: a user who lacks one right is told which. Without it in the namespace of the member nothing is planned. Without it in the
// others it is, and their members are not taken for what they seem to be then: members without their MiniClusters for those that are being
// deleted, and members without their Jobs or pods for those that nobody runs on.
func TestPartly(t *testing.T) {
	t.Parallel()
	as := newServer(t)
	admin := as("")
	if err := admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-b"}}); err != nil {
		t.Fatal(err)
	}
	// Each pool has room for 6 nodes, of which a neighbour has 3 and mine one. The neighbour in hpc-b shrinks, and gives 2 nodes back when
	// its pods have left.
	held := []string{"hpc-b-0", "hpc-b-1", "hpc-b-2"}
	asked := map[string]types.NamespacedName{}
	for pool, neighbour := range map[string]struct {
		size int32
		held []string
	}{"hpc-a": {3, nil}, "hpc-b": {1, held}} {
		object := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: pool}, Spec: v1alpha1.NodePoolSpec{
			MaxSize: 6, Replicas: 4, ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute}, Machines: v1alpha1.MachinesSpec{
				Kwok: &v1alpha1.KwokMachines{},
			},
			Template: v1alpha1.NodeTemplate{Capacity: capacity()},
		}}
		if err := written(t.Context(), admin, object, func(p *v1alpha1.NodePool) { p.Status.Reserved, p.Status.Floor = 4, 4 }); err != nil {
			t.Fatal(err)
		}
		asked[pool] = types.NamespacedName{Namespace: "default", Name: "mine-" + pool}
		if _, err := createMember(t.Context(), admin, asked[pool], 1, v1alpha1.Reservation{NodePool: pool, Nodes: 1}); err != nil {
			t.Fatal(err)
		}
		job, err := createMember(t.Context(), admin, types.NamespacedName{Namespace: "team-b", Name: "with-" + pool}, neighbour.size,
			v1alpha1.Reservation{NodePool: pool, Nodes: 3, Held: neighbour.held})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range neighbour.held {
			err = errors.Join(err, createNode(t.Context(), admin, name, pool, "team-b/with-"+pool))
		}
		if len(neighbour.held) > 0 {
			err = errors.Join(err, createPods(t.Context(), admin, job, neighbour.held))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ask := func(ctx context.Context, reader client.Client, pool string, size int32) (*whatif.Answer, error) {
		return planned.OfMember(ctx, reader, clock.RealClock{}, asked[pool], whatif.Change{To: size})
	}
	answered := func(t *testing.T, reader client.Client) {
		t.Helper()
		for size, want := range map[int32]whatif.Outcome{3: whatif.Granted, 4: whatif.Refused} {
			for pool := range asked {
				a, err := ask(t.Context(), reader, pool, size)
				if err != nil {
					t.Fatal(err)
				}
				// What the neighbour gave back would take the place of machines that are to be ordered.
				tooFew := pool == "hpc-a" && want == whatif.Granted && a.Pools[0].Order != 2
				if a.Outcome != want || len(a.Others) > 0 || tooFew {
					t.Errorf("size %d in %s is told as %+v, want it %s", size, pool, a, want)
				}
			}
		}
	}
	answered(t, admin)
	for resource, name := range map[string]string{
		"ensemblemembers": "ensemblemembers." + v1alpha1.Group, "miniclusters": "miniclusters.flux-framework.org", "jobs": "jobs.batch",
		"pods": "pods",
	} {
		t.Run(resource, func(t *testing.T) {
			t.Parallel()
			others := without(resource)
			grant(t, admin, "none-"+resource, "", others...)
			grant(t, admin, "half-"+resource, "", others...)
			grant(t, admin, "half-"+resource, "default", reads...)
			none, half := as("none-"+resource), as("half-"+resource)
			inprocess.UntilWithin(t, patience, 50*time.Millisecond, func(ctx context.Context) (string, error) {
				// The API server learns of rights by watching.
				_, err := ask(ctx, none, "hpc-a", 2)
				if err == nil {
					return "it is planned without the right", nil
				}
				if want := "no right to list " + name + " in namespace default"; strings.Count(err.Error(), "no right to") != 1 ||
					!strings.Contains(err.Error(), want) {
					return fmt.Sprintf("%q is not all that it says: %v", want, err), nil
				}
				return "", nil
			})
			inprocess.UntilWithin(t, patience, 50*time.Millisecond, func(ctx context.Context) (string, error) {
				a, err := ask(ctx, half, "hpc-a", 2)
				missing := ""
				switch {
				case err != nil:
					missing = err.Error()
				case len(a.MissingRights) != 1 || a.MissingRights[0].String() != "no right to list "+name:
					missing = fmt.Sprintf("missing rights: %+v", a.MissingRights)
				}
				return missing, nil
			})
			answered(t, half)
		})
	}
}

// without are the rights to read all but a resource.
func without(resource string) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, rule := range reads {
		rule.Resources = slices.DeleteFunc(slices.Clone(rule.Resources), func(r string) bool { return r == resource })
		if len(rule.Resources) > 0 {
			rules = append(rules, rule)
		}
	}
	return rules
}

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestPoolDeletion: a NodePool that is deleted stays until no member reserves its nodes and no pod of others is on
// them, says what it waits for, grants nothing more, and then goes with its machines.
func TestPoolDeletion(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", 10, "0s")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.apply(`{apiVersion: v1, kind: Pod, metadata: {name: neighbour, namespace: %s}, spec: {tolerations: [{operator: Exists}],
		containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}], nodeSelector: {autoscaling.flux-framework.org/node-pool: %s}}}`,
		x.namespace, pool)
	x.nodes(pool, 3)

	x.removePool(pool)
	x.poolSays(pool, "it waits until no node is reserved by "+cluster.String())
	planned := x.plan(cluster, "grow", 1)
	x.grant(cluster, "grow", 1)
	x.refusedAsPlanned(cluster, v1alpha1.ReasonPoolDeleting, pool, planned)
	x.nodes(pool, 3)

	x.remove(cluster)
	x.gone(cluster)
	x.poolSays(pool, "it waits until no pod is on ")
	x.look(func(s *history.State) {
		if s.Pods[x.key("neighbour")] == nil {
			t.Errorf("the neighbour was removed with the NodePool")
		}
	})
	x.deletePod("neighbour")
	x.poolGone(pool)
	x.event(types.NamespacedName{Name: pool}, "Released", "released")
}

// poolSays waits until a NodePool that is not Ready says why.
func (x *tenant) poolSays(name, text string) {
	x.Helper()
	x.until(func(s *history.State) string {
		pool := s.Pools[name]
		if pool == nil {
			x.Fatalf("NodePool %s is gone, and should say: %s", name, text)
		}
		for _, c := range pool.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Status == "False" && strings.Contains(c.Message, text) {
				return ""
			}
		}
		return fmt.Sprintf("NodePool %s says %v", name, pool.Status.Conditions)
	})
}

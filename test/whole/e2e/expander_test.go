package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestNoNodeTwice: pods without a gate, which somebody's edit of a MiniCluster adds that was there before it was managed, wait for
// nodes that are on their way. A Cluster Autoscaler that has just been
// started knows of no order of its own, and orders none a second time, because the expander vetoes it. What a pod of nobody
// needs in the same pool is bought all the same.
// It is not parallel: it kills Cluster Autoscaler.
func TestNoNodeTwice(t *testing.T) {
	x := newTenant(t)
	pool := x.pool("hpc", 10, "6s")
	cluster := x.plainMiniCluster("m", 1, pool)
	x.lead(cluster)
	x.annotate(cluster, pool)
	x.atSize(cluster, 1)
	x.edit(cluster, 3)
	x.until(func(s *history.State) string {
		// Before the member is known the expander cannot know that its pods are those of one.
		if p := s.Pools[pool]; p.Spec.Replicas != 3 || p.Status.Floor != 3 {
			return fmt.Sprintf("the target of %s is %d and its floor %d, not 3", pool, p.Spec.Replicas, p.Status.Floor)
		}
		for _, pod := range s.Pods {
			if pod.Namespace != x.namespace {
				continue
			}
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
					return ""
				}
			}
		}
		return "no pod waits for a node"
	})
	if err := shared.RestartAutoscaler(t.Context()); err != nil {
		t.Fatal(err)
	}
	most := int32(0)
	x.until(func(s *history.State) string {
		most = max(most, s.Pools[pool].Spec.Replicas)
		return notAtSize(s, cluster, 3)
	})
	if most != 3 {
		t.Errorf("the target of %s was %d in between, and 3 nodes are needed", pool, most)
	}

	x.apply(`{apiVersion: v1, kind: Pod, metadata: {name: stranger, namespace: %s}, spec: {tolerations: [{operator: Exists}],
		containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}], nodeSelector: {autoscaling.flux-framework.org/node-pool: %s}}}`,
		x.namespace, pool)
	x.until(func(s *history.State) string {
		if pod := s.Pods[x.key("stranger")]; pod == nil || pod.Spec.NodeName == "" {
			return "the pod of nobody has no node"
		}
		return ""
	})
	x.nodes(pool, 4)
	x.deletePod("stranger")
	// That node is Cluster Autoscaler's to remove, after ten minutes. It goes with its pool here.
	x.remove(cluster)
	x.gone(cluster)
	x.nodes(pool, 1)
	x.removePool(pool)
	x.poolGone(pool)
}

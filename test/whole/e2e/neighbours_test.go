package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestNeighbours: pods of other workloads in a member's pool keep running where they are, on nodes that are
// not taken from under them, whatever the member does; and a MiniCluster without the annotation is left alone.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", 10, "1s")
	x.apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: neighbour, namespace: %[1]s}
spec:
  replicas: 2
  selector: {matchLabels: {app: neighbour}}
  template:
    metadata: {labels: {app: neighbour}}
    spec:
      nodeSelector: {autoscaling.flux-framework.org/node-pool: %[2]s}
      tolerations: [{key: example.com/dedicated, operator: Exists}]
      containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}]
`, x.namespace, pool)
	neighbours := x.neighbours(2)

	x.apply(`
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: plain, namespace: %[1]s}
spec:
  size: 1
  maxSize: 10
  interactive: true
  containers: [{image: "ubuntu:noble", runFlux: true, resources: {requests: {cpu: "3"}}}]
  pod:
    nodeAffinity: {autoscaling.flux-framework.org/node-pool: [%[2]s]}
    tolerations: [{key: example.com/dedicated, operator: Exists}]
`, x.namespace, pool)
	plain := x.key("plain")
	plainNode := x.lead(plain).Spec.NodeName

	cluster := x.miniCluster("m", 1, pool)
	x.atSize(cluster, 1)
	x.nodes(pool, 4)
	x.grant(cluster, "grow", 4)
	x.atSize(cluster, 5)
	x.grant(cluster, "shrink", 3)
	x.atSize(cluster, 2)
	x.nodes(pool, 5)
	x.remove(cluster)
	x.gone(cluster)
	x.nodes(pool, 3)

	if after := x.neighbours(2); !slices.Equal(after, neighbours) {
		t.Errorf("the neighbours were disturbed:\nbefore %v\nafter  %v", neighbours, after)
	}
	if node := x.lead(plain).Spec.NodeName; node != plainNode {
		t.Errorf("the plain MiniCluster's lead broker was moved from %s to %s", plainNode, node)
	}
	x.look(func(s *history.State) {
		if s.Members[plain] != nil {
			t.Errorf("a MiniCluster without the annotation has got a member")
		}
		for name := range s.MiniClusters[plain].GetAnnotations() {
			if strings.HasPrefix(name, v1alpha1.Group) {
				t.Errorf("a MiniCluster without the annotation has got %s", name)
			}
		}
		for _, name := range s.NodesOf(pool) {
			for annotation := range s.Nodes[name].Annotations {
				if strings.HasPrefix(annotation, v1alpha1.Group) || annotation == v1alpha1.AnnotationScaleDownDisabled {
					t.Errorf("node %s, which is nobody's but the neighbours', has the annotation %s", name, annotation)
				}
			}
			for _, taint := range s.Nodes[name].Spec.Taints {
				if taint.Key == v1alpha1.TaintToBeDeleted {
					t.Errorf("node %s, which is nobody's but the neighbours', is tainted to be deleted", name)
				}
			}
		}
	})
	x.remove(plain)
	x.gone(plain)
}

// neighbours are the running pods of the other workload, each with its node.
func (x *tenant) neighbours(count int) []string {
	x.Helper()
	var out []string
	x.until(func(s *history.State) string {
		out = nil
		uids := map[types.UID]bool{}
		for _, pod := range s.Pods {
			if pod.Namespace == x.namespace && pod.Labels["app"] == "neighbour" && pod.Status.Phase == corev1.PodRunning {
				out = append(out, fmt.Sprintf("%s (%s) on %s", pod.Name, pod.UID, pod.Spec.NodeName))
				uids[pod.UID] = true
			}
		}
		if len(uids) != count {
			return fmt.Sprintf("%d of %d neighbours run", len(uids), count)
		}
		return ""
	})
	slices.Sort(out)
	return out
}

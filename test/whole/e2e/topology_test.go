package e2e

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// zoneOutOfStock: a growth that has to be in one zone begins in the first one, which runs out of machines. It runs wholly in the
// second, and grows there though the first has machines again.
func zoneOutOfStock(x *tenant) {
	first := x.poolIn("eu-1a", "first", "{bootDelay: 30s, stock: 1}")
	second := x.poolIn("eu-1b", "second", "{bootDelay: 500ms}")
	cluster := x.key("m")
	text := fmt.Sprintf(`
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata:
  name: %s
  namespace: %s
  annotations:
    autoscaling.flux-framework.org/node-pools: %s,%s
    autoscaling.flux-framework.org/topology-key: %s
spec:
  size: 4
  minSize: 1
  maxSize: 10
  interactive: true
  containers:
  - image: ubuntu:noble
    runFlux: true
    resources: {requests: {cpu: "3", memory: 1Gi}}
  pod:
    nodeAffinity: {autoscaling.flux-framework.org/node-pool: [%s, %s]}
    tolerations: [{key: example.com/dedicated, operator: Exists}]
`, cluster.Name, cluster.Namespace, first, second, corev1.LabelTopologyZone, first, second)
	// What a zone has in stock shows when it is asked.
	x.granted(x.planNew(text), first+" 4")
	x.apply("%s", text)
	x.event(cluster, v1alpha1.ReasonFellBack, "reserved 4 more nodes in "+second+", in "+corev1.LabelTopologyZone+"=eu-1b")
	x.disturb()
	x.atSize(cluster, 4)
	x.inZone(cluster, "eu-1b")
	x.nodes(first, 0)

	x.atRest(cluster)

	x.patchPool(first, `{"spec":{"machines":{"kwok":{"stock":null,"bootDelay":"500ms"}}}}`)
	planned := x.plan(cluster, "grow", 2)
	x.granted(planned, second+" 6")
	x.grant(cluster, "grow", 2)
	x.disturb()
	x.atSize(cluster, 6)
	x.asPlanned(cluster, planned)
	x.inZone(cluster, "eu-1b")
	x.nodes(first, 0)
	x.nodes(second, 6)
	x.end(first, second)
}

// poolIn is poolOf for a pool of one zone.
func (x *tenant) poolIn(zone, name, kwok string) string {
	x.Helper()
	pool := x.poolOf(name, 10, false, kwok)
	x.patchPool(pool, fmt.Sprintf(`{"spec":{"template":{"labels":{%q:%q}}}}`, corev1.LabelTopologyZone, zone))
	return pool
}

// inZone checks that all pods of a member are on nodes of one zone, and that the member says so.
func (x *tenant) inZone(cluster types.NamespacedName, zone string) {
	x.Helper()
	x.look(func(s *history.State) {
		if got := s.Members[cluster].Status.TopologyDomain; got != corev1.LabelTopologyZone+"="+zone {
			x.Errorf("%s says that it is in %q, not in %s", cluster, got, zone)
		}
		for _, pod := range s.PodsOf(cluster) {
			node := s.Nodes[pod.Spec.NodeName]
			if node == nil || node.Labels[corev1.LabelTopologyZone] != zone {
				x.Errorf("pod %s is on %s, which is not in %s", pod.Name, pod.Spec.NodeName, zone)
			}
		}
	})
}

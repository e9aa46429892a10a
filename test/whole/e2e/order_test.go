package e2e

import (
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// poolsInOrder: MiniClusters go to the first pool of their list until it is full, then to the second. A pod of nobody that fits two
// other pools gets a node of the one that Cluster Autoscaler's own strategy prefers: with least-waste, the smaller one.
func poolsInOrder(x *tenant) {
	a, b := x.pool("a", 2, "500ms"), x.pool("b", 10, "500ms")
	planned := x.planNew(x.miniClusterText("first", 2, "{}", a, b))
	x.granted(planned, a+" 2")
	first := x.miniCluster("first", 2, a, b)
	x.atSize(first, 2)
	x.asPlanned(first, planned)
	x.nodes(a, 2)
	planned = x.planNew(x.miniClusterText("second", 2, "{}", a, b))
	x.granted(planned, b+" 2")
	second := x.miniCluster("second", 2, a, b)
	x.disturb()
	x.atSize(second, 2)
	x.asPlanned(second, planned)
	x.atRest(second)
	x.nodes(a, 2)
	x.nodes(b, 2)

	for name, cpu := range map[string]string{"large": "16", "small": "2"} {
		x.apply(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %[1]s-%[2]s}
spec:
  maxSize: 2
  template: {labels: {example.com/tenant: %[1]s}, capacity: {cpu: %[3]q, memory: 16Gi, pods: "110"}}
  machines: {kwok: {}}
`, x.namespace, name, cpu)
	}
	x.apply(`{apiVersion: v1, kind: Pod, metadata: {name: stranger, namespace: %[1]s}, spec: {nodeSelector: {example.com/tenant: %[1]s},
		containers: [{name: c, image: i, resources: {requests: {cpu: 1500m}}}]}}`, x.namespace)
	node := ""
	x.until(func(s *history.State) string {
		pod := s.Pods[x.key("stranger")]
		if pod == nil || pod.Status.Phase != corev1.PodRunning {
			return "the pod of nobody does not run"
		}
		node = pod.Spec.NodeName
		return ""
	})
	if os.Getenv(system.ClusterAutoscalerVariable) != "" && !strings.HasPrefix(node, x.namespace+"-small-") {
		x.Errorf("the pod of nobody is on %s, and would waste less on a node of the small pool", node)
	}
	x.deletePod("stranger")
	for _, name := range []string{"large", "small"} {
		// Nodes that were bought for others are Cluster Autoscaler's to remove. Here they go with their pool.
		x.removePool(x.namespace + "-" + name)
		x.poolGone(x.namespace + "-" + name)
	}
	x.end(a, b)
}

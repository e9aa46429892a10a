package e2e

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// strangers: pods of other workloads meet a dedicated pool in which nodes are held, Ready and empty, for a growth that waits for
// more. Those that do not tolerate the taint of the pool go to another node at once and never to these. One that tolerates it
// and asks for the pool is kept off by nobody, as its user wanted: it gets a held node and stays there. The growth, none of which
// has started, has another node ordered in its place and then starts whole.
func strangers(x *tenant) {
	pool := x.pool("hpc", 10, "500ms")
	x.patchPool(pool, `{"spec":{"minSize":3}}`)
	x.nodes(pool, 3)
	// From now on no machine comes.
	x.poolOf("hpc", 10, false, alwaysFails)
	cluster := x.miniCluster("m", 5, pool)
	x.growthWaits(cluster, 5, 3)
	planned := x.plan(cluster, "shrink", 1)
	if planned.Outcome != whatif.Shrinks || planned.Pools[0].Held != 3 || planned.Pools[0].After != 4 {
		x.Errorf("a shrink by 1 of a growth to 5 that waits with 3 nodes is planned as %+v", planned)
	}
	held := x.held(cluster)

	x.apply(`
apiVersion: v1
kind: Node
metadata: {name: %[1]s-common, annotations: {kwok.x-k8s.io/node: fake}, labels: {kubernetes.io/hostname: %[1]s-common}}
status: {allocatable: {cpu: "64", memory: 8Gi, pods: "110"}, capacity: {cpu: "64", memory: 8Gi, pods: "110"}}
`, x.namespace)
	x.until(func(s *history.State) string {
		node := s.Nodes[x.namespace+"-common"]
		return unless(history.Ready(node) && len(node.Spec.Taints) == 0, "the common node is not Ready")
	})
	// One that the scheduler does not know yet would keep them waiting.
	x.apply(`{apiVersion: v1, kind: Pod, metadata: {name: first, namespace: %[1]s, labels: {app: first}}, spec: {nodeSelector: {kubernetes.io/hostname: %[1]s-common},
		containers: [{name: c, image: i}]}}`, x.namespace)
	x.until(func(s *history.State) string {
		pod := s.Pods[x.key("first")]
		return unless(pod != nil && pod.Spec.NodeName != "", "no pod is on the common node")
	})
	x.deletePod("first")
	// Node for node, the held ones have more to offer: it is the taint that keeps the pods off them.
	x.apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: stranger, namespace: %s}
spec:
  replicas: 6
  selector: {matchLabels: {app: stranger}}
  template:
    metadata: {labels: {app: stranger}}
    spec: {containers: [{name: c, image: i, resources: {requests: {cpu: "1"}}}]}
`, x.namespace)
	x.disturb()
	x.until(func(s *history.State) string {
		running := 0
		for _, pod := range x.podsOfApp(s, "stranger") {
			if pod.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		return unless(running == 6, "%d of 6 strangers run", running)
	})
	x.growthWaits(cluster, 5, 3)

	x.apply(`
apiVersion: v1
kind: Pod
metadata: {name: guest, namespace: %s, labels: {app: guest}}
spec:
  nodeSelector: {autoscaling.flux-framework.org/node-pool: %s}
  tolerations: [{key: example.com/dedicated, operator: Exists}]
  containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}]
`, x.namespace, pool)
	node, guest := x.guest()
	if !slices.Contains(held, node) {
		x.Errorf("the guest is on %s, and the nodes %v were held", node, held)
	}
	x.disturb()
	x.growthWaits(cluster, 5, 2)
	x.says(cluster, v1alpha1.ConditionCapacityReady, v1alpha1.ReasonWaitingForNodes, "2 of 5 nodes are Ready in "+pool)
	if now := x.held(cluster); slices.Contains(now, node) {
		x.Errorf("the guest is on %s, and the member holds it still: %v", node, now)
	}

	x.poolOf("hpc", 10, false, "{bootDelay: 500ms}")
	x.atSize(cluster, 5)
	x.event(cluster, v1alpha1.ReasonPodsReleased, "released 5 pods of size 5 to 5 nodes")
	x.onHeldNodes(cluster)
	x.nodes(pool, 6)
	if now, uid := x.guest(); now != node || uid != guest {
		x.Errorf("the guest was on %s (%s), and is on %s (%s)", node, guest, now, uid)
	}
	x.noneHere("stranger", pool)
	x.leave()
	x.remove(cluster)
	x.gone(cluster)
	// The guest's node, which is no member's any more, would be Cluster Autoscaler's to remove, after ten minutes.
	x.removePool(pool)
	x.poolGone(pool)
}

// growthWaits waits until all pods of a MiniCluster are gated while so many Ready nodes are held for it, and no pod of its is on any.
func (x *tenant) growthWaits(cluster types.NamespacedName, pods, nodes int) {
	x.Helper()
	x.until(func(s *history.State) string {
		gated, ready := x.gatedPods(s, cluster), 0
		for _, name := range heldBy(s, cluster) {
			if history.Ready(s.Nodes[name]) {
				ready++
			}
		}
		return unless(len(gated) == pods && len(s.PodsOf(cluster)) == pods && ready == nodes,
			"%d of %d pods of %s are gated, and %d Ready nodes of %d are held", len(gated), pods, cluster, ready, nodes)
	})
}

// guest is the running guest's node and who it is.
func (x *tenant) guest() (node string, uid types.UID) {
	x.Helper()
	x.until(func(s *history.State) string {
		pod := s.Pods[x.key("guest")]
		if pod == nil || pod.Status.Phase != corev1.PodRunning {
			return "the guest does not run"
		}
		node, uid = pod.Spec.NodeName, pod.UID
		return ""
	})
	return node, uid
}

func (x *tenant) podsOfApp(s *history.State, app string) (pods []*corev1.Pod) {
	for _, pod := range s.Pods {
		if pod.Namespace == x.namespace && pod.Labels["app"] == app {
			pods = append(pods, pod)
		}
	}
	return pods
}

// noneHere checks that no pod of a workload ever was on a node of a pool, had a gate, or waited for a node.
func (x *tenant) noneHere(app, pool string) {
	x.Helper()
	nodes := map[string]bool{}
	for _, event := range shared.recorder.Events() {
		switch object := event.Object.(type) {
		case *corev1.Node:
			nodes[object.Name] = object.Labels[v1alpha1.LabelNodePool] == pool
		case *corev1.Pod:
			if object.Namespace != x.namespace || object.Labels["app"] != app {
				continue
			}
			where := fmt.Sprintf("pod %s (version %d)", object.Name, event.Version)
			if nodes[object.Spec.NodeName] {
				x.Errorf("%s is on %s, a node of %s", where, object.Spec.NodeName, pool)
			}
			if len(object.Spec.SchedulingGates) > 0 || history.Starved(object) {
				x.Errorf("%s had to wait: gates %v, conditions %v", where, object.Spec.SchedulingGates, object.Status.Conditions)
			}
		}
	}
}

// leave takes the other workloads away.
func (x *tenant) leave() {
	x.Helper()
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = x.namespace, "stranger"
	if err := shared.Client.Delete(x.Context(), deployment); err != nil {
		x.Fatal(err)
	}
	x.deletePod("guest")
	x.until(func(s *history.State) string {
		left := append(x.podsOfApp(s, "stranger"), x.podsOfApp(s, "guest")...)
		return unless(len(left) == 0, "%d pods of other workloads are left", len(left))
	})
}

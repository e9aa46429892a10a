package reality

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// LimitRanges that say what a container requests that does not say so itself.
const (
	limitsOfSix   = `{apiVersion: v1, kind: LimitRange, metadata: {name: l, namespace: %s}, spec: {limits: [{type: Container, defaultRequest: {cpu: "6"}, default: {cpu: "6"}}]}}`
	limitsOfThree = `{apiVersion: v1, kind: LimitRange, metadata: {name: l, namespace: %s}, spec: {limits: [{type: Container, defaultRequest: {cpu: "3"}, default: {cpu: "3"}}]}}`
)

// TestLimitRangeKnown: what the namespace makes of a container without requests is known when the MiniCluster is created.
func TestLimitRangeKnown(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 0, "no node has room")
	x.apply(limitsOfSix, x.namespace)
	x.limited()
	err := x.create("m", 2, cluster{resources: " "}, p)
	if err == nil || !strings.Contains(err.Error(), "6 of cpu") {
		t.Errorf("the answer to a MiniCluster whose pods will request 6 of cpu is %v", err)
	}
}

// TestLimitRangeLearned: a LimitRange comes after the MiniCluster, so that the pods of its next size are other than those that it has.
func TestLimitRangeLearned(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 2+3, "2 for what runs, 2 for the growth and 1 in the place of one of no use")
	m := x.cluster("m", 2, cluster{resources: " "}, p)
	x.atSize(m, 2)
	x.apply(limitsOfSix, x.namespace)
	x.limited()
	x.scale(m, 4)
	x.says(m, []string{v1alpha1.ReasonPodTooLarge, v1alpha1.ReasonBackingOff}, "6 of cpu")
	x.machines(p, 2)
	x.quiet(m, p, 5)
}

// TestLimitRangeAuto: how many pods share a node is what the pods request, not what their template does.
func TestLimitRangeAuto(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 5, "4 nodes for 4 pods and 1 in the place of one of no use")
	x.apply(limitsOfThree, x.namespace)
	x.limited()
	m := x.cluster("m", 4, cluster{resources: " ", annotations: "autoscaling.flux-framework.org/pods-per-node: Auto"}, p)
	x.atSize(m, 4)
	x.machines(p, 4)
}

// TestInjectedContainer: somebody's webhook adds a container to each pod, which has no room then.
func TestInjectedContainer(t *testing.T) {
	x := newTenant(t, "reality.example.com/inject: sidecar")
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 3, "2 for a claim that was granted before the pods were seen, and 1")
	m := x.cluster("m", 2, cluster{}, p)
	x.says(m, []string{v1alpha1.ReasonPodTooLarge}, "6 of cpu", p)
	x.machines(p, 0)
	x.quiet(m, p, 3)
}

// TestInjectedContainerFallBack: a pool whose nodes have room for the pods as they are is asked.
func TestInjectedContainerFallBack(t *testing.T) {
	x := newTenant(t, "reality.example.com/inject: sidecar")
	p, larger := x.pool("p", pool{maxSize: 30}), x.namespace+"-larger"
	x.apply(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec: {maxSize: 5, template: {capacity: {cpu: "8", memory: 16Gi, pods: "110"}}, machines: {kwok: {bootDelay: 1s}}}
`, larger)
	x.atMost(p, 3, "2 for a claim that was granted before the pods were seen, and 1")
	x.atMost(larger, 3, "2 for the claim and 1 in the place of one of no use")
	m := x.cluster("m", 2, cluster{}, p, larger)
	x.atSize(m, 2)
	x.machines(larger, 2)
	x.machines(p, 0)
}

// TestInjectedSelector: somebody's webhook sends the pods to nodes that the pool does not have.
func TestInjectedSelector(t *testing.T) {
	x := newTenant(t, "reality.example.com/inject: selector")
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 3, "2 for a claim that was granted before the pods were seen, and 1")
	m := x.cluster("m", 2, cluster{}, p)
	x.says(m, []string{v1alpha1.ReasonNotSelected}, "example.com/rack", "r9", p)
	x.machines(p, 0)
	x.quiet(m, p, 3)
	x.pool("p", pool{maxSize: 30, labels: "example.com/rack: r9"})
	x.atMost(p, 5, "and 2 when the pool has such nodes")
	x.atSize(m, 2)
}

// TestOverhead: the pods run in a RuntimeClass that takes a part of the node for itself.
func TestOverhead(t *testing.T) {
	x := newTenant(t, "reality.example.com/inject: overhead")
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 3, "2 for a claim that was granted before the pods were seen, and 1")
	m := x.cluster("m", 2, cluster{}, p)
	x.says(m, []string{v1alpha1.ReasonPodTooLarge}, "4500m of cpu", p)
	x.machines(p, 0)
	x.quiet(m, p, 3)
}

// TestRefusedByTheScheduler: what keeps the pods off their nodes is nothing that can be computed from requests, taints and labels. Two
// empty nodes are evidence enough.
func TestRefusedByTheScheduler(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 3, "2 for the claim and 1 in the place of one that the scheduler refuses")
	// A pod of another tenant on some node wants none of the member's pods in the whole pool.
	x.apply(`
apiVersion: v1
kind: Node
metadata: {name: %[1]s-node, annotations: {kwok.x-k8s.io/node: fake}, labels: {kubernetes.io/hostname: %[1]s-node, example.com/region: "%[1]s"}}
status: {allocatable: {cpu: "8", memory: 8Gi, pods: "10"}, capacity: {cpu: "8", memory: 8Gi, pods: "10"}}
---
apiVersion: v1
kind: Pod
metadata: {name: recluse, namespace: %[1]s}
spec:
  nodeSelector: {example.com/region: "%[1]s"}
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: example.com/region
        labelSelector: {matchLabels: {app.kubernetes.io/name: m}}
  containers: [{name: c, image: i}]
`, x.namespace)
	x.pool("p", pool{maxSize: 30, labels: `example.com/region: "` + x.namespace + `"`})
	x.until(func(s *history.State) string {
		pod := s.Pods[x.key("recluse")]
		return unless(pod != nil && pod.Spec.NodeName != "", "the recluse has no node")
	})
	m := x.cluster("m", 2, cluster{}, p)
	x.says(m, unusable(), "anti-affinity")
	x.machines(p, 0)
	x.quiet(m, p, 3)
}

// limited waits until the API server applies the tenant's LimitRange, of which it hears a little after it is there.
func (x *tenant) limited() {
	x.Helper()
	x.poll("the LimitRange is applied", func() (bool, error) {
		pod := x.trialPod()
		err := shared.Client.Create(x.Context(), pod, client.DryRunAll)
		return len(pod.Spec.Containers[0].Resources.Requests) > 0, err
	})
}

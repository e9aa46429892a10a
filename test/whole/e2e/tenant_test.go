package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// patience is how long anything may take. On a busy machine a step of two seconds takes many times that, and Cluster
// Autoscaler looks for what became of a call that was cut off, as when the provider is killed, after two minutes only; each time.
const patience = 10 * time.Minute

// tenants numbers the tenants of this run.
var tenants atomic.Int32

// tenant is what one test has to itself: a namespace, and pools whose names begin with it.
type tenant struct {
	*testing.T
	namespace string
	// disturb is called in the middle of things. In one run it does nothing, in others it kills a program.
	disturb func()
	// kills is how often a program had been killed when the test began.
	kills int32
}

func newTenant(t *testing.T) *tenant {
	t.Helper()
	x := &tenant{T: t, namespace: fmt.Sprintf("tenant-%d", tenants.Add(1)), disturb: func() {}, kills: shared.kills.Load()}
	x.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", x.namespace)
	// Pods are refused until there is a ServiceAccount for them, a little after their namespace.
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		err := shared.Client.Get(ctx, x.key("default"), &corev1.ServiceAccount{})
		return err == nil, client.IgnoreNotFound(err)
	}); err != nil {
		t.Fatalf("there is no ServiceAccount default in %s: %v", x.namespace, err)
	}
	return x
}

// apply applies YAML.
func (x *tenant) apply(format string, arguments ...any) {
	x.Helper()
	objects, err := system.Objects(fmt.Appendf(nil, format, arguments...))
	if err != nil {
		x.Fatal(err)
	}
	if err := shared.Apply(x.Context(), objects...); err != nil {
		x.Fatal(err)
	}
}

// pool declares a NodePool whose nodes have 4 cores, and returns its name.
func (x *tenant) pool(name string, maxSize int, bootDelay string) string {
	x.Helper()
	return x.poolOf(name, maxSize, false, "{bootDelay: "+bootDelay+"}")
}

// poolOf declares or edits a NodePool whose nodes have 4 cores and whose machines are as kwok says.
func (x *tenant) poolOf(name string, maxSize int, paused bool, kwok string) string {
	x.Helper()
	name = x.namespace + "-" + name
	x.apply(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  maxSize: %d
  paused: %t
  template:
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: "4", memory: 16Gi, pods: "110"}
  machines: {kwok: %s}
`, name, maxSize, paused, kwok)
	return name
}

// miniCluster creates a MiniCluster whose pods need a node each of the first pool.
func (x *tenant) miniCluster(name string, size int, pools ...string) types.NamespacedName {
	x.Helper()
	return x.miniClusterOf(name, size, "{}", pools...)
}

// miniClusterOf is miniCluster with annotations for the pods.
func (x *tenant) miniClusterOf(name string, size int, podAnnotations string, pools ...string) types.NamespacedName {
	x.Helper()
	x.apply("%s", x.miniClusterText(name, size, podAnnotations, pools...))
	return types.NamespacedName{Namespace: x.namespace, Name: name}
}

// miniClusterText is such a MiniCluster in YAML. Where its pods go, and what they tolerate, is added when it is created.
func (x *tenant) miniClusterText(name string, size int, podAnnotations string, pools ...string) string {
	managed := fmt.Sprintf(`{%s: "%s"}`, v1alpha1.AnnotationNodePools, strings.Join(pools, ","))
	return x.clusterText(name, size, managed, "{annotations: "+podAnnotations+"}")
}

// plainMiniCluster is miniCluster for one that is not managed, so that it says itself where its pods go.
func (x *tenant) plainMiniCluster(name string, size int, pools ...string) types.NamespacedName {
	x.Helper()
	pod := fmt.Sprintf(
		`{nodeAffinity: {%s: ["%s"]}, tolerations: [{key: example.com/dedicated, operator: Exists}]}`, v1alpha1.LabelNodePool,
		strings.Join(pools, `","`),
	)
	x.apply("%s", x.clusterText(name, size, "{}", pod))
	return types.NamespacedName{Namespace: x.namespace, Name: name}
}

func (x *tenant) clusterText(name string, size int, annotations, pod string) string {
	return fmt.Sprintf(`
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: %s, namespace: %s, annotations: %s}
spec:
  size: %d
  minSize: 1
  maxSize: 10
  interactive: true
  containers:
  - image: ubuntu:noble
    runFlux: true
    resources: {requests: {cpu: "3", memory: 1Gi}}
  pod: %s
`, name, x.namespace, annotations, size, pod)
}

// until waits for a state. unmet says what is missing, and nothing when nothing is.
func (x *tenant) until(unmet func(*history.State) string) {
	x.Helper()
	ctx, cancel := context.WithTimeoutCause(x.Context(), patience, fmt.Errorf("not within %s", patience))
	defer cancel()
	if err := shared.recorder.Until(ctx, unmet); err != nil {
		x.Fatalf("%v\n%s", err, x.story())
	}
}

// look reads something off the present state.
func (x *tenant) look(at func(*history.State)) {
	x.Helper()
	x.until(func(s *history.State) string { at(s); return "" })
}

// atSize waits until a MiniCluster has a size, runs, and its member has nothing left to do.
func (x *tenant) atSize(cluster types.NamespacedName, size int) {
	x.Helper()
	x.until(func(s *history.State) string { return notAtSize(s, cluster, size) })
}

func notAtSize(s *history.State, cluster types.NamespacedName, size int) string {
	pods, running := s.PodsOf(cluster), 0
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning {
			running++
		}
	}
	member := s.Members[cluster]
	switch {
	case member == nil:
		return fmt.Sprintf("there is no EnsembleMember %s", cluster)
	case s.Size(cluster) != int64(size):
		return fmt.Sprintf("%s has size %d, not %d: %s", cluster, s.Size(cluster), size, readyMessage(member))
	case running != size || len(pods) != size:
		return fmt.Sprintf("%d of %d pods of %s are Running: %s", running, size, cluster, readyMessage(member))
	case int(member.Status.Reserved) != size || member.Status.Growth != nil:
		return fmt.Sprintf("%s has %d nodes reserved, not %d, or still grows: %s", cluster, member.Status.Reserved, size, readyMessage(member))
	}
	if c := condition(member, v1alpha1.ConditionReady); c.status != "True" {
		return fmt.Sprintf("%s is not Ready: %s", cluster, c.message)
	}
	return ""
}

type conditionText struct{ status, reason, message string }

func condition(member *v1alpha1.EnsembleMember, kind string) conditionText {
	if member == nil {
		return conditionText{status: "Unknown", message: "there is no member"}
	}
	for i := range member.Status.Conditions {
		if c := &member.Status.Conditions[i]; c.Type == kind {
			return conditionText{string(c.Status), c.Reason, c.Message}
		}
	}
	return conditionText{status: "Unknown"}
}

func readyMessage(member *v1alpha1.EnsembleMember) string {
	return condition(member, v1alpha1.ConditionReady).message
}

// nodes waits until a pool has that many nodes and nothing on its way.
func (x *tenant) nodes(pool string, count int) {
	x.Helper()
	x.until(func(s *history.State) string {
		p := s.Pools[pool]
		if p == nil {
			return "there is no NodePool " + pool
		}
		if nodes := s.NodesOf(pool); len(nodes) != count || int(p.Spec.Replicas) != count || len(p.Spec.MachinesToDelete) > 0 ||
			int(p.Status.Replicas) != count || int(p.Status.Ready) != count {
			return fmt.Sprintf("%s has the nodes %v and target %d, status %d machines, %d Ready, %v to delete; %d are expected",
				pool, nodes, p.Spec.Replicas, p.Status.Replicas, p.Status.Ready, p.Spec.MachinesToDelete, count)
		}
		if machines, instances := machinesOf(s, pool), instancesOf(s, pool); len(machines) != count || len(instances) != count {
			return fmt.Sprintf("%s has the machines %v and the instances %v; %d are expected", pool, machines, instances, count)
		}
		return ""
	})
}

// instancesOf are the machines that the simulated cloud has for a pool.
func instancesOf(s *history.State, pool string) (names []string) {
	for name, instance := range s.Instances {
		if instance.Spec.NodePool == pool {
			names = append(names, name)
		}
	}
	return names
}

// floor waits until a pool has a floor.
func (x *tenant) floor(pool string, floor int) {
	x.Helper()
	x.until(func(s *history.State) string {
		if p := s.Pools[pool]; p == nil || int(p.Status.Floor) != floor {
			return fmt.Sprintf("the floor of %s is not %d", pool, floor)
		}
		return ""
	})
}

// target waits until Cluster Autoscaler has raised the target of a pool that far.
func (x *tenant) target(pool string, target int) {
	x.Helper()
	x.until(func(s *history.State) string {
		if p := s.Pools[pool]; p == nil || int(p.Spec.Replicas) < target {
			return fmt.Sprintf("the target of %s is below %d", pool, target)
		}
		return ""
	})
}

// size waits until a MiniCluster has been given a size, whatever its pods do.
func (x *tenant) size(cluster types.NamespacedName, size int) {
	x.Helper()
	x.until(func(s *history.State) string {
		if got := s.Size(cluster); got != int64(size) {
			return fmt.Sprintf("%s has size %d, not %d", cluster, got, size)
		}
		return ""
	})
}

// reply is what a member reads in the answer to a request.
type reply struct {
	Status ensemble.Response_ResultType
	From   int32  `json:"from"`
	Wants  int32  `json:"wants"`
	Has    int32  `json:"has"`
	Reason string `json:"reason"`
}

// lead waits for the pod of the lead broker.
func (x *tenant) lead(cluster types.NamespacedName) *corev1.Pod {
	x.Helper()
	var lead *corev1.Pod
	x.until(func(s *history.State) string {
		if lead = s.Lead(cluster); lead == nil {
			return fmt.Sprintf("the lead broker of %s does not run", cluster)
		}
		return ""
	})
	return lead
}

// ask sends a request from the pod of the lead broker.
func (x *tenant) ask(cluster types.NamespacedName, action string, amount int) reply {
	x.Helper()
	lead := x.lead(cluster)
	payload := fmt.Sprintf(`{"version":"v1alpha2","group":"flux-framework.org","%s":%d}`, action, amount)
	return x.send(lead.Status.PodIP, &ensemble.ActionRequest{Member: "miniclusters", Name: cluster.Name, Action: action, Payload: payload})
}

// grant is ask for what has to be granted.
func (x *tenant) grant(cluster types.NamespacedName, action string, amount int) {
	x.Helper()
	if r := x.ask(cluster, action, amount); r.Status != ensemble.Response_SUCCESS {
		x.Fatalf("%s %d of %s was answered %s: %s", action, amount, cluster, r.Status, r.Reason)
	}
}

// send sends a request from an address. The caches of the endpoint may not know a new pod yet, so a refusal
// for want of a pod is asked again.
func (x *tenant) send(from string, request *ensemble.ActionRequest) reply {
	x.Helper()
	var out reply
	err := wait.PollUntilContextTimeout(x.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		shared.serving.RLock()
		defer shared.serving.RUnlock()
		response, err := shared.AskFrom(ctx, net.ParseIP(from), func(
			ctx context.Context, c ensemble.EnsembleOperatorClient,
		) (*ensemble.Response, error) {
			return c.RequestAction(ctx, request)
		})
		if err != nil {
			return false, err
		}
		out = reply{Status: response.GetStatus()}
		if err := json.Unmarshal([]byte(response.GetPayload()), &out); err != nil {
			return false, fmt.Errorf("read the payload %q: %w", response.GetPayload(), err)
		}
		return !strings.Contains(out.Reason, "belongs to no running pod") || from == nobody, nil
	})
	if err != nil {
		x.Fatal(err)
	}
	return out
}

// nobody is an address that no pod has.
const nobody = "127.0.0.1"

// remove deletes a MiniCluster.
func (x *tenant) remove(cluster types.NamespacedName) {
	x.Helper()
	if err := shared.Client.Delete(x.Context(), object(cluster)); err != nil {
		x.Fatal(err)
	}
}

// gone waits until nothing is left of a MiniCluster.
func (x *tenant) gone(cluster types.NamespacedName) {
	x.Helper()
	x.until(func(s *history.State) string {
		switch {
		case s.MiniClusters[cluster] != nil:
			return fmt.Sprintf("MiniCluster %s is still there", cluster)
		case s.Members[cluster] != nil:
			return fmt.Sprintf("EnsembleMember %s is still there", cluster)
		case len(s.PodsOf(cluster)) > 0:
			return fmt.Sprintf("pods of %s are still there", cluster)
		}
		return ""
	})
}

// held are the nodes held for a member.
func (x *tenant) held(cluster types.NamespacedName) []string {
	x.Helper()
	var held []string
	x.look(func(s *history.State) { held = heldBy(s, cluster) })
	slices.Sort(held)
	return held
}

// marked waits until the provider has made the nodes held for a member say so. It may do that later than the pods run, when it
// was killed meanwhile.
func (x *tenant) marked(cluster types.NamespacedName) {
	x.Helper()
	x.until(func(s *history.State) string {
		for _, name := range heldBy(s, cluster) {
			if node := s.Nodes[name]; node == nil || node.Annotations[v1alpha1.AnnotationHeldBy] != cluster.String() {
				return fmt.Sprintf("%s does not say that %s holds it", name, cluster)
			}
		}
		return ""
	})
}

// event waits until an object has an event with a reason and a text. It may have been lost when a program was killed
// meanwhile.
func (x *tenant) event(object types.NamespacedName, reason, text string) {
	x.Helper()
	var seen []string
	err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		namespace := object.Namespace
		if namespace == "" {
			namespace = metaNamespaceDefault
		}
		var list eventsv1.EventList
		if err := shared.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		seen = nil
		for i := range list.Items {
			e := &list.Items[i]
			if e.Regarding.Name != object.Name {
				continue
			}
			if e.Reason == reason && strings.Contains(e.Note, text) {
				return true, nil
			}
			seen = append(seen, e.Reason+": "+e.Note)
		}
		return shared.kills.Load() != x.kills, nil
	})
	if err != nil {
		x.Errorf("%s has no event %s with %q; it has:\n  %s", object, reason, text, strings.Join(seen, "\n  "))
	}
}

// metaNamespaceDefault is where events of objects without a namespace are.
const metaNamespaceDefault = "default"

func (x *tenant) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: x.namespace, Name: name}
}

// object is a MiniCluster by its key alone.
func object(cluster types.NamespacedName) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("flux-framework.org/v1alpha2")
	u.SetKind("MiniCluster")
	u.SetNamespace(cluster.Namespace)
	u.SetName(cluster.Name)
	return u
}

// edit sets spec.size of a MiniCluster as a user does.
func (x *tenant) edit(cluster types.NamespacedName, size int) {
	x.Helper()
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"size":%d}}`, size))
	x.write(func(ctx context.Context) error { return shared.Client.Patch(ctx, object(cluster), patch) })
}

// write writes as a user does, who tries again while another test has the process killed that answers for the webhooks.
func (x *tenant) write(write func(context.Context) error) {
	x.Helper()
	if err := system.Write(x.Context(), write); err != nil {
		x.Fatal(err)
	}
}

// setAnnotation gives a MiniCluster an annotation as a user does, or takes it away when the value is nil.
func (x *tenant) setAnnotation(cluster types.NamespacedName, name string, value *string) {
	x.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{name: value}}})
	if err != nil {
		x.Fatal(err)
	}
	x.write(func(ctx context.Context) error {
		return shared.Client.Patch(ctx, object(cluster), client.RawPatch(types.MergePatchType, patch))
	})
}

// setGrowthPolicy annotates a MiniCluster, and waits until its member has the policy.
func (x *tenant) setGrowthPolicy(cluster types.NamespacedName, policy v1alpha1.GrowthPolicy) {
	x.Helper()
	x.setAnnotation(cluster, v1alpha1.AnnotationGrowthPolicy, new(string(policy)))
	x.until(func(s *history.State) string {
		if m := s.Members[cluster]; m == nil || m.Spec.GrowthPolicy != policy {
			return fmt.Sprintf("%s has not the growth policy %s", cluster, policy)
		}
		return ""
	})
}

// scaleDownDelay edits how long nodes that members give up stay in a pool.
func (x *tenant) scaleDownDelay(pool, delay string) {
	x.Helper()
	p := &v1alpha1.NodePool{}
	p.Name = pool
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"scaleDown":{"delay":%q}}}`, delay))
	x.write(func(ctx context.Context) error { return shared.Client.Patch(ctx, p, patch) })
}

// removePool deletes a NodePool.
func (x *tenant) removePool(name string) {
	x.Helper()
	pool := &v1alpha1.NodePool{}
	pool.Name = name
	if err := shared.Client.Delete(x.Context(), pool); err != nil {
		x.Fatal(err)
	}
}

// poolGone waits until a NodePool is gone, and its nodes and machines with it.
func (x *tenant) poolGone(name string) {
	x.Helper()
	x.until(func(s *history.State) string {
		if s.Pools[name] != nil || len(s.NodesOf(name)) > 0 {
			return fmt.Sprintf("NodePool %s (%v) or its nodes %v are still there", name, s.Pools[name] != nil, s.NodesOf(name))
		}
		if machines, instances := machinesOf(s, name), instancesOf(s, name); len(machines)+len(instances) > 0 {
			return fmt.Sprintf("of NodePool %s the machines %v and the instances %v are still there", name, machines, instances)
		}
		return ""
	})
}

// deletePod deletes a pod.
func (x *tenant) deletePod(name string) {
	x.Helper()
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = x.namespace, name
	if err := shared.Client.Delete(x.Context(), pod); err != nil {
		x.Fatal(err)
	}
}

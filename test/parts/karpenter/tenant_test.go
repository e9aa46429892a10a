package karpenter_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/karpenter"
)

// tenants numbers the tenants of this run.
var tenants atomic.Int32

// tenant is what one test has to itself: a namespace, and pools whose names begin with it.
type tenant struct {
	*testing.T
	namespace string
}

func newTenant(t *testing.T) *tenant {
	t.Helper()
	x := &tenant{T: t, namespace: fmt.Sprintf("k%d", tenants.Add(1))}
	x.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", x.namespace)
	x.poll("there is no ServiceAccount default", func(ctx context.Context) (bool, error) {
		err := shared.Client.Get(ctx, x.key("default"), &corev1.ServiceAccount{})
		return err == nil, client.IgnoreNotFound(err)
	})
	return x
}

func (x *tenant) poll(missing string, is func(context.Context) (bool, error)) {
	x.Helper()
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, *patience, true, is); err != nil {
		x.Fatalf("%s: %v\n%s", missing, err, x.story())
	}
}

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

func (x *tenant) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: x.namespace, Name: name}
}

// pool says what a NodePool is like.
type pool struct {
	maxSize int
	// class, instance and timeout are those of machines that come at once, unless something else is said.
	class, instance, timeout string
	paused                   bool
}

// pool declares or edits a NodePool, and returns its name.
func (x *tenant) pool(name string, p pool) string {
	x.Helper()
	name = x.namespace + "-" + name
	x.apply(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  maxSize: %d
  paused: %t
  provisionTimeout: %s
  template:
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: "4", memory: 8Gi, pods: "64"}
    allocatable: {cpu: 3900m, memory: 8182Mi}
  machines:
    karpenter:
      nodeClassRef: {group: %s, kind: %s, name: %s}
      requirements:
      - {key: node.kubernetes.io/instance-type, operator: In, values: [%s]}
      - {key: topology.kubernetes.io/zone, operator: In, values: [%s]}
      - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
`, name, max(p.maxSize, 1), p.paused, cmp.Or(p.timeout, "5m"), karpenter.Group, karpenter.Kind, cmp.Or(p.class, karpenter.ClassFast),
		cmp.Or(p.instance, karpenter.InstanceType), karpenter.Zone)
	return name
}

// cluster creates a MiniCluster of pods that need a node each.
func (x *tenant) cluster(name string, size int, pools ...string) types.NamespacedName {
	x.Helper()
	x.apply(`
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: %s, namespace: %s, annotations: {autoscaling.flux-framework.org/node-pools: "%s"}}
spec:
  size: %d
  minSize: 1
  maxSize: 60
  interactive: true
  containers: [{image: "ubuntu:noble", runFlux: true, resources: {requests: {cpu: "3"}}}]
`, name, x.namespace, strings.Join(pools, ","), size)
	return x.key(name)
}

// scale sets the size that a member wants, as kubectl scale does.
func (x *tenant) scale(cluster types.NamespacedName, size int) {
	x.Helper()
	member := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: cluster.Name}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"size":%d}}`, size))
	if err := system.Write(x.Context(), func(ctx context.Context) error { return shared.Client.Patch(ctx, member, patch) }); err != nil {
		x.Fatal(err)
	}
}

// remove deletes a MiniCluster.
func (x *tenant) remove(cluster types.NamespacedName) {
	x.Helper()
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("flux-framework.org/v1alpha2")
	u.SetKind("MiniCluster")
	u.SetNamespace(cluster.Namespace)
	u.SetName(cluster.Name)
	if err := shared.Client.Delete(x.Context(), u, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		x.Fatal(err)
	}
}

// until waits for a state. unmet says what is missing, and nothing when nothing is.
func (x *tenant) until(unmet func(*history.State) string) {
	x.Helper()
	ctx, cancel := context.WithTimeoutCause(x.Context(), *patience, fmt.Errorf("not within %s", *patience))
	defer cancel()
	if err := shared.recorder.Until(ctx, unmet); err != nil {
		x.Fatalf("%v\n%s", err, x.story())
	}
}

// atSize waits until a MiniCluster has a size, runs, and its member says that it is Ready.
func (x *tenant) atSize(cluster types.NamespacedName, size int) {
	x.Helper()
	x.until(func(s *history.State) string { return notAtSize(s, cluster, size) })
}

func notAtSize(s *history.State, cluster types.NamespacedName, size int) string {
	running := 0
	for _, pod := range s.PodsOf(cluster) {
		if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			running++
		}
	}
	member := s.Members[cluster]
	switch {
	case member == nil:
		return fmt.Sprintf("there is no EnsembleMember %s", cluster)
	case s.Size(cluster) != int64(size) || int(member.Status.Size) != size || running != size:
		return fmt.Sprintf("%s has size %d, and %d of %d pods run: %s", cluster, s.Size(cluster), running, size, words(member))
	case !meta.IsStatusConditionTrue(member.Status.Conditions, v1alpha1.ConditionReady) || member.Status.Growth != nil:
		return fmt.Sprintf("%s is not Ready, or still grows: %s", cluster, words(member))
	}
	return ""
}

func words(member *v1alpha1.EnsembleMember) string {
	if member == nil {
		return "there is no member"
	}
	if c := meta.FindStatusCondition(member.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		return c.Reason + ": " + c.Message
	}
	return "it says nothing yet"
}

// machines waits until a pool has that many machines and nodes, and wants no others, and returns the names of its nodes.
func (x *tenant) machines(pool string, count int) (nodes []string) {
	x.Helper()
	x.until(func(s *history.State) string {
		records := 0
		for _, machine := range s.Machines {
			if machine.Spec.NodePool == pool {
				records++
			}
		}
		p := s.Pools[pool]
		nodes = s.NodesOf(pool)
		if p == nil || records != count || len(nodes) != count || int(p.Spec.Replicas) != count {
			return fmt.Sprintf("%s has %d machines and the nodes %v; %d are expected", pool, records, nodes, count)
		}
		return ""
	})
	x.poll("there are NodeClaims for no machine", func(ctx context.Context) (bool, error) {
		claims, err := claimsOf(ctx, pool)
		return len(claims) == count, err
	})
	return nodes
}

// claimsOf are the NodeClaims of a pool.
func claimsOf(ctx context.Context, pool string) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("karpenter.sh/v1")
	list.SetKind("NodeClaimList")
	err := shared.Client.List(ctx, list, client.MatchingLabels{v1alpha1.LabelNodePool: pool})
	return list.Items, err
}

// unlaunched watches the NodeClaims of a pool. What it returns ends that, and tells how long one was without a provider id at the most.
func (x *tenant) unlaunched(pool string) (longest func() time.Duration) {
	x.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("karpenter.sh/v1")
	list.SetKind("NodeClaimList")
	watcher, err := shared.Client.Watch(x.Context(), list, client.MatchingLabels{v1alpha1.LabelNodePool: pool})
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(watcher.Stop)
	stop, told := make(chan struct{}), make(chan time.Duration, 1)
	go func() { told <- timeUnlaunched(watcher.ResultChan(), stop) }()
	return func() time.Duration {
		close(stop)
		return <-told
	}
}

// timeUnlaunched is how long a NodeClaim was without a provider id at the most, and an hour where that cannot be told.
func timeUnlaunched(events <-chan watch.Event, stop <-chan struct{}) (longest time.Duration) {
	since := map[types.UID]time.Time{}
	for {
		select {
		case <-stop:
			for _, at := range since {
				longest = max(longest, time.Since(at))
			}
			return longest
		case event := <-events:
			claim, is := event.Object.(*unstructured.Unstructured)
			if !is || event.Type == watch.Error {
				return time.Hour
			}
			providerID, _, _ := unstructured.NestedString(claim.Object, "status", "providerID")
			at, waits := since[claim.GetUID()]
			switch {
			case event.Type == watch.Deleted || providerID != "":
				if waits {
					longest = max(longest, time.Since(at))
				}
				delete(since, claim.GetUID())
			case !waits:
				since[claim.GetUID()] = time.Now()
			}
		}
	}
}

// failed waits until a NodePool tells of a failure.
func (x *tenant) failed(pool, code string, class v1alpha1.FailureClass) {
	x.Helper()
	x.until(func(s *history.State) string {
		f := s.Pools[pool].Status.LastFailure
		if f == nil || f.Code != code || f.Class != class {
			return fmt.Sprintf("%s tells of %+v", pool, f)
		}
		return ""
	})
}

// nodesOf are the nodes that the first pods of a MiniCluster are on, in order.
func (x *tenant) nodesOf(cluster types.NamespacedName, first int) (nodes []string) {
	x.Helper()
	x.until(func(s *history.State) string {
		nodes = nil
		for _, pod := range s.PodsOf(cluster) {
			if history.IndexOf(pod) < int64(first) {
				nodes = append(nodes, pod.Spec.NodeName)
			}
		}
		return ""
	})
	slices.Sort(nodes)
	return nodes
}

// ordinary is a workload that has nothing to do with ensembles, on nodes of a NodePool of Karpenter's own: pods that need a node
// each.
type ordinary struct {
	x    *tenant
	name string
	// scaled is when it was scaled last.
	scaled time.Time
}

func (x *tenant) ordinary(name, disruption string) *ordinary {
	x.Helper()
	name = x.namespace + "-" + name
	x.apply(`
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: %[1]s}
spec:
  disruption: {%[2]s}
  template:
    metadata: {labels: {example.com/ordinary: %[1]s}}
    spec:
      expireAfter: Never
      nodeClassRef: {group: %[3]s, kind: %[4]s, name: %[5]s}
      requirements:
      - {key: node.kubernetes.io/instance-type, operator: In, values: [%[6]s]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[7]s}
spec:
  replicas: 0
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 0
      nodeSelector: {example.com/ordinary: %[1]s}
      containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}]
`, name, cmp.Or(
		disruption, "consolidationPolicy: WhenEmpty, consolidateAfter: Never",
	), karpenter.Group, karpenter.Kind, karpenter.ClassFast,
		karpenter.InstanceType, x.namespace)
	return &ordinary{x: x, name: name}
}

// scale sets how many pods it has.
func (o *ordinary) scale(replicas int) {
	o.x.Helper()
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: o.x.namespace, Name: o.name}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	o.scaled = time.Now()
	if err := shared.Client.Patch(o.x.Context(), deployment, patch); err != nil {
		o.x.Fatal(err)
	}
}

// runs waits until its pods run, and returns how long after scale the last one was Ready, whenever it is called.
func (o *ordinary) runs(replicas int) time.Duration {
	o.x.Helper()
	var last time.Time
	o.x.until(func(s *history.State) string {
		running := 0
		last = time.Time{}
		for _, pod := range s.Pods {
			if pod.Labels["app"] != o.name || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
				continue
			}
			running++
			at := time.Now()
			for i := range pod.Status.Conditions {
				if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					at = c.LastTransitionTime.Time
				}
			}
			if at.After(last) {
				last = at
			}
		}
		if running != replicas {
			return fmt.Sprintf("%d of %d pods of %s run", running, replicas, o.name)
		}
		return ""
	})
	took := last.Sub(o.scaled)
	o.x.Logf("%d pods of %s ran %s after they were asked for", replicas, o.name, took.Round(time.Second))
	return took
}

// nodes are those of its NodePool.
func (o *ordinary) nodes(s *history.State) (names []string) {
	for name, node := range s.Nodes {
		if node.Labels["example.com/ordinary"] == o.name {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// story is what is there of a tenant, for a test that has failed.
func (x *tenant) story() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Context()), time.Minute)
	defer cancel()
	var b strings.Builder
	_ = shared.recorder.Until(ctx, func(s *history.State) string { // What is not known is not told.
		for name, p := range s.Pools {
			if strings.HasPrefix(name, x.namespace+"-") {
				fmt.Fprintf(&b, "NodePool %s: target %d, nodes %v, last failure %+v\n", name, p.Spec.Replicas, s.NodesOf(name), p.Status.LastFailure)
			}
		}
		for name, m := range s.Machines {
			if strings.HasPrefix(name, x.namespace+"-") {
				fmt.Fprintf(&b, "PoolMachine %s: deleted %v, %+v\n", name, m.DeletionTimestamp, m.Status)
			}
		}
		for key, m := range s.Members {
			if key.Namespace == x.namespace {
				fmt.Fprintf(&b, "EnsembleMember %s: %s\n", key, words(m))
			}
		}
		return ""
	})
	var claims unstructured.UnstructuredList
	claims.SetAPIVersion("karpenter.sh/v1")
	claims.SetKind("NodeClaimList")
	if err := shared.Client.List(ctx, &claims); err == nil {
		for i := range claims.Items {
			c := &claims.Items[i]
			fmt.Fprintf(
				&b, "NodeClaim %s: deleted %v, finalizers %v, %v\n", c.GetName(), c.GetDeletionTimestamp(), c.GetFinalizers(), c.Object["status"],
			)
		}
	}
	var events eventsv1.EventList
	if err := shared.Client.List(ctx, &events); err == nil {
		slices.SortFunc(events.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
		for i := range events.Items {
			e := &events.Items[i]
			if e.Regarding.Kind != "Pod" && (e.Namespace == x.namespace || strings.HasPrefix(e.Regarding.Name, x.namespace+"-")) {
				fmt.Fprintf(&b, "%s %s %s: %s\n", e.EventTime.UTC().Format("15:04:05.000"), e.Regarding.Name, e.Reason, e.Note)
			}
		}
	}
	return b.String()
}

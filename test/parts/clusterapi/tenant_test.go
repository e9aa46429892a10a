package clusterapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// tenants numbers the tenants of this run.
var tenants atomic.Int32

// tenant is what one test has to itself: a namespace, and pools whose names begin with it.
type tenant struct {
	*testing.T
	system    *system.System
	capi      *Installation
	recorder  *history.Recorder
	namespace string
	pools     []string
}

func newTenant(t *testing.T) *tenant {
	t.Helper()
	return tenantOf(t, shared.System, shared.capi, shared.recorder)
}

func tenantOf(t *testing.T, s *system.System, capi *Installation, recorder *history.Recorder) *tenant {
	t.Helper()
	x := &tenant{T: t, system: s, capi: capi, recorder: recorder, namespace: fmt.Sprintf("tenant-%d", tenants.Add(1))}
	x.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", x.namespace)
	x.poll("there is no ServiceAccount default", func(ctx context.Context) (bool, error) {
		err := s.Client.Get(ctx, types.NamespacedName{Namespace: x.namespace, Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, client.IgnoreNotFound(err)
	})
	return x
}

func (x *tenant) poll(what string, done func(context.Context) (bool, error)) {
	x.Helper()
	if err := wait.PollUntilContextTimeout(x.Context(), 50*time.Millisecond, *patience, true, done); err != nil {
		x.Fatalf("%s: %v", what, err)
	}
}

func (x *tenant) apply(format string, arguments ...any) {
	x.Helper()
	objects, err := system.Objects(fmt.Appendf(nil, format, arguments...))
	if err == nil {
		err = x.system.Apply(x.Context(), objects...)
	}
	if err != nil {
		x.Fatal(err)
	}
}

// node is what the nodes of pools register with, as their bootstrap says.
const node = `
taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
capacity: {cpu: "4", memory: 16Gi, pods: "110"}
`

// pool declares a NodePool whose machines are as a template says, and returns its name.
func (x *tenant) pool(name string, maxSize int, of Template) string {
	x.Helper()
	name = x.namespace + "-" + name
	of.Node = node
	if err := x.capi.Apply(x.Context(), name, &of); err != nil {
		x.Fatal(err)
	}
	x.poolOf(name, maxSize, fmt.Sprintf("{apiGroup: tiny.example.com, kind: TinyMachineTemplate, name: %s}", name))
	return name
}

// poolOf declares a NodePool with an infrastructure template.
func (x *tenant) poolOf(name string, maxSize int, infrastructure string) {
	x.Helper()
	x.pools = append(x.pools, name)
	x.apply(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  maxSize: %d
  template:
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: "4", memory: 16Gi, pods: "110"}
  machines:
    clusterAPI:
      namespace: %s
      clusterName: %s
      infrastructureTemplateRef: %s
      bootstrap: {templateRef: {apiGroup: tiny.example.com, kind: TinyConfigTemplate, name: %s}}
`, name, maxSize, x.capi.Namespace, ClusterName, infrastructure, ConfigTemplate)
}

// miniCluster creates a MiniCluster whose pods need a node each.
func (x *tenant) miniCluster(name string, size int, pools ...string) types.NamespacedName {
	x.Helper()
	x.apply(`
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: %s, namespace: %s, annotations: {%s: "%s"}}
spec:
  size: %d
  minSize: 1
  maxSize: 10
  interactive: true
  containers: [{image: ubuntu:noble, runFlux: true, resources: {requests: {cpu: "3", memory: 1Gi}}}]
`, name, x.namespace, v1alpha1.AnnotationNodePools, strings.Join(pools, ","), size)
	return types.NamespacedName{Namespace: x.namespace, Name: name}
}

func (x *tenant) until(unmet func(*history.State) string) {
	x.Helper()
	ctx, cancel := context.WithTimeoutCause(x.Context(), *patience, fmt.Errorf("not within %s", *patience))
	defer cancel()
	if err := x.recorder.Until(ctx, unmet); err != nil {
		x.Fatalf("%v\n%s", err, x.story())
	}
}

// story is what there is of the machines of a tenant.
func (x *tenant) story() string {
	var b strings.Builder
	for _, kind := range []string{"Machine", "TinyMachine"} {
		for _, name := range slices.Sorted(maps.Keys(x.objects(kind))) {
			o := x.objects(kind)[name]
			fmt.Fprintf(&b, "%s %s: going %t, %v\n", kind, name, o.GetDeletionTimestamp() != nil, o.Object["status"])
		}
	}
	var records v1alpha1.PoolMachineList
	if err := x.system.Client.List(context.WithoutCancel(x.Context()), &records); err != nil {
		return err.Error()
	}
	for i := range records.Items {
		if m := &records.Items[i]; strings.HasPrefix(m.Name, x.namespace+"-") {
			fmt.Fprintf(&b, "PoolMachine %s: going %t, %+v\n", m.Name, m.DeletionTimestamp != nil, m.Status)
		}
	}
	return b.String()
}

// atSize waits until a member has a size, with a pod that runs on each of its nodes, and wants nothing more.
func (x *tenant) atSize(cluster types.NamespacedName, size int) {
	x.Helper()
	x.until(func(s *history.State) string {
		member, running := s.Members[cluster], 0
		for _, pod := range s.PodsOf(cluster) {
			if pod.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		switch {
		case member == nil:
			return "there is no member"
		case int(s.Size(cluster)) != size, running != size, len(s.PodsOf(cluster)) != size:
			return fmt.Sprintf("%s has size %d and %d of %d pods run: %s", cluster, s.Size(cluster), running, size, words(member))
		case int(member.Status.Reserved) != size, member.Status.Growth != nil:
			return fmt.Sprintf("%s has reserved %d of %d nodes: %s", cluster, member.Status.Reserved, size, words(member))
		}
		return ""
	})
}

func words(member *v1alpha1.EnsembleMember) string {
	for i := range member.Status.Conditions {
		if c := &member.Status.Conditions[i]; c.Type == v1alpha1.ConditionReady {
			return c.Reason + ": " + c.Message
		}
	}
	return "it says nothing"
}

// machines waits until a pool has that many machines: in its target, in its records, in its nodes, and in Cluster API.
func (x *tenant) machines(pool string, count int) {
	x.Helper()
	x.until(func(s *history.State) string {
		records := 0
		for _, m := range s.Machines {
			if m.Spec.NodePool == pool {
				records++
			}
		}
		nodes := s.NodesOf(pool)
		if p := s.Pools[pool]; p == nil || int(p.Spec.Replicas) != count || records != count || len(nodes) != count {
			return fmt.Sprintf("%s has %d records and the nodes %v, not %d", pool, records, nodes, count)
		}
		return ""
	})
	for _, kind := range []string{"Machine", "TinyMachine", "TinyConfig"} {
		x.poll(fmt.Sprintf("%s has not %d of %s", pool, count, kind), func(context.Context) (bool, error) {
			return len(x.of(kind, pool)) == count, nil
		})
	}
}

// objects are all of a kind where the Machines are, by name.
func (x *tenant) objects(kind string) map[string]*unstructured.Unstructured {
	x.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("tiny.example.com/v1")
	if kind == "Machine" {
		list.SetAPIVersion("cluster.x-k8s.io/v1beta2")
	}
	list.SetKind(kind + "List")
	if err := x.capi.Client.List(context.WithoutCancel(x.Context()), list, client.InNamespace(x.capi.Namespace)); err != nil {
		x.Fatal(err)
	}
	out := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		out[list.Items[i].GetName()] = &list.Items[i]
	}
	return out
}

// of are the UIDs of those of a pool.
func (x *tenant) of(kind, pool string) map[string]types.UID {
	x.Helper()
	out := map[string]types.UID{}
	for name, object := range x.objects(kind) {
		if object.GetLabels()[v1alpha1.LabelNodePool] == pool {
			out[name] = object.GetUID()
		}
	}
	return out
}

// grant has the lead broker of a member ask, which is granted.
func (x *tenant) grant(cluster types.NamespacedName, action string, amount int) {
	x.Helper()
	var lead *corev1.Pod
	x.until(func(s *history.State) string {
		if lead = s.Lead(cluster); lead == nil {
			return "there is no lead broker"
		}
		return ""
	})
	x.poll("the controller does not get to know the lead broker", func(ctx context.Context) (bool, error) {
		response, err := x.system.Action(ctx, lead, cluster.Name, action, amount)
		if err == nil && response.GetStatus() == ensemble.Response_DENIED && strings.Contains(
			response.GetPayload(), "belongs to no running pod",
		) {
			return false, nil // Its cache is behind: nothing was carried out.
		}
		if err == nil && response.GetStatus() != ensemble.Response_SUCCESS {
			err = fmt.Errorf("%s %d: %v", action, amount, response)
		}
		return err == nil, err
	})
}

// held are the nodes that a member holds.
func (x *tenant) held(cluster types.NamespacedName) (names []string) {
	x.Helper()
	x.until(func(s *history.State) string {
		names = nil
		for name, node := range s.Nodes {
			if node.Annotations[v1alpha1.AnnotationHeldBy] == cluster.String() {
				names = append(names, name)
			}
		}
		return ""
	})
	slices.Sort(names)
	return names
}

// end deletes the members and waits until nothing is left of the pools, here and in Cluster API.
func (x *tenant) end(clusters ...types.NamespacedName) {
	x.Helper()
	for _, key := range clusters {
		object := &unstructured.Unstructured{}
		object.SetAPIVersion("flux-framework.org/v1alpha2")
		object.SetKind("MiniCluster")
		object.SetName(key.Name)
		object.SetNamespace(key.Namespace)
		if err := system.Write(x.Context(), func(ctx context.Context) error { return x.system.Client.Delete(ctx, object) }); err != nil {
			x.Fatal(err)
		}
	}
	for _, pool := range x.pools {
		x.machines(pool, 0)
	}
}

package history

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// State is what is known of all objects at one moment. Its objects must not be changed.
type State struct {
	Nodes        map[string]*corev1.Node
	Pods         map[types.NamespacedName]*corev1.Pod
	Pools        map[string]*v1alpha1.NodePool
	Machines     map[string]*v1alpha1.PoolMachine
	Instances    map[string]*v1alpha1.KwokInstance
	Members      map[types.NamespacedName]*v1alpha1.EnsembleMember
	MiniClusters map[types.NamespacedName]*unstructured.Unstructured

	// podsOn has the keys of the pods on a node, so that no check has to look at all of them.
	podsOn map[string]map[types.NamespacedName]bool
}

func newState() *State {
	return &State{
		Nodes:        map[string]*corev1.Node{},
		Pods:         map[types.NamespacedName]*corev1.Pod{},
		Pools:        map[string]*v1alpha1.NodePool{},
		Machines:     map[string]*v1alpha1.PoolMachine{},
		Instances:    map[string]*v1alpha1.KwokInstance{},
		Members:      map[types.NamespacedName]*v1alpha1.EnsembleMember{},
		MiniClusters: map[types.NamespacedName]*unstructured.Unstructured{},
		podsOn:       map[string]map[types.NamespacedName]bool{},
	}
}

// put takes a version in, or an object out, and returns the version before, nil for none.
func (s *State) put(object client.Object, deleted bool) (before client.Object) {
	key := client.ObjectKeyFromObject(object)
	switch o := object.(type) {
	case *corev1.Node:
		return put(s.Nodes, key.Name, o, deleted)
	case *corev1.Pod:
		if node := o.Spec.NodeName; node != "" && s.podsOn[node] == nil {
			s.podsOn[node] = map[types.NamespacedName]bool{}
		}
		if deleted {
			delete(s.podsOn[o.Spec.NodeName], key)
		} else if o.Spec.NodeName != "" {
			s.podsOn[o.Spec.NodeName][key] = true
		}
		return put(s.Pods, key, o, deleted)
	case *v1alpha1.NodePool:
		return put(s.Pools, key.Name, o, deleted)
	case *v1alpha1.PoolMachine:
		return put(s.Machines, key.Name, o, deleted)
	case *v1alpha1.KwokInstance:
		return put(s.Instances, key.Name, o, deleted)
	case *v1alpha1.EnsembleMember:
		return put(s.Members, key, o, deleted)
	case *unstructured.Unstructured:
		return put(s.MiniClusters, key, o, deleted)
	}
	return nil
}

func put[K comparable, V interface {
	comparable
	client.Object
}](all map[K]V, key K, object V, deleted bool) client.Object {
	var none V
	before := all[key]
	if deleted {
		delete(all, key)
	} else {
		all[key] = object
	}
	if before == none {
		return nil
	}
	return before
}

// PodsOf are the pods of a MiniCluster that have not ended, by their indexes' order.
func (s *State) PodsOf(cluster types.NamespacedName) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, pod := range s.Pods {
		if MiniClusterOf(pod) == cluster && !Ended(pod) {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return int(IndexOf(a) - IndexOf(b)) })
	return pods
}

// Lead is the running pod of the lead broker, nil when there is none.
func (s *State) Lead(cluster types.NamespacedName) *corev1.Pod {
	for _, pod := range s.PodsOf(cluster) {
		if IndexOf(pod) == 0 && pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != "" && pod.DeletionTimestamp == nil {
			return pod
		}
	}
	return nil
}

// PodsOn are the pods on a node that have not ended.
func (s *State) PodsOn(node string) []*corev1.Pod {
	var pods []*corev1.Pod
	for key := range s.podsOn[node] {
		if pod := s.Pods[key]; pod != nil && !Ended(pod) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// NodesOf are the names of the nodes of a pool, in order.
func (s *State) NodesOf(pool string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		if s.Nodes[name].Labels[v1alpha1.LabelNodePool] == pool {
			names = append(names, name)
		}
	}
	return names
}

// MachineOf is the record of the machine whose node that is, nil where there is none: its name and its provider id agree.
func (s *State) MachineOf(node *corev1.Node) *v1alpha1.PoolMachine {
	for _, machine := range s.Machines {
		if machine.Status.NodeName == node.Name && machine.Status.ProviderID == node.Spec.ProviderID {
			return machine
		}
	}
	return nil
}

// InstanceOf is what the simulated cloud has for a machine, nil where it has nothing.
func (s *State) InstanceOf(machine string) *v1alpha1.KwokInstance {
	for _, instance := range s.Instances {
		if instance.Spec.Machine == machine {
			return instance
		}
	}
	return nil
}

// instanceUnder is what the simulated cloud has under a node, nil where it has nothing.
func (s *State) instanceUnder(node *corev1.Node) *v1alpha1.KwokInstance {
	for _, instance := range s.Instances {
		if instance.Spec.NodeName == node.Name && instance.Spec.ProviderID == node.Spec.ProviderID {
			return instance
		}
	}
	return nil
}

// NodeOf is the node of a machine, nil where there is none: by what the cloud knows, else by what is recorded.
func (s *State) NodeOf(machine string) *corev1.Node {
	name, id := "", ""
	if instance := s.InstanceOf(machine); instance != nil {
		name, id = instance.Spec.NodeName, instance.Spec.ProviderID
	} else if record := s.Machines[machine]; record != nil {
		name, id = record.Status.NodeName, record.Status.ProviderID
	}
	if node := s.Nodes[name]; node != nil && node.Spec.ProviderID == id {
		return node
	}
	return nil
}

// Live counts the machines of a pool that are not on their way out: those that are to go, and those that are cancelled.
func (s *State) Live(pool *v1alpha1.NodePool) int {
	count := 0
	for name, machine := range s.Machines {
		if machine.Spec.NodePool == pool.Name && machine.DeletionTimestamp == nil && !slices.Contains(pool.Spec.MachinesToDelete, name) {
			count++
		}
	}
	return count
}

// ReadyNodes counts the Ready nodes of a pool.
func (s *State) ReadyNodes(pool string) int {
	count := 0
	for _, node := range s.Nodes {
		if node.Labels[v1alpha1.LabelNodePool] == pool && Ready(node) {
			count++
		}
	}
	return count
}

// Size is spec.size of a MiniCluster, 0 when there is none.
func (s *State) Size(cluster types.NamespacedName) int64 { return sizeOf(s.MiniClusters[cluster]) }

func sizeOf(cluster *unstructured.Unstructured) int64 {
	if cluster == nil {
		return 0
	}
	size, _, _ := unstructured.NestedInt64(cluster.Object, "spec", "size")
	return size
}

// MiniClusterOf is the MiniCluster that a pod belongs to, the zero key for none. The Flux Operator's Job has
// the name of the MiniCluster and gives its pods the label app.kubernetes.io/name of the same value.
func MiniClusterOf(pod *corev1.Pod) types.NamespacedName {
	job := pod.Labels[batchv1.JobNameLabel]
	if job == "" || pod.Labels["hpa-selector"] != job {
		return types.NamespacedName{}
	}
	return types.NamespacedName{Namespace: pod.Namespace, Name: job}
}

// MemberOf is the key of the member that a pod belongs to, the zero key for none: what its label says where its member is not that of a
// MiniCluster, whose pods may have no label.
func MemberOf(pod *corev1.Pod) types.NamespacedName {
	if name := pod.Labels[v1alpha1.LabelMember]; strings.Contains(name, ".") {
		return types.NamespacedName{Namespace: pod.Namespace, Name: name}
	}
	return MiniClusterOf(pod)
}

// IndexOf is the completion index of a pod, -1 when it has none.
func IndexOf(pod *corev1.Pod) int64 {
	index, err := strconv.ParseInt(pod.Labels[batchv1.JobCompletionIndexAnnotation], 10, 32)
	if err != nil {
		return -1
	}
	return index
}

// Ended reports whether a pod has succeeded or failed.
func Ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Ready reports whether a node is Ready.
func Ready(node *corev1.Node) bool {
	if node == nil {
		return false
	}
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Gated reports whether a pod waits behind the scheduling gate of managed MiniClusters.
func Gated(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.SchedulingGate })
}

// Starved reports whether the scheduler has found no node for a pod.
func Starved(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return true
		}
	}
	return false
}

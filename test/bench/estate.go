package main

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/kwok"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// What the cluster holds is computed from numbers, so that the client, another process, knows it too.

// headroom is how far each target is below maxSize, for the writes.
const headroom = 10

func poolName(group int) string { return fmt.Sprintf("hpc-%04d", group) }

// nodePool is a group at rest.
func nodePool(s size, group int) *v1alpha1.NodePool {
	target := int32(s.machinesIn(group))
	template := v1alpha1.NodeTemplate{
		Labels: map[string]string{
			corev1.LabelInstanceTypeStable: "hpc.16xlarge",
			corev1.LabelTopologyRegion:     "region-1",
			corev1.LabelTopologyZone:       fmt.Sprintf("region-1-%c", 'a'+group%3),
			"example.com/dedicated":        "hpc",
		},
		Taints: []corev1.Taint{{Key: "example.com/dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110"),
		},
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("63500m")},
	}
	if group%10 == 0 {
		template.Labels[v1alpha1.Group+"/accelerator"] = "model-x"
	}
	// Prices differ, so that the cheapest pool has to be searched for.
	price := resource.MustParse(fmt.Sprintf("%d.%02d", 1+group%7, group%100))
	return &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: poolName(group)},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: target + headroom, Replicas: target,
			Template: template, PricePerHour: &price,
			ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute},
			Autoscaler:       v1alpha1.AutoscalerClusterAutoscaler,
			Machines:         v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
}

// registered is a machine that has a node: what the simulated cloud has of it, and its record.
type registered struct {
	instance *v1alpha1.KwokInstance
	record   *v1alpha1.PoolMachine
}

// machineOf is the n-th machine of a group of a cluster, which is known by its id.
func machineOf(p *v1alpha1.NodePool, n int, ordered time.Time, cluster string) *registered {
	name := nodegroup.MachineName(p.Name, int64(n))
	at, labels := metav1.NewMicroTime(ordered), map[string]string{v1alpha1.LabelNodePool: p.Name}
	record := &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Finalizers: []string{v1alpha1.FinalizerMachine}},
		Spec: v1alpha1.PoolMachineSpec{
			NodePool: p.Name, Purpose: v1alpha1.PurposeAutoscaler, Order: v1alpha1.MachineOrder{ID: "autoscaler", Size: 1, First: int64(n), Last: int64(n)},
			OrderedAt: at, Template: p.Spec.Template, Machines: p.Spec.Machines,
		},
		Status: v1alpha1.PoolMachineStatus{ProviderID: kwok.ProviderID(p.Name, name), NodeName: name},
	}
	// The provider says so, and does not write what it finds written.
	for kind, says := range map[string][2]string{
		v1alpha1.ConditionLaunched:   {v1alpha1.ReasonLaunched, "the machine exists"},
		v1alpha1.ConditionRegistered: {v1alpha1.ReasonRegistered, "its node is " + name},
		v1alpha1.ConditionReady:      {v1alpha1.ConditionReady, "its node is Ready"},
	} {
		record.Status.Conditions = append(record.Status.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: says[0], Message: says[1], LastTransitionTime: metav1.NewTime(ordered),
		})
	}
	return &registered{record: record, instance: &v1alpha1.KwokInstance{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelNodePool: p.Name, v1alpha1.LabelMachine: name}},
		Spec: v1alpha1.KwokInstanceSpec{
			Cluster: cluster, NodePool: p.Name, Machine: name, ProviderID: record.Status.ProviderID, NodeName: name,
			LaunchedAt: at, Template: p.Spec.Template, Machines: *p.Spec.Machines.Kwok,
		},
		Status: v1alpha1.KwokInstanceStatus{RegisteredAt: &at},
	}}
}

// nodeOf is the node that a machine registers, as a kubelet then fills it in.
func nodeOf(m *registered) *corev1.Node {
	instance := m.instance
	template := &instance.Spec.Template
	labels := map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}
	maps.Copy(labels, template.Labels)
	labels[corev1.LabelHostname], labels[v1alpha1.LabelNodePool] = instance.Spec.NodeName, instance.Spec.NodePool
	conditions := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}}
	for _, pressure := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		conditions = append(conditions, corev1.NodeCondition{Type: pressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoPressure", Message: "kubelet has no pressure"})
	}
	for i := range conditions {
		conditions[i].LastHeartbeatTime = metav1.NewTime(instance.Spec.LaunchedAt.Time)
		conditions[i].LastTransitionTime = conditions[i].LastHeartbeatTime
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: instance.Spec.NodeName, Labels: labels,
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
		},
		Spec: corev1.NodeSpec{ProviderID: instance.Spec.ProviderID, Taints: template.Taints},
		Status: corev1.NodeStatus{
			Capacity: template.Capacity, Allocatable: template.AllocatableOrCapacity(), Conditions: conditions,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: instance.Spec.NodeName}},
			NodeInfo:  corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", OperatingSystem: "linux", Architecture: "amd64", ContainerRuntimeVersion: "containerd://2.2.0"},
		},
	}
}

// estate is what the client asks about.
type estate struct {
	size
	nodes   []*externalgrpc.ExternalGrpcNode
	foreign []*externalgrpc.ExternalGrpcNode
}

// foreignNodes is the number of nodes of somebody else that the client asks about in turn.
const foreignNodes = 100

func newEstate(s size) *estate {
	e := &estate{size: s}
	for group := range s.Groups {
		p := nodePool(s, group)
		for n := range s.machinesIn(group) {
			e.nodes = append(e.nodes, asked(nodeOf(machineOf(p, n, time.Time{}, ""))))
		}
	}
	for n := range foreignNodes {
		node := nodeOf(machineOf(nodePool(s, 0), n, time.Time{}, ""))
		node.Name = fmt.Sprintf("ip-10-0-0-%d.internal", n)
		node.Spec.ProviderID = fmt.Sprintf("aws:///region-1a/i-%017x", n)
		delete(node.Labels, v1alpha1.LabelNodePool)
		e.foreign = append(e.foreign, asked(node))
	}
	return e
}

// asked is a node as Cluster Autoscaler sends it.
func asked(node *corev1.Node) *externalgrpc.ExternalGrpcNode {
	return &externalgrpc.ExternalGrpcNode{
		ProviderID: node.Spec.ProviderID, Name: node.Name, Labels: node.Labels, Annotations: node.Annotations,
	}
}

// scatter turns a counter into an index, so that neighbours in time are none in memory.
func scatter(i, length int) int { return i * 7919 % length }

func (e *estate) node(i int) *externalgrpc.ExternalGrpcNode {
	return e.nodes[scatter(i, len(e.nodes))]
}

func (e *estate) pool(i int) string { return poolName(scatter(i, e.Groups)) }

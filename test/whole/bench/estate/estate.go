// Package estate is what the clusters of the benchmarks hold: NodePools at rest, their machines, and the nodes that these registered.
package estate

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/kwok"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
)

// What a cluster holds is computed from numbers, so that another process knows it too.

// Size is how much a cluster holds.
type Size struct{ Groups, Nodes int }

func (s Size) String() string {
	return fmt.Sprintf("%s in %s", figures.Counted(s.Nodes, "node"), figures.Counted(s.Groups, "group"))
}

// MachinesIn is the number of machines of a group: all have as many, or one more.
func (s Size) MachinesIn(group int) int {
	count := s.Nodes / s.Groups
	if group < s.Nodes%s.Groups {
		count++
	}
	return count
}

// headroom is how far each target is below maxSize, for the writes.
const headroom = 10

// PoolName is the name of a group.
func PoolName(group int) string { return fmt.Sprintf("hpc-%04d", group) }

// NodePool is a group at rest.
func NodePool(s Size, group int) *v1alpha1.NodePool {
	target := int32(s.MachinesIn(group))
	template := v1alpha1.NodeTemplate{
		Labels: map[string]string{
			corev1.LabelInstanceTypeStable: "hpc.16xlarge",
			corev1.LabelTopologyRegion:     "region-1",
			corev1.LabelTopologyZone:       fmt.Sprintf("region-1-%c", 'a'+group%3),
			"example.com/dedicated":        "hpc",
		},
		Taints: []corev1.Taint{{Key: "example.com/dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
			corev1.ResourcePods: resource.MustParse("110"),
		},
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("63500m")},
	}
	if group%10 == 0 {
		template.Labels[v1alpha1.Group+"/accelerator"] = "model-x"
	}
	// Prices differ, so that the cheapest pool has to be searched for.
	price := resource.MustParse(fmt.Sprintf("%d.%02d", 1+group%7, group%100))
	return &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: PoolName(group)},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: target + headroom, Replicas: target,
			Template: template, PricePerHour: &price,
			ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute},
			Autoscaler:       v1alpha1.AutoscalerClusterAutoscaler,
			Machines:         v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
}

// Machine is a machine that has a node: what the simulated cloud has of it, and its record.
type Machine struct {
	Instance *v1alpha1.KwokInstance
	Record   *v1alpha1.PoolMachine
}

// MachineOf is the n-th machine of a group of a cluster, which is known by its id.
func MachineOf(p *v1alpha1.NodePool, n int, ordered time.Time, cluster string) *Machine {
	name := nodegroup.MachineName(p.Name, int64(n))
	at, labels := metav1.NewMicroTime(ordered), map[string]string{v1alpha1.LabelNodePool: p.Name}
	record := &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Finalizers: []string{v1alpha1.FinalizerMachine}},
		Spec: v1alpha1.PoolMachineSpec{
			NodePool: p.Name, Purpose: v1alpha1.PurposeAutoscaler, Order: v1alpha1.MachineOrder{
				ID: "autoscaler", Size: 1, First: int64(n), Last: int64(n),
			},
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
	return &Machine{Record: record, Instance: &v1alpha1.KwokInstance{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelNodePool: p.Name, v1alpha1.LabelMachine: name}},
		Spec: v1alpha1.KwokInstanceSpec{
			Cluster: cluster, NodePool: p.Name, Machine: name, ProviderID: record.Status.ProviderID, NodeName: name,
			LaunchedAt: at, Template: p.Spec.Template, Machines: *p.Spec.Machines.Kwok,
		},
		Status: v1alpha1.KwokInstanceStatus{RegisteredAt: &at},
	}}
}

// NodeOf is the node that a machine registers, as a kubelet then fills it in.
func NodeOf(m *Machine) *corev1.Node {
	instance := m.Instance
	template := &instance.Spec.Template
	labels := map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}
	maps.Copy(labels, template.Labels)
	labels[corev1.LabelHostname], labels[v1alpha1.LabelNodePool] = instance.Spec.NodeName, instance.Spec.NodePool
	conditions := []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"},
	}
	for _, pressure := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		conditions = append(
			conditions,
			corev1.NodeCondition{Type: pressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoPressure", Message: "kubelet has no pressure"},
		)
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
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: "v1.37.2", OperatingSystem: "linux", Architecture: "amd64", ContainerRuntimeVersion: "containerd://2.2.0",
			},
		},
	}
}

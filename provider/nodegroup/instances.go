package nodegroup

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// InstanceState says how far a machine is, as Cluster Autoscaler sees it.
type InstanceState int

const (
	// InstanceRunning is a machine whose node has registered.
	InstanceRunning InstanceState = iota
	// InstanceCreating is a machine that is on order, booting or failed.
	InstanceCreating
	// InstanceDeleting is a machine on its way out.
	InstanceDeleting
)

// Instance is a machine as Cluster Autoscaler sees it.
type Instance struct {
	ProviderID string
	State      InstanceState
	Failure    *Failure
}

// Instances are the machines of the group, and one for each that the target calls for and that does not exist
// yet. The latter have the ids that they will get: those of the last order, which may be under way, then those
// of the next. idOf is the provider id of the n-th machine.
func (g *Group) Instances(now time.Time, idOf func(n int64) string) []Instance {
	going := setOf(g.ToDelete)
	out := make([]Instance, 0, max(len(g.Machines), int(g.Target)))
	live := 0
	for i := range g.Machines {
		m := &g.Machines[i]
		state := InstanceCreating
		switch {
		case going[m.Name]:
			state = InstanceDeleting
		case m.Registered:
			state = InstanceRunning
		}
		if state != InstanceDeleting {
			live++
		}
		out = append(out, Instance{ProviderID: m.ProviderID, State: state, Failure: g.failure(m, now)})
	}
	known := make(map[string]bool, len(out))
	for i := range out {
		known[out[i].ProviderID] = true
	}
	for n := min(g.OrderedFrom, g.Ordered); live < int(g.Target); n++ {
		if id := idOf(n); !known[id] {
			out = append(out, Instance{ProviderID: id, State: InstanceCreating})
			live++
		}
	}
	return out
}

// TemplateNode is the node that a pool would add, Ready and without a provider id. Cluster Autoscaler
// simulates with it.
func TemplateNode(pool *v1alpha1.NodePool) *corev1.Node {
	name := pool.Name + "-template"
	labels := map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}
	maps.Copy(labels, pool.Spec.Template.Labels)
	labels[corev1.LabelHostname] = name
	labels[v1alpha1.LabelNodePool] = pool.Name
	template := pool.Spec.Template.DeepCopy()
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.NodeSpec{Taints: template.Taints},
		Status: corev1.NodeStatus{
			Capacity:    template.Capacity,
			Allocatable: template.AllocatableOrCapacity(),
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

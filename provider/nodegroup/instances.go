package nodegroup

import (
	"maps"
	"strconv"
	"strings"
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

// Instances are the machines of the group as of now, and one for each that the target calls for and that is not
// known yet. The latter have the ids that they will get: see Pending. idOf is the provider id of the n-th machine.
func (g *Group) Instances(now time.Time, idOf func(n int64) string) []Instance {
	going := setOf(g.ToDelete)
	out := make([]Instance, 0, max(len(g.Machines), int(g.Target)))
	for i := range g.Machines {
		m := &g.Machines[i]
		state := InstanceCreating
		switch {
		case going[m.Name]:
			state = InstanceDeleting
		case m.Registered:
			state = InstanceRunning
		}
		out = append(out, Instance{ProviderID: m.ProviderID, State: state, Failure: g.failure(m, now)})
	}
	for _, n := range g.Pending() {
		out = append(out, Instance{ProviderID: idOf(n), State: InstanceCreating})
	}
	return out
}

// Pending are the numbers of the machines that the target calls for and that are not known yet: those whose names are
// claimed and whose order may be under way, then those that the next order will claim.
func (g *Group) Pending() []int64 {
	missing := int(g.Target) - g.countLive()
	if missing <= 0 {
		return nil
	}
	taken := g.taken()
	pending := make([]int64, 0, missing)
	for n := g.OrderedFrom; n < g.Ordered && len(pending) < missing; n++ {
		if !taken[n] {
			pending = append(pending, n)
		}
	}
	return append(pending, g.fresh(taken, missing-len(pending))...)
}

// NextNumbers are the numbers of the next machines to be ordered. Those whose names are claimed already are not among
// them: they may have been ordered, and be gone.
func (g *Group) NextNumbers(count int) []int64 { return g.fresh(g.taken(), count) }

// fresh are the next numbers that no machine has or had.
func (g *Group) fresh(taken map[int64]bool, count int) []int64 {
	numbers := make([]int64, 0, count)
	for n := g.Ordered; len(numbers) < count; n++ {
		if !taken[n] {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// taken has the numbers of the machines that are known, and of those that are to go.
func (g *Group) taken() map[int64]bool {
	taken := make(map[int64]bool, len(g.Machines)+len(g.ToDelete))
	for i := range g.Machines {
		taken[Number(g.Name, g.Machines[i].Name)] = true
	}
	for _, name := range g.ToDelete {
		taken[Number(g.Name, name)] = true
	}
	return taken
}

// countLive is the number of machines that are not to go.
func (g *Group) countLive() int {
	if len(g.ToDelete) == 0 {
		return len(g.Machines)
	}
	going, live := setOf(g.ToDelete), 0
	for i := range g.Machines {
		if !going[g.Machines[i].Name] {
			live++
		}
	}
	return live
}

// MachineName is the name of the n-th machine of a pool.
func MachineName(pool string, n int64) string { return pool + "-" + strconv.FormatInt(n, 10) }

// Number is the number in a machine's name, -1 where it has none.
func Number(pool, name string) int64 {
	digits, ok := strings.CutPrefix(name, pool+"-")
	if !ok {
		return -1
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || MachineName(pool, n) != name {
		return -1
	}
	return n
}

// TemplateNode is the node that a pool would add, Ready and without a provider id. Cluster Autoscaler
// simulates with it.
func TemplateNode(pool *v1alpha1.NodePool) *corev1.Node {
	labels := maps.Clone(defaultLabels)
	maps.Copy(labels, pool.Spec.Template.Labels)
	labels[corev1.LabelHostname] = templateName(pool)
	labels[v1alpha1.LabelNodePool] = pool.Name
	template := pool.Spec.Template.DeepCopy()
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: templateName(pool), Labels: labels},
		Spec:       corev1.NodeSpec{Taints: template.Taints},
		Status: corev1.NodeStatus{
			Capacity:    template.Capacity,
			Allocatable: template.AllocatableOrCapacity(),
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// defaultLabels are those of a node whose template does not say otherwise.
var defaultLabels = map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}

func templateName(pool *v1alpha1.NodePool) string { return pool.Name + "-template" }

// templateLabel is a label of the TemplateNode.
func templateLabel(pool *v1alpha1.NodePool, key string) string {
	switch key {
	case corev1.LabelHostname:
		return templateName(pool)
	case v1alpha1.LabelNodePool:
		return pool.Name
	}
	if value, is := pool.Spec.Template.Labels[key]; is {
		return value
	}
	return defaultLabels[key]
}

package explain

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Facts are what is known. What an explanation does not need may be left out.
type Facts struct {
	// Now is the time of all of it.
	Now time.Time

	// Member is the member that is asked about, or that has the pod; nil for none.
	Member *v1alpha1.EnsembleMember
	// Members are others that may be before it in a pool, or all of a pool that is asked about.
	Members []v1alpha1.EnsembleMember
	// Pools are those that the member names, or the one that is asked about.
	Pools []v1alpha1.NodePool
	// Machines are records of these pools: all of those whose node is not Ready.
	Machines []v1alpha1.PoolMachine
	// Nodes are those of these machines, or the one that is asked about.
	Nodes []corev1.Node
	// Pods are those of the member, or those on the node that is asked about.
	Pods []corev1.Pod
	// Autoscaler is what Cluster Autoscaler has told last, nil for nothing.
	Autoscaler *Autoscaler

	// Missing says of topics which rights are missing to know them, as "no right to list nodes".
	Missing map[Topic][]string
}

// missing says which rights are missing to know a topic, empty for none.
func (f *Facts) missing(topic Topic) string { return strings.Join(f.Missing[topic], ", ") }

// pool is one of the pools, nil when it is not known.
func (f *Facts) pool(name string) *v1alpha1.NodePool {
	for i := range f.Pools {
		if f.Pools[i].Name == name {
			return &f.Pools[i]
		}
	}
	return nil
}

// Autoscaler is what Cluster Autoscaler has told of itself last, in the fields of its versions from 1.30 on.
type Autoscaler struct {
	// Namespace is where it told that.
	Namespace string `json:"namespace"`
	// Time is when.
	Time time.Time `json:"time"`
	// State is Running, or Initializing.
	State string `json:"autoscalerStatus"`
	// Health is that of the whole cluster: Healthy or Unhealthy.
	Health string `json:"health,omitempty"`
	// NodeGroups are what it says of each node group, which has the name of its NodePool.
	NodeGroups []NodeGroup `json:"nodeGroups,omitempty"`
}

// NodeGroup is what Cluster Autoscaler has told of one group.
type NodeGroup struct {
	// Name is that of the NodePool.
	Name string `json:"name"`
	// Health is Healthy or Unhealthy: of an unhealthy group nothing is ordered.
	Health string `json:"health,omitempty"`
	// Target is the size that it knows of, MinSize and MaxSize the bounds that the provider told it; MinSize is the floor.
	Target  int `json:"target"`
	MinSize int `json:"minSize"`
	MaxSize int `json:"maxSize"`
	// ScaleUp is NoActivity, InProgress or Backoff.
	ScaleUp string `json:"scaleUp,omitempty"`
	// ScaleUpSince is since when.
	ScaleUpSince time.Time `json:"scaleUpSince"`
	// BackoffCode and BackoffMessage say why it leaves the group alone, with Backoff.
	BackoffCode    string `json:"backoffCode,omitempty"`
	BackoffMessage string `json:"backoffMessage,omitempty"`
	// ScaleDown is NoCandidates or CandidatesPresent.
	ScaleDown string `json:"scaleDown,omitempty"`
}

// What Cluster Autoscaler says of a group.
const (
	Unhealthy = "Unhealthy"
	Backoff   = "Backoff"
)

// Group is what it has told of the group of a pool, nil when nothing.
func (a *Autoscaler) Group(pool string) *NodeGroup {
	if a == nil {
		return nil
	}
	for i := range a.NodeGroups {
		if a.NodeGroups[i].Name == pool {
			return &a.NodeGroups[i]
		}
	}
	return nil
}

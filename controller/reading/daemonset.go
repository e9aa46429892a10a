package reading

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// DaemonSet is what decides to which nodes the pods of a DaemonSet come, and what they take there.
type DaemonSet struct {
	daemon      plan.Daemon
	selects     plan.Selector
	tolerations []corev1.Toleration
	// node is the name of the only node that a pod is for, empty for none in particular.
	node string
}

// DaemonSets reads DaemonSets, in the order of their names. Those that are being deleted count no more.
func DaemonSets(list []appsv1.DaemonSet) []DaemonSet {
	var out []DaemonSet
	for i := range list {
		if list[i].DeletionTimestamp == nil {
			out = append(out, daemonSetOf(&list[i]))
		}
	}
	slices.SortFunc(out, func(a, b DaemonSet) int { return cmp.Compare(a.daemon.Name, b.daemon.Name) })
	return out
}

func daemonSetOf(set *appsv1.DaemonSet) DaemonSet {
	pod := &set.Spec.Template.Spec
	return DaemonSet{
		daemon:      plan.Daemon{Name: set.Namespace + "/" + set.Name, Requests: Requests(pod)},
		selects:     Selects(pod.NodeSelector, pod.Affinity),
		tolerations: slices.Concat(pod.Tolerations, addedTolerations(pod)),
		node:        pod.NodeName,
	}
}

// addedTolerations are those that the DaemonSet controller gives to each pod.
func addedTolerations(pod *corev1.PodSpec) []corev1.Toleration {
	exists := func(key string, effect corev1.TaintEffect) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
	}
	out := []corev1.Toleration{
		exists(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute),
		exists(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute),
		exists(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule),
	}
	if pod.HostNetwork {
		out = append(out, exists(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule))
	}
	return out
}

// comesTo reports whether a pod of the DaemonSet comes to each node with some labels and taints.
func (d *DaemonSet) comesTo(labels map[string]string, taints []corev1.Taint) bool {
	if d.node != "" || (d.selects != nil && !d.selects.Matches("", labels)) {
		return false
	}
	return !slices.ContainsFunc(taints, func(taint corev1.Taint) bool {
		return taint.Effect != corev1.TaintEffectPreferNoSchedule && !v1alpha1.Tolerates(d.tolerations, &taint)
	})
}

// StripDaemonSet keeps of a DaemonSet in the cache what is read here.
func StripDaemonSet(object any) (any, error) {
	set, ok := object.(*appsv1.DaemonSet)
	if !ok {
		return object, nil
	}
	stripped := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{
		Namespace: set.Namespace, Name: set.Name, UID: set.UID, ResourceVersion: set.ResourceVersion, Generation: set.Generation,
		DeletionTimestamp: set.DeletionTimestamp,
	}}
	pod := &set.Spec.Template.Spec
	into := &stripped.Spec.Template.Spec
	into.NodeName, into.HostNetwork, into.NodeSelector, into.Tolerations = pod.NodeName, pod.HostNetwork, pod.NodeSelector, pod.Tolerations
	if required := requiredOf(pod.Affinity); required != nil {
		into.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}}
	}
	into.Overhead, into.Resources = pod.Overhead, pod.Resources
	into.Containers, into.InitContainers = withRequests(pod.Containers), withRequests(pod.InitContainers)
	return stripped, nil
}

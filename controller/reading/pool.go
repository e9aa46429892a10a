package reading

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Pool is what a NodePool says, with the DaemonSets that have a pod on each of its nodes. Which machines are coming it does not say.
func Pool(pool *v1alpha1.NodePool, daemonSets []DaemonSet) plan.Pool {
	spec := &pool.Spec
	out := plan.Pool{
		Name:              pool.Name,
		MaxSize:           spec.MaxSize,
		Deleting:          pool.DeletionTimestamp != nil,
		Paused:            spec.Paused,
		OutOfStock:        outOfStock(pool),
		Stall:             stall(pool),
		ProvisionTimeout:  spec.ProvisionTimeout.Duration,
		Allocatable:       plan.ResourcesOf(spec.Template.AllocatableOrCapacity()),
		Taints:            spec.Template.Taints,
		Labels:            labelsOf(pool),
		AllowedNamespaces: Labels(spec.AllowedNamespaces),
	}
	for i := range daemonSets {
		if daemonSets[i].comesTo(out.Labels, out.Taints) {
			out.Daemons = append(out.Daemons, daemonSets[i].daemon)
		}
	}
	out.Basis = basisOf(pool, out.Daemons)
	return out
}

// The labels that the kubelet gives to a node beside the stable ones, and that pods still select by.
const (
	betaOS   = "beta.kubernetes.io/os"
	betaArch = "beta.kubernetes.io/arch"
)

// labelsOf are the labels that every new node of a pool has: those of the template, and those that the provider and the kubelet add.
// The name of the host, which every node has another value of, is not among them.
func labelsOf(pool *v1alpha1.NodePool) map[string]string {
	labels := map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}
	maps.Copy(labels, pool.Spec.Template.Labels)
	labels[v1alpha1.LabelNodePool] = pool.Name
	for beta, stable := range map[string]string{betaOS: corev1.LabelOSStable, betaArch: corev1.LabelArchStable} {
		if _, has := labels[beta]; !has {
			labels[beta] = labels[stable]
		}
	}
	return labels
}

// basisOf is a hash of what a finding about a pool rests on. Amounts are encoded in the one way that Kubernetes has for each, however
// they were written.
func basisOf(pool *v1alpha1.NodePool, daemons []plan.Daemon) string {
	encoded, err := json.Marshal(struct {
		Template v1alpha1.NodeTemplate
		Machines v1alpha1.MachinesSpec
		Daemons  []plan.Daemon
	}{pool.Spec.Template, pool.Spec.Machines, daemons})
	if err != nil {
		// Nothing of it can fail to be encoded.
		return ""
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:8])
}

// outOfStock is the latest failure of a pool where that says that the cloud had no machine.
func outOfStock(pool *v1alpha1.NodePool) plan.Stockout {
	failure := pool.Status.LastFailure
	if failure == nil || failure.Class != v1alpha1.FailureOutOfResources {
		return plan.Stockout{}
	}
	out := plan.Stockout{At: failure.Time.Time, Message: failure.Message}
	if slices.Contains(pool.Status.FailedMachines, failure.Machine) {
		out.Machine = failure.Machine
	}
	return out
}

// stall says why the target of a pool may be below its floor.
func stall(pool *v1alpha1.NodePool) plan.Stall {
	status := &pool.Status
	if status.Floor <= pool.Spec.Replicas || status.FloorChangedAt == nil {
		return plan.Stall{}
	}
	out := plan.Stall{Since: status.FloorChangedAt.Time}
	switch {
	case pool.Spec.Paused:
		out.Cause = "the NodePool is paused"
	case pool.Spec.Autoscaler == v1alpha1.AutoscalerNone:
		out.Cause = "the provider, which does that itself for a NodePool with spec.autoscaler None, does not run"
	case status.AnnouncedFloor < status.Floor:
		out.Cause = "Cluster Autoscaler has not asked for the minimum size; it does not run, or does not reach the provider"
	default:
		out.Cause = "Cluster Autoscaler knows the minimum size; it has to run with --enforce-node-group-min-size, and leaves a group alone " +
			"for a while after a failure"
	}
	return out
}

package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// restFor is how long everything has to stay at rest: some loops of Cluster Autoscaler.
const restFor = 5 * time.Second

// rest waits until everything is at rest, and checks that it stays so.
func (w *world) rest(what string) {
	w.Helper()
	w.until(what, w.unrest)
	ctx, cancel := context.WithTimeout(w.Context(), restFor)
	defer cancel()
	unrest := ""
	if err := w.recorder.Until(ctx, func(s *history.State) string {
		if unrest = w.unrest(s); unrest != "" {
			return ""
		}
		return "it is at rest"
	}); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		w.Fatal(err)
	}
	if unrest != "" {
		w.Errorf("it was at rest, and then %s", unrest)
	}
}

// unrest says what is not at rest: every member has what it was promised, every pool what members hold, and nothing
// else is there.
func (w *world) unrest(s *history.State) string {
	for _, m := range w.members {
		if unmet := m.unrest(s); unmet != "" {
			return unmet
		}
	}
	holders := map[string]string{}
	reserved := map[string]int32{}
	for key, m := range s.Members {
		for i := range m.Status.Reservations {
			r := &m.Status.Reservations[i]
			reserved[r.NodePool] += r.Nodes
			for _, node := range r.Held {
				holders[node] = key.String()
			}
		}
	}
	for name, pool := range s.Pools {
		if unmet := poolUnrest(s, pool, int(reserved[name])); unmet != "" {
			return unmet
		}
	}
	for name, node := range s.Nodes {
		if unmet := nodeUnrest(s, node, holders[name]); unmet != "" {
			return unmet
		}
	}
	for name, machine := range s.Machines {
		if s.NodeOf(name) == nil || machine.Status.NodeName != s.NodeOf(name).Name || machine.Status.Failure != nil ||
			machine.DeletionTimestamp != nil {
			return fmt.Sprintf("machine %s has no node, or is going: %+v", name, machine.Status)
		}
	}
	for name, instance := range s.Instances {
		if s.Machines[instance.Spec.Machine] == nil {
			return fmt.Sprintf("instance %s is of machine %q, which there is no record of", name, instance.Spec.Machine)
		}
	}
	if len(s.Members) != len(w.members) || len(s.MiniClusters) != len(w.members) {
		return fmt.Sprintf("there are %d members and %d MiniClusters", len(s.Members), len(s.MiniClusters))
	}
	return ""
}

func (m *member) unrest(s *history.State) string {
	member := s.Members[m.key]
	if member == nil {
		return fmt.Sprintf("there is no member %s", m.key)
	}
	ready := meta.FindStatusCondition(member.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return fmt.Sprintf("%s says nothing yet", m.key)
	}
	var held []string
	for i := range member.Status.Reservations {
		held = append(held, member.Status.Reservations[i].Held...)
	}
	pods := s.PodsOf(m.key)
	switch size := int(m.wants); {
	case member.Spec.Size != m.wants:
		return fmt.Sprintf("%s wants %d, and was promised %d", m.key, member.Spec.Size, m.wants)
	case s.Size(m.key) != int64(size), member.Status.Size != m.wants:
		return fmt.Sprintf("%s has size %d (status %d), and was promised %d: %s", m.key, s.Size(m.key), member.Status.Size, size, ready.Message)
	case len(pods) != size:
		return fmt.Sprintf("%s has %d pods, not %d", m.key, len(pods), size)
	case int(member.Status.Reserved) != size, len(held) != size, int(member.Status.Nodes) != size, member.Status.Growth != nil:
		return fmt.Sprintf("%s has %d nodes reserved, holds %v and should have %d: %s", m.key, member.Status.Reserved, held, size, ready.Message)
	case ready.Status != "True":
		return fmt.Sprintf("%s is not Ready: %s", m.key, ready.Message)
	}
	for _, pod := range pods {
		if pod.Status.Phase != corev1.PodRunning || !slices.Contains(held, pod.Spec.NodeName) {
			return fmt.Sprintf("pod %s is %s on %q, and %s holds %v", pod.Name, pod.Status.Phase, pod.Spec.NodeName, m.key, held)
		}
	}
	return ""
}

// poolUnrest says what a pool has besides the nodes that are reserved in it, or lacks of them.
func poolUnrest(s *history.State, pool *v1alpha1.NodePool, reserved int) string {
	status := &pool.Status
	nodes := s.NodesOf(pool.Name)
	if len(nodes) != reserved || int(pool.Spec.Replicas) != reserved || int(status.Floor) != reserved || int(status.Reserved) != reserved ||
		int(status.Replicas) != reserved || int(status.Ready) != reserved || len(pool.Spec.MachinesToDelete) > 0 ||
		len(status.FailedMachines) > 0 {
		return fmt.Sprintf("in %s %d nodes are reserved; it has %d nodes, target %d, floor %d, status.reserved %d, %d machines, %d Ready, to "+
			"delete %v, failed %v",
			pool.Name, reserved, len(nodes), pool.Spec.Replicas, status.Floor, status.Reserved, status.Replicas, status.Ready,
			pool.Spec.MachinesToDelete, status.FailedMachines)
	}
	return ""
}

// nodeUnrest says what a node bears that it should not, or lacks: it is held, and nothing else.
func nodeUnrest(s *history.State, node *corev1.Node, holder string) string {
	machine := s.MachineOf(node)
	leaving := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintToBeDeleted })
	_, releasing := node.Annotations[v1alpha1.AnnotationReleasing]
	_, givenUp := node.Annotations[v1alpha1.AnnotationGivenUp]
	switch {
	case machine == nil:
		return fmt.Sprintf("node %s has no machine", node.Name)
	case holder == "" || node.Annotations[v1alpha1.AnnotationHeldBy] != holder ||
		node.Annotations[v1alpha1.AnnotationScaleDownDisabled] != "true":
		return fmt.Sprintf("node %s is held for %q and bears %v", node.Name, holder, node.Annotations)
	case leaving || releasing || givenUp:
		return fmt.Sprintf("node %s is held for %s and bears %v and the taints %v", node.Name, holder, node.Annotations, node.Spec.Taints)
	}
	return ""
}

// deleteAll deletes all MiniClusters and waits until no node is left.
func (w *world) deleteAll() {
	w.Helper()
	for _, m := range w.members {
		var cluster client.Object
		if err := w.look(func(s *history.State) { cluster = s.MiniClusters[m.key] }); err != nil {
			w.Fatal(err)
		}
		if err := w.Client.Delete(w.Context(), cluster); err != nil {
			w.Fatal(err)
		}
	}
	w.members = nil
	w.until("nothing is left", func(s *history.State) string {
		if len(s.Nodes)+len(s.Pods) > 0 {
			return fmt.Sprintf("%d nodes and %d pods are left", len(s.Nodes), len(s.Pods))
		}
		return w.unrest(s)
	})
}

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// maxShown is how many events a story has at most, the last ones.
const maxShown = 80

// story is what is there of a tenant, and what its events say of how that came. It is printed when something did not come to
// pass: where the tests run unattended, nobody keeps the logs.
func (x *tenant) story() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Context()), time.Minute)
	defer cancel()
	var b strings.Builder
	if err := shared.recorder.Until(ctx, func(s *history.State) string { x.tell(&b, s); return "" }); err != nil {
		fmt.Fprintf(&b, "what is there is not known: %v\n", err)
	}
	b.WriteString("what its events say:\n")
	lines, err := x.events(ctx)
	if err != nil {
		fmt.Fprintf(&b, "  %v\n", err)
	}
	for _, line := range lines[max(0, len(lines)-maxShown):] {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// tell writes what is there.
func (x *tenant) tell(b *strings.Builder, s *history.State) {
	fmt.Fprintf(b, "what is there of %s:\n", x.namespace)
	for _, name := range slices.Sorted(maps.Keys(s.Pools)) {
		if !strings.HasPrefix(name, x.namespace+"-") {
			continue
		}
		p := s.Pools[name]
		fmt.Fprintf(b, "  NodePool %s: target %d, %d of it for members, floor %d, told %d, reserved %d, delay %s\n", name, p.Spec.Replicas,
			p.Spec.ReplicasForMembers, p.Status.Floor, p.Status.AnnouncedFloor, p.Status.Reserved, p.Spec.ScaleDown.Delay.Duration)
		for _, machine := range slices.Sorted(maps.Keys(s.Machines)) {
			if m := s.Machines[machine]; m.Spec.NodePool == name {
				fmt.Fprintf(b, "  PoolMachine %s: %s, ordered %s for %s, node %q%s: %s\n", machine, m.Spec.Purpose, clockTime(m.Spec.OrderedAt.Time),
					m.Spec.Order.ID,
					m.Status.NodeName, goingSince(m), stateOf(m))
			}
		}
		for _, instance := range slices.Sorted(maps.Keys(s.Instances)) {
			if i := s.Instances[instance]; i.Spec.NodePool == name {
				fmt.Fprintf(b, "  KwokInstance %s of %q: %s, launched %s, registered %t, failure %v\n", instance, i.Spec.Machine, i.Spec.Fate,
					clockTime(i.Spec.LaunchedAt.Time), i.Status.RegisteredAt != nil, i.Status.Failure)
			}
		}
		for _, node := range s.NodesOf(name) {
			n := s.Nodes[node]
			fmt.Fprintf(b, "  Node %s: Ready %t, %s, taints %v, %d pods\n", node, history.Ready(n), marksOf(n), taintsOf(n), len(s.PodsOn(node)))
		}
	}
	for key, m := range s.Members {
		if key.Namespace == x.namespace {
			fmt.Fprintf(b, "  EnsembleMember %s: size %d, %d reserved: %s\n", key.Name, s.Size(key), m.Status.Reserved, readyMessage(m))
		}
	}
}

// stateOf is how far a machine is, as its record says.
func stateOf(m *v1alpha1.PoolMachine) string {
	if ready := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		return ready.Reason + ": " + ready.Message
	}
	return "nothing is recorded yet"
}

// goingSince says since when a machine is to go, and nothing where it is not.
func goingSince(m *v1alpha1.PoolMachine) string {
	if m.DeletionTimestamp == nil {
		return ""
	}
	return ", to go since " + clockTime(m.DeletionTimestamp.Time)
}

func clockTime(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// marksOf are our annotations of a node, and Cluster Autoscaler's.
func marksOf(n *corev1.Node) string {
	var marks []string
	for _, key := range slices.Sorted(maps.Keys(n.Annotations)) {
		if strings.HasPrefix(key, v1alpha1.Group+"/") || key == v1alpha1.AnnotationScaleDownDisabled {
			marks = append(marks, key+"="+n.Annotations[key])
		}
	}
	return strings.Join(marks, " ")
}

func taintsOf(n *corev1.Node) []string {
	var taints []string
	for i := range n.Spec.Taints {
		taints = append(taints, n.Spec.Taints[i].ToString())
	}
	return taints
}

// events are those about objects of the tenant, the oldest first.
func (x *tenant) events(ctx context.Context) ([]string, error) {
	var lines []string
	for _, namespace := range []string{metaNamespaceDefault, x.namespace} {
		var list eventsv1.EventList
		if err := shared.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("list events: %w", err)
		}
		for i := range list.Items {
			e := &list.Items[i]
			if e.Regarding.Kind != "Pod" && (e.Namespace == x.namespace || strings.HasPrefix(e.Regarding.Name, x.namespace+"-")) {
				lines = append(lines, fmt.Sprintf("%s %s %s %s: %s", clockTime(e.EventTime.Time), e.Regarding.Kind, e.Regarding.Name, e.Reason, e.Note))
			}
		}
	}
	slices.Sort(lines)
	return lines, nil
}

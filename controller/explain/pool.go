package explain

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Pool explains a pool, of which f.Members are the members and f.Machines the machines.
func Pool(f *Facts, pool *v1alpha1.NodePool) *Explanation {
	e := &Explanation{Kind: KindPool, Name: pool.Name}
	pools := []string{pool.Name}
	size := Step{
		Topic: DesiredSize, State: Done,
		Message: fmt.Sprintf("from %d to %d machines, target %d", pool.Spec.MinSize, pool.Spec.MaxSize, pool.Spec.Replicas),
	}
	switch ready := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionReady); {
	case pool.DeletionTimestamp != nil:
		size.State, size.Reason, size.Message = Waiting, v1alpha1.ReasonPoolDeleting, "the pool is being deleted"
		if ready != nil {
			size.Message = ready.Message
		}
	case pool.Spec.Paused:
		size.State, size.Reason = Blocked, v1alpha1.ReasonPoolPaused
		size.Message = "spec.paused is true: no machine is ordered, deleted or released, and no member is granted more nodes"
	case ready == nil || pool.Status.ObservedGeneration < pool.Generation:
		size.State, size.Reason = Waiting, ReasonNotObserved
		size.Message += "; the provider has yet to look at it"
	}
	if c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionWithinBounds); c != nil && c.Status != "True" {
		size.Details = append(size.Details, c.Message)
	}
	e.Steps = []Step{size, poolClaims(f, pool), floorStep(f, pools), autoscalerStep(f, pools), machineStep(f, pools), poolNodes(f, pool)}
	return e.conclude(f, fmt.Sprintf("it waits for nothing: %s Ready, %d reserved",
		plural(pool.Status.Ready, "node is", "nodes are"), pool.Status.Reserved))
}

// poolClaims says who holds nodes of a pool and who waits for some.
func poolClaims(f *Facts, pool *v1alpha1.NodePool) Step {
	if text := f.missing(Queue); text != "" {
		return unknown(Queue, text)
	}
	s := Step{Topic: Queue, State: Done}
	s.Message = fmt.Sprintf("%d of at most %d nodes are reserved", pool.Status.Reserved, pool.Spec.MaxSize)
	if holders := holdersOf(f, pool.Name); len(holders) > 0 {
		s.Message += ": " + listed(holders)
	}
	var waiting []*v1alpha1.EnsembleMember
	for i := range f.Members {
		m := &f.Members[i]
		if m.Status.Growth != nil && !isTrue(m, v1alpha1.ConditionCapacityReserved) && slices.Contains(m.Spec.NodePools, pool.Name) {
			waiting = append(waiting, m)
		}
	}
	slices.SortFunc(waiting, byRequest)
	var names []string
	for _, m := range waiting {
		reason := ""
		if c := condition(m, v1alpha1.ConditionCapacityReserved); c != nil {
			reason = ", " + c.Reason
		}
		names = append(names, fmt.Sprintf("%s (to size %d%s)", key(m), m.Status.Growth.Size, reason))
	}
	if len(names) > 0 {
		s.Details = append(s.Details, "these wait for nodes, first come first: "+listed(names))
	}
	return s
}

// poolNodes says which nodes of a pool are of no use.
func poolNodes(f *Facts, pool *v1alpha1.NodePool) Step {
	s := Step{Topic: Nodes, State: Done, Message: fmt.Sprintf("%d of %d nodes are Ready", pool.Status.Ready, pool.Status.Replicas)}
	if text := f.missing(Nodes); text != "" {
		return unknown(Nodes, text)
	}
	for i := range f.Nodes {
		if reason, text := nodeTrouble(f, &f.Nodes[i]); text != "" {
			s.State, s.Reason = Waiting, reason
			s.Details = append(s.Details, fmt.Sprintf("node %s %s", f.Nodes[i].Name, text))
		}
	}
	return s
}

// Node explains a node: f.Machines has its record where there is one, f.Pools its pool and f.Pods the pods on it.
func Node(f *Facts, node *corev1.Node) *Explanation {
	e := &Explanation{Kind: KindNode, Name: node.Name}
	name := node.Labels[v1alpha1.LabelNodePool]
	if name == "" {
		e.Steps = []Step{{Topic: Claim, State: Done, Message: "the node is of no NodePool: nothing here concerns it"}}
		return e.conclude(f, e.Steps[0].Message)
	}
	e.Steps = []Step{holderStep(f, node, name), recordStep(f, node, name), conditionStep(f, node), nodePods(f)}
	done := "it waits for nothing: it is Ready"
	if holder := node.Annotations[v1alpha1.AnnotationHeldBy]; holder != "" {
		done += " and held by " + holder
	} else if releasable := node.Annotations[v1alpha1.AnnotationReserved] == "true"; !releasable {
		done += "; no member holds it, and Cluster Autoscaler removes it when nobody uses it"
	}
	return e.conclude(f, done)
}

// holderStep says which member holds a node.
func holderStep(f *Facts, node *corev1.Node, pool string) Step {
	s := Step{Topic: Claim, State: Done, Message: "a node of " + pool}
	if holder := node.Annotations[v1alpha1.AnnotationHeldBy]; holder != "" {
		s.Message += ", held by " + holder
	} else {
		s.Message += ", held by no member"
	}
	if given := node.Annotations[v1alpha1.AnnotationGivenUp]; given != "" {
		s.Details = append(s.Details, "a member gave it up at "+given+", and it stays for the next growth (spec.scaleDown.delay)")
	}
	if node.Annotations[v1alpha1.AnnotationReserved] == "true" {
		s.Details = append(s.Details, "it was ordered for a member or has been held by one, so the provider releases it")
	} else {
		s.Details = append(s.Details, "it was not ordered for a member: Cluster Autoscaler removes it")
	}
	if node.Annotations[v1alpha1.AnnotationScaleDownDisabled] == "true" {
		s.Details = append(s.Details, "Cluster Autoscaler does not remove it while it has the annotation "+v1alpha1.AnnotationScaleDownDisabled)
	}
	if p := f.pool(pool); p != nil && p.Spec.Paused {
		s.Details = append(s.Details, pool+" is paused: nothing is released")
	}
	return s
}

// recordStep says how far the machine of a node is.
func recordStep(f *Facts, node *corev1.Node, pool string) Step {
	if text := f.missing(Machines); text != "" {
		return unknown(Machines, text)
	}
	for i := range f.Machines {
		m := &f.Machines[i]
		if m.Status.NodeName != node.Name {
			continue
		}
		s := Step{Topic: Machines, State: Done, Message: fmt.Sprintf("machine %s is %s", m.Name, MachineState(m))}
		switch {
		case m.Status.Failure != nil:
			s.State, s.Reason = Waiting, m.Status.Failure.Code
			s.Message = fmt.Sprintf("machine %s has failed: %s", m.Name, m.Status.Failure.Message)
		case m.Status.LeavingAt != nil:
			s.State, s.Reason = Waiting, v1alpha1.ReasonMachineLeaving
			s.Message = fmt.Sprintf("the cloud takes machine %s away at %s", m.Name, formatTime(m.Status.LeavingAt.Time))
		case !MachineReady(m):
			s.State, s.Reason = Waiting, MachineState(m)
		}
		return s
	}
	return Step{
		Topic: Machines, State: Blocked, Reason: v1alpha1.ReasonStrangeNode,
		Message: fmt.Sprintf("no machine of %s is this node, though its label %s says that it is one of the pool", pool, v1alpha1.LabelNodePool),
	}
}

// conditionStep says whether a node is of use. Without the right to read its pool nothing is said about its taints.
func conditionStep(f *Facts, node *corev1.Node) Step {
	if reason, text := nodeTrouble(f, node); text != "" {
		return Step{Topic: Nodes, State: Waiting, Reason: reason, Message: "the node " + text}
	}
	s := Step{Topic: Nodes, State: Done, Message: "the node is Ready"}
	if text := f.missing(Nodes); text != "" && len(keepsOff(node)) > 0 {
		s.Details = append(s.Details, "whether its taints are those of its pool's template is not known: "+text)
	}
	return s
}

// nodePods says which pods are on a node.
func nodePods(f *Facts) Step {
	if text := f.missing(Pods); text != "" {
		return unknown(Pods, text)
	}
	var members, others []string
	for i := range f.Pods {
		pod := &f.Pods[i]
		if member := pod.Labels[v1alpha1.LabelMember]; member != "" {
			members = append(members, pod.Namespace+"/"+pod.Name)
		} else {
			others = append(others, pod.Namespace+"/"+pod.Name)
		}
	}
	var words []string
	if len(members) > 0 {
		words = append(words, "of members: "+listed(members))
	}
	if len(others) > 0 {
		words = append(words, "others: "+listed(others))
	}
	if len(words) == 0 {
		return Step{Topic: Pods, State: Done, Message: "no pod is on it"}
	}
	return Step{Topic: Pods, State: Done, Message: "pods " + strings.Join(words, "; ")}
}

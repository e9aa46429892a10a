package history

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// AnnotationTaken on a Node or a KwokInstance, with any value, says that the test takes it away, whatever pods are on it. A cloud
// does so too, and breaks none of our promises.
const AnnotationTaken = "test.ensemble-autoscaler/taken"

// AnnotationPlanted on a KwokInstance, with any value, says that the test has put it there: nobody has ordered it.
const AnnotationPlanted = "test.ensemble-autoscaler/planted"

// Broken replays events and returns the promises that were broken, each with the moment.
func Broken(events []Event) []string {
	c := &checker{
		state: newState(), given: map[types.NamespacedName]int64{}, ordered: map[string]bool{}, claimedFor: map[string]int32{},
		bereft: map[rank]bool{}, vanished: map[string]bool{}, keptOff: map[types.UID]time.Time{},
	}
	for i := range events {
		c.look(&events[i])
	}
	return c.broken
}

type checker struct {
	state *State
	event *Event
	// given is the largest size that a user has given a MiniCluster, at its creation or by an edit.
	given map[types.NamespacedName]int64
	// ordered has the names of all machines that there ever were, claimedFor the target of each pool when names
	// of machines were last claimed.
	ordered    map[string]bool
	claimedFor map[string]int32
	// vanished has the provider ids of nodes whose instance the cloud has taken away under them.
	vanished map[string]bool
	// bereft are the ranks whose node was taken away. Their Job recreates their pods at once, node or not.
	bereft map[rank]bool
	// keptOff is since when the scheduler has kept a pod off a node that is there and has room.
	keptOff map[types.UID]time.Time
	broken  []string
}

// rank is one rank of a MiniCluster.
type rank struct {
	cluster types.NamespacedName
	index   int64
}

func (c *checker) promise(held bool, format string, arguments ...any) {
	if !held {
		c.broken = append(c.broken, fmt.Sprintf("%s (version %d): ", c.event.At.UTC().Format("15:04:05.000"), c.event.Version)+
			fmt.Sprintf(format, arguments...))
	}
}

func (c *checker) look(event *Event) {
	c.event = event
	before := c.state.put(event.Object, event.Deleted)
	switch object := event.Object.(type) {
	case *unstructured.Unstructured:
		if !event.Deleted {
			old, _ := before.(*unstructured.Unstructured)
			c.miniCluster(object, old)
		}
	case *v1alpha1.EnsembleMember:
		if !event.Deleted {
			c.member(object)
		}
	case *v1alpha1.NodePool:
		if !event.Deleted {
			old, _ := before.(*v1alpha1.NodePool)
			c.pool(object, old)
		}
	case *v1alpha1.PoolMachine:
		switch {
		case event.Deleted:
			c.machineGone(object)
		case before == nil:
			c.machineOrdered(object)
		}
	case *v1alpha1.KwokInstance:
		switch {
		case event.Deleted:
			c.instanceGone(object)
		case before == nil && !event.Listed:
			c.instanceMade(object)
		}
	case *corev1.Node:
		if event.Deleted {
			c.nodeGone(object)
		}
	case *corev1.Pod:
		if !event.Deleted {
			old, _ := before.(*corev1.Pod)
			c.pod(object)
			c.released(object, old)
		}
	}
}

// miniCluster checks that a size which the controller has given stands on Ready nodes held for the member.
func (c *checker) miniCluster(cluster, before *unstructured.Unstructured) {
	key := client.ObjectKeyFromObject(cluster)
	size := sizeOf(cluster)
	applied := cluster.GetAnnotations()[v1alpha1.AnnotationAppliedSize]
	if before == nil || size > sizeOf(before) && applied != strconv.FormatInt(size, 10) {
		c.given[key] = max(c.given[key], size)
		return
	}
	if size <= sizeOf(before) {
		return
	}
	member := c.state.Members[key]
	if member == nil {
		c.promise(false, "MiniCluster %s was resized to %d without a member", key, size)
		return
	}
	var ready []string
	for i := range member.Status.Reservations {
		for _, name := range member.Status.Reservations[i].Held {
			if Ready(c.state.Nodes[name]) {
				ready = append(ready, name)
			}
		}
	}
	c.promise(int64(len(ready)) >= size, "a pod before its node: MiniCluster %s was resized from %d to %d with %d Ready nodes held: %v",
		key, sizeOf(before), size, len(ready), ready)
	minimum, _, _ := unstructured.NestedInt64(cluster.Object, "spec", "minSize")
	maximum, _, _ := unstructured.NestedInt64(cluster.Object, "spec", "maxSize")
	c.promise(
		size >= minimum && size <= max(maximum, sizeOf(before)), "MiniCluster %s was resized to %d, outside %d to %d", key, size, minimum,
		maximum,
	)
}

// member checks that reservations stay within the pools, and that no node is held twice.
func (c *checker) member(member *v1alpha1.EnsembleMember) {
	key := client.ObjectKeyFromObject(member)
	c.promise(member.Spec.Size >= member.Spec.MinSize && member.Spec.Size <= member.Spec.MaxSize,
		"member %s wants %d, outside %d to %d", key, member.Spec.Size, member.Spec.MinSize, member.Spec.MaxSize)
	for i := range member.Status.Reservations {
		name := member.Status.Reservations[i].NodePool
		pool := c.state.Pools[name]
		if pool == nil {
			continue
		}
		var sum int32
		holders := map[string]types.NamespacedName{}
		for other, m := range c.state.Members {
			for j := range m.Status.Reservations {
				reservation := &m.Status.Reservations[j]
				if reservation.NodePool != name {
					continue
				}
				sum += reservation.Nodes
				for _, node := range reservation.Held {
					if first, twice := holders[node]; twice {
						c.promise(false, "node %s is held for %s and for %s", node, first, other)
					}
					holders[node] = other
				}
			}
		}
		c.promise(sum <= pool.Spec.MaxSize, "%d nodes are reserved in %s, above its maxSize %d", sum, name, pool.Spec.MaxSize)
	}
}

// machineOrdered checks that no machine is ordered twice, and none beyond the target. A target that is lowered between
// the claim of the names and the orders does not count: what is too much is cancelled. A machine that was found was not ordered.
func (c *checker) machineOrdered(machine *v1alpha1.PoolMachine) {
	c.promise(!c.ordered[machine.Name], "machine %s was ordered twice", machine.Name)
	c.ordered[machine.Name] = true
	pool := c.state.Pools[machine.Spec.NodePool]
	if _, found := machine.Annotations[v1alpha1.AnnotationAdopted]; found || pool == nil {
		return
	}
	called := max(pool.Spec.Replicas, c.claimedFor[pool.Name])
	live := c.state.Live(pool)
	c.promise(live <= int(called), "machine %s was ordered: %s has %d machines and its target is %d", machine.Name, pool.Name, live, called)
}

// machineGone checks that the record of a machine goes last. A node that it leaves would be nobody's; one that is cancelled at
// the moment when it registers is not meant, the node of which goes after it. What it leaves in the cloud would be paid for by
// nobody's order.
func (c *checker) machineGone(machine *v1alpha1.PoolMachine) {
	node := c.state.Nodes[machine.Status.NodeName]
	c.promise(node == nil || node.Spec.ProviderID != machine.Status.ProviderID, "machine %s has gone and left its node", machine.Name)
	if instance := c.state.InstanceOf(machine.Name); instance != nil && !planted(instance) {
		c.promise(false, "the record of machine %s has gone, and the cloud has instance %s of it", machine.Name, instance.Name)
	}
}

// instanceMade checks that the cloud makes no machine that nobody has written down. What it makes of its own accord bears the name
// of no machine.
func (c *checker) instanceMade(instance *v1alpha1.KwokInstance) {
	if instance.Spec.Machine == "" || planted(instance) {
		return
	}
	c.promise(c.state.Machines[instance.Spec.Machine] != nil, "the cloud has made instance %s of machine %s, which there is no record of",
		instance.Name, instance.Spec.Machine)
}

// instanceGone checks that no instance is ended while a pod is on its node, unless the cloud takes it away.
func (c *checker) instanceGone(instance *v1alpha1.KwokInstance) {
	node := c.state.Nodes[instance.Spec.NodeName]
	if node == nil || node.Spec.ProviderID != instance.Spec.ProviderID {
		return
	}
	if takenAway(instance) {
		c.vanished[node.Spec.ProviderID] = true
		return
	}
	c.noPods("its instance was ended", node.Name)
}

// takenAway reports whether the cloud, or the test in its place, takes an instance away whatever pods are on its node.
func takenAway(instance *v1alpha1.KwokInstance) bool {
	_, taken := instance.Annotations[AnnotationTaken]
	return taken || instance.Status.Failure != nil
}

func planted(instance *v1alpha1.KwokInstance) bool {
	_, planted := instance.Annotations[AnnotationPlanted]
	return planted
}

// Lost replays events and returns the nodes of pools that went though their machines were there and nobody had told them
// to go: neither us nor the cloud. It is for records in which only the provider deletes nodes.
func Lost(events []Event) []string {
	state := newState()
	// cancelled are the machines that were told to go before they had a node, vanished the provider ids of those that the cloud has
	// taken away.
	cancelled, vanished := map[string]bool{}, map[string]bool{}
	var lost []string
	for i := range events {
		event := &events[i]
		state.put(event.Object, event.Deleted)
		switch object := event.Object.(type) {
		case *v1alpha1.PoolMachine:
			if object.DeletionTimestamp != nil && object.Status.NodeName == "" {
				cancelled[object.Name] = true
			}
		case *v1alpha1.KwokInstance:
			if takenAway(object) {
				vanished[object.Spec.ProviderID] = true
			}
		case *corev1.Node:
			pool, machine := state.Pools[object.Labels[v1alpha1.LabelNodePool]], state.MachineOf(object)
			if !event.Deleted || pool == nil || machine == nil || cancelled[machine.Name] || vanished[object.Spec.ProviderID] ||
				slices.Contains(pool.Spec.MachinesToDelete, machine.Name) {
				continue
			}
			lost = append(lost, fmt.Sprintf("node %s of %s was deleted, and of the machines to go, %v, its machine %s was none",
				object.Name, pool.Name, pool.Spec.MachinesToDelete, machine.Name))
		}
	}
	return lost
}

// pool checks that no machine is told to go while a pod is on its node, unless the cloud takes it away or has done so.
func (c *checker) pool(pool, before *v1alpha1.NodePool) {
	c.promise(
		pool.Spec.Replicas <= pool.Spec.MaxSize, "the target of %s is %d, above its maxSize %d", pool.Name, pool.Spec.Replicas,
		pool.Spec.MaxSize,
	)
	if before == nil || pool.Status.MachinesOrdered > before.Status.MachinesOrdered {
		c.claimedFor[pool.Name] = pool.Spec.Replicas
	}
	if before == nil {
		return
	}
	for _, machine := range pool.Spec.MachinesToDelete {
		if node := c.state.NodeOf(machine); node != nil && !slices.Contains(before.Spec.MachinesToDelete, machine) && !c.leaves(machine, node) {
			c.noPods("the machine was told to go", node.Name)
		}
	}
}

// leaves reports whether the cloud takes a machine away, or has announced that it does. What is recorded of the machine does not
// count without that.
func (c *checker) leaves(machine string, node *corev1.Node) bool {
	instance := c.state.InstanceOf(machine)
	if instance == nil {
		// Of machines that are not simulated nothing is seen but the test.
		_, taken := node.Annotations[AnnotationTaken]
		return taken || c.vanished[node.Spec.ProviderID]
	}
	return takenAway(instance) || instance.Status.LeavingAt != nil
}

// nodeGone checks that nobody but the cloud, and the test in its place, deletes a node while a pod is on it.
func (c *checker) nodeGone(node *corev1.Node) {
	_, taken := node.Annotations[AnnotationTaken]
	if instance := c.state.instanceUnder(node); instance != nil {
		taken = taken || takenAway(instance)
	}
	if !taken && !c.vanished[node.Spec.ProviderID] {
		c.noPods("the node was deleted", node.Name)
		return
	}
	for _, pod := range c.state.PodsOn(node.Name) {
		c.bereft[rank{MemberOf(pod), IndexOf(pod)}] = true
	}
}

func (c *checker) noPods(what, node string) {
	for _, pod := range c.state.PodsOn(node) {
		if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "DaemonSet" {
			continue
		}
		c.promise(false, "node %s: %s while pod %s/%s was on it", node, what, pod.Namespace, pod.Name)
	}
}

// pod checks that a pod never waits for a node. Of a MiniCluster that was there before it was managed, the pods of a size that
// a user wrote are not meant: they are created before anybody can reserve nodes for them, and nothing keeps them from
// the scheduler.
func (c *checker) pod(pod *corev1.Pod) {
	key := MemberOf(pod)
	given := pod.Labels[v1alpha1.LabelMember] == "" && IndexOf(pod) < c.given[key]
	member := c.state.Members[key]
	if member == nil || !Starved(pod) || given || c.bereft[rank{key, IndexOf(pod)}] {
		return
	}
	since, kept := c.keptOff[pod.UID]
	switch {
	case c.late(member, pod):
		if !kept {
			c.keptOff[pod.UID] = c.event.At
		}
		return
	case kept && c.event.At.Sub(since) >= refusedFor:
		// It had its node. The scheduler did not want it there for a reason of its own, so the node is given back, and the pod deleted
		// a moment later.
		return
	}
	why := ""
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodScheduled {
			why = pod.Status.Conditions[i].Message
		}
	}
	c.promise(
		false, "a pod before its node: pod %s/%s (released for %q) is Pending for want of a node: %s", pod.Namespace, pod.Name,
		pod.Annotations[v1alpha1.AnnotationNode], why,
	)
}

// refusedFor is how long the scheduler may keep a pod off its node before the controller believes it.
const refusedFor = 29 * time.Second

// late reports whether a node for the pod is there and has room for it: the one that it was released for, or one that is held for
// its member. The scheduler, which has another view of the cluster, has yet to see that: on a busy machine it may hear of a
// pod before it hears of the node. Or it knows what keeps the pod off that we do not.
func (c *checker) late(member *v1alpha1.EnsembleMember, pod *corev1.Pod) bool {
	there := func(name string) bool {
		node := c.state.Nodes[name]
		return Ready(node) && c.fits(pod, node)
	}
	if node := pod.Annotations[v1alpha1.AnnotationNode]; node != "" {
		return there(node)
	}
	return slices.ContainsFunc(member.Status.Reservations, func(r v1alpha1.Reservation) bool { return slices.ContainsFunc(r.Held, there) })
}

// fits reports whether a node has room for what a pod requests.
func (c *checker) fits(pod *corev1.Pod, node *corev1.Node) bool {
	requested := resource.PodRequests(pod, resource.PodResourcesOptions{})
	for _, other := range c.state.PodsOn(node.Name) {
		for name, amount := range resource.PodRequests(other, resource.PodResourcesOptions{}) {
			sum := requested[name]
			sum.Add(amount)
			requested[name] = sum
		}
	}
	for name, amount := range requested {
		if offered := node.Status.Allocatable[name]; amount.Cmp(offered) > 0 {
			return false
		}
	}
	return true
}

// released checks that a pod whose gate is taken away has a node that is held for its member.
func (c *checker) released(pod, before *corev1.Pod) {
	node := pod.Annotations[v1alpha1.AnnotationNode]
	if before == nil || node == "" || !Gated(before) || Gated(pod) {
		return
	}
	key := MemberOf(pod)
	member := c.state.Members[key]
	held := member != nil && slices.ContainsFunc(
		member.Status.Reservations, func(r v1alpha1.Reservation) bool { return slices.Contains(r.Held, node) },
	)
	c.promise(held, "pod %s/%s was released for node %s, which is not held for %s", pod.Namespace, pod.Name, node, key)
}

// Waited is how long, all together, the pods that are wanted were Pending for want of a node.
func Waited(events []Event, wanted func(*corev1.Pod) bool) time.Duration {
	var sum time.Duration
	since := map[types.UID]time.Time{}
	for i := range events {
		pod, ok := events[i].Object.(*corev1.Pod)
		if !ok || !wanted(pod) {
			continue
		}
		start, waits := since[pod.UID]
		switch starved := Starved(pod) && !events[i].Deleted; {
		case starved && !waits:
			since[pod.UID] = events[i].At
		case !starved && waits:
			sum += events[i].At.Sub(start)
			delete(since, pod.UID)
		}
	}
	return sum
}

package resize

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/gates"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// observer reads the cluster. It remembers what it has made of each object.
type observer struct {
	reader   client.Reader
	clusters *memory[clusterReading]
	pools    *memory[plan.Pool]
	jobs     *memory[needs]
	pods     *memory[podReading]
	nodes    *memory[plan.Node]
	clock    clock.PassiveClock
	told     *departures
}

func newObserver(reader client.Reader, clock clock.PassiveClock) *observer {
	return &observer{
		reader: reader, clock: clock, told: &departures{}, clusters: newMemory[clusterReading](), pools: newMemory[plan.Pool](), jobs: newMemory[needs](),
		pods: newMemory[podReading](), nodes: newMemory[plan.Node](),
	}
}

// clusterReading is what is read off a MiniCluster.
type clusterReading struct {
	cluster *minicluster.MiniCluster
	invalid error
	needs   needs
}

// needs is what one pod of a member needs of a node.
type needs struct {
	requests    plan.Resources
	tolerations []corev1.Toleration
}

func needsOf(requests corev1.ResourceList, tolerations []corev1.Toleration) needs {
	n := needs{requests: plan.ResourcesOf(requests), tolerations: tolerations}
	n.requests[corev1.ResourcePods] = 1
	return n
}

// podReading is what is read off a pod.
type podReading struct {
	index    int32
	requests plan.Resources
	owner    types.UID
	// gated is set for a pod behind our gate, released for one that is not bound yet and was released for node.
	gated, released bool
	node            string
	refusedSince    time.Time
}

// seen is what a pass has read.
type seen struct {
	entries map[types.NamespacedName]*entry
	pools   []plan.Pool
	// poolUIDs are the UIDs of the pools by their names.
	poolUIDs map[string]types.UID
	nodes    []plan.Node
	// pods are all pods of the cluster, hosts the host names of the nodes of pools.
	pods  []corev1.Pod
	hosts map[string]string
	// strangers are the nodes that carry the label of a pool and are no machine of it.
	strangers []stranger
	// departing are the machines that go without anybody here having asked for it, by their nodes.
	departing map[string]types.UID
	// holders are the members whose status lists a node as held; nil until somebody asks.
	holders map[string]*entry
	// next is when a pass is due because of what was read; zero when none is.
	next time.Time
	// strays are pods behind our gate that belong to no member.
	strays []*corev1.Pod
}

// entry is what a pass has read of one MiniCluster and its member; either may be missing.
type entry struct {
	key     types.NamespacedName
	cluster *minicluster.MiniCluster
	// invalid is what is wrong with the MiniCluster, nil for nothing.
	invalid error
	member  *v1alpha1.EnsembleMember
	// job is the Job of the MiniCluster, nil when there is none.
	job *batchv1.Job
	// needs are those of the Job's pods, or of the MiniCluster's while there is none.
	needs needs
	pods  []plan.Pod
	// waiting are its pods that are behind the gate, or on their way to the node that they were released for, by rank.
	waiting map[int32]*corev1.Pod
	gated   []int32
	// pending is the number of its pods that no node was found for.
	pending int32
	// wants is the member's wish.
	wants int32
	// skip is set when this pass has changed or failed to change the member's spec: what is planned for it
	// waits for the next pass.
	skip bool
	// due is when a write that this pass has put off is to be made; zero for none.
	due time.Time
}

// observe reads everything from the caches. Nothing that it returns may be changed.
func (o *observer) observe(ctx context.Context) (*seen, error) {
	s := &seen{
		entries: map[types.NamespacedName]*entry{}, poolUIDs: map[string]types.UID{}, hosts: map[string]string{}, departing: map[string]types.UID{},
	}
	for _, read := range []func(context.Context, *seen) error{o.readMembers, o.readMiniClusters, o.readPools} {
		if err := read(ctx, s); err != nil {
			return nil, err
		}
	}
	owners, err := o.readJobs(ctx, s)
	if err != nil {
		return nil, err
	}
	requested, err := o.readPods(ctx, s, owners)
	if err != nil {
		return nil, err
	}
	if err := o.readNodes(ctx, s, requested); err != nil {
		return nil, err
	}
	o.clusters.forget()
	o.pools.forget()
	o.jobs.forget()
	o.pods.forget()
	o.nodes.forget()
	return s, nil
}

func (s *seen) entry(key types.NamespacedName) *entry {
	e := s.entries[key]
	if e == nil {
		e = &entry{key: key}
		s.entries[key] = e
	}
	return e
}

func (o *observer) readMembers(ctx context.Context, s *seen) error {
	var members v1alpha1.EnsembleMemberList
	if err := o.reader.List(ctx, &members, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list EnsembleMembers: %w", err)
	}
	for i := range members.Items {
		e := s.entry(client.ObjectKeyFromObject(&members.Items[i]))
		e.member, e.wants = &members.Items[i], members.Items[i].Spec.Size
	}
	return nil
}

func (o *observer) readMiniClusters(ctx context.Context, s *seen) error {
	clusters := minicluster.NewList()
	if err := o.reader.List(ctx, clusters, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list MiniClusters: %w", err)
	}
	for i := range clusters.Items {
		key := client.ObjectKeyFromObject(&clusters.Items[i])
		if s.entries[key] == nil && !minicluster.Managed(&clusters.Items[i]) {
			continue
		}
		e := s.entry(key)
		read := o.clusters.of(&clusters.Items[i], func() clusterReading {
			read := clusterReading{}
			if read.cluster, read.invalid = minicluster.Parse(&clusters.Items[i]); read.cluster != nil {
				read.needs = needsOf(read.cluster.PodRequests, read.cluster.Tolerations)
			}
			return read
		})
		e.cluster, e.invalid, e.needs = read.cluster, read.invalid, read.needs
	}
	return nil
}

func (o *observer) readPools(ctx context.Context, s *seen) error {
	var pools v1alpha1.NodePoolList
	if err := o.reader.List(ctx, &pools, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list NodePools: %w", err)
	}
	for i := range pools.Items {
		s.poolUIDs[pools.Items[i].Name] = pools.Items[i].UID
		s.pools = append(s.pools, o.pools.of(&pools.Items[i], func() plan.Pool { return poolOf(&pools.Items[i]) }))
	}
	return nil
}

func poolOf(pool *v1alpha1.NodePool) plan.Pool {
	spec := &pool.Spec
	return plan.Pool{
		Name:             pool.Name,
		MaxSize:          spec.MaxSize,
		Deleting:         pool.DeletionTimestamp != nil,
		Paused:           spec.Paused,
		OutOfStock:       outOfStock(pool),
		Stall:            stall(pool),
		ProvisionTimeout: spec.ProvisionTimeout.Duration,
		Allocatable:      plan.ResourcesOf(spec.Template.AllocatableOrCapacity()),
		Taints:           spec.Template.Taints,
		Labels:           spec.Template.Labels,
	}
}

// outOfStock is the latest failure of a pool where that says that the cloud had no machine.
func outOfStock(pool *v1alpha1.NodePool) plan.Stockout {
	failure := pool.Status.LastFailure
	if failure == nil || failure.Class != v1alpha1.FailureOutOfResources {
		return plan.Stockout{}
	}
	return plan.Stockout{At: failure.Time.Time, Message: failure.Message}
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
		out.Cause = "Cluster Autoscaler has not asked for the least size; it does not run, or does not reach the provider"
	default:
		out.Cause = "Cluster Autoscaler knows the least size; it has to run with --enforce-node-group-min-size, and leaves a group alone for a while after a failure"
	}
	return out
}

// readJobs finds the Job of each MiniCluster and returns whose each Job is.
func (o *observer) readJobs(ctx context.Context, s *seen) (map[types.UID]*entry, error) {
	var jobs batchv1.JobList
	if err := o.reader.List(ctx, &jobs, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Jobs: %w", err)
	}
	owners := map[types.UID]*entry{}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		owner := metav1.GetControllerOf(job)
		if owner == nil || owner.Kind != minicluster.GroupVersionKind.Kind || owner.Name != job.Name {
			// The Flux Operator calls the Job as the MiniCluster is called.
			continue
		}
		if e := s.entries[types.NamespacedName{Namespace: job.Namespace, Name: owner.Name}]; e != nil && e.uid() == owner.UID {
			e.job = job
			// The Flux Operator adds containers of its own; the Job has them all.
			e.needs = o.jobs.of(job, func() needs { return needsOf(minicluster.PodNeeds(&job.Spec.Template.Spec)) })
			owners[job.UID] = e
		}
	}
	return owners, nil
}

// uid is that of the MiniCluster, known from its member when the MiniCluster itself is gone.
func (e *entry) uid() types.UID {
	if e.cluster != nil {
		return e.cluster.UID
	}
	if e.member != nil {
		if owner := metav1.GetControllerOf(e.member); owner != nil {
			return owner.UID
		}
	}
	return ""
}

// readPods gives each member its pods and returns what the pods on each node request. One that was released for a node counts
// as one that is on it.
func (o *observer) readPods(ctx context.Context, s *seen, owners map[types.UID]*entry) (map[string]plan.Resources, error) {
	var pods corev1.PodList
	if err := o.reader.List(ctx, &pods, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Pods: %w", err)
	}
	s.pods = pods.Items
	requested := map[string]plan.Resources{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if ended(pod) {
			continue
		}
		read := o.pods.of(pod, func() podReading { return podOf(pod) })
		e := owners[read.owner]
		if read.node == "" || read.released {
			switch {
			case pod.DeletionTimestamp != nil:
				// It ends without ever having been on a node.
				continue
			case read.gated && (e == nil || e.unmanageable()):
				s.strays = append(s.strays, pod)
				continue
			case read.gated:
				e.await(read.index, pod)
				e.gated = append(e.gated, read.index)
				continue
			case e != nil && read.released:
				e.await(read.index, pod)
			case e != nil:
				e.pending++
				continue
			default:
				continue
			}
		}
		on := requested[read.node]
		if on == nil {
			on = make(plan.Resources, len(read.requests))
			requested[read.node] = on
		}
		on.Add(read.requests)
		if e != nil {
			e.pods = append(e.pods, plan.Pod{Index: read.index, Node: read.node, Released: read.released, RefusedSince: read.refusedSince})
		}
	}
	return requested, nil
}

func podOf(pod *corev1.Pod) podReading {
	read := podReading{
		index: indexOf(pod), requests: plan.ResourcesOf(resource.PodRequests(pod, resource.PodResourcesOptions{})),
		node: pod.Spec.NodeName, gated: gates.Has(pod),
	}
	read.requests[corev1.ResourcePods]++
	if owner := metav1.GetControllerOf(pod); owner != nil {
		read.owner = owner.UID
	}
	if read.node == "" && !read.gated {
		read.node = pod.Annotations[v1alpha1.AnnotationNode]
		read.released = read.node != ""
	}
	if read.released {
		read.refusedSince = refusedSince(pod)
	}
	return read
}

// refusedSince is since when the scheduler finds no place for a pod that was released; zero while it does not. The condition is
// False from the creation of a gated pod on, with another reason, so the time of the release counts where it is later.
func refusedSince(pod *corev1.Pod) time.Time {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type != corev1.PodScheduled || c.Reason != corev1.PodReasonUnschedulable {
			continue
		}
		since := c.LastTransitionTime.Time
		if released, err := time.Parse(time.RFC3339, pod.Annotations[v1alpha1.AnnotationReleasedAt]); err == nil && released.After(since) {
			since = released
		}
		return since
	}
	return time.Time{}
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// indexOf is the completion index of a pod, which is the rank of its broker. A pod without one is taken
// for the lead broker: its node is the last to be given back.
func indexOf(pod *corev1.Pod) int32 {
	index, err := strconv.ParseInt(pod.Labels[batchv1.JobCompletionIndexAnnotation], 10, 32)
	if err != nil {
		return 0
	}
	return int32(index)
}

func (o *observer) readNodes(ctx context.Context, s *seen, requested map[string]plan.Resources) error {
	var nodes corev1.NodeList
	if err := o.reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list Nodes: %w", err)
	}
	machines, err := o.readMachines(ctx)
	if err != nil {
		return err
	}
	now := o.clock.Now()
	for i := range nodes.Items {
		node := o.nodes.of(&nodes.Items[i], func() plan.Node { return nodeOf(&nodes.Items[i]) })
		if node.Pool != "" {
			if !o.place(s, &node, &nodes.Items[i], machines, now) {
				continue
			}
			if node.Pool != "" {
				s.hosts[node.Name] = nodes.Items[i].Labels[corev1.LabelHostname]
			}
		}
		node.Requested = requested[node.Name]
		s.nodes = append(s.nodes, node)
	}
	o.told.forget(s.departing)
	return nil
}

// place says what a node with the label of a pool counts as: a node of that pool where a machine of the pool is that node, and else
// one of no pool. Until the provider had the time to say so, false is returned, and the node counts as one that is not there.
//
// A node that is held already, and that no machine vouches for any more, is on its way out: its member keeps it until the pod there
// has left, and nobody gets it.
func (o *observer) place(s *seen, node *plan.Node, object *corev1.Node, machines *machines, now time.Time) bool {
	machine, why := machines.of(object)
	if machine != nil {
		node.Leaving = node.Leaving || leaves(machine)
		if node.Departure = departureOf(machine); node.Departure != nil {
			s.departing[node.Name] = machine.UID
			node.Departure.Told = o.told.has(node.Name, machine.UID) || s.recordsDeparture(node.Name, node.Pool)
		}
		return true
	}
	if s.holder(node.Name, node.Pool) != nil {
		node.Leaving = true
		return true
	}
	due := node.CreatedAt.Add(vouchAfter)
	old := !now.Before(due)
	s.strangers = append(s.strangers, stranger{name: node.Name, uid: object.UID, pool: node.Pool, why: why, told: old && node.Ready && !node.Leaving})
	if !old {
		s.wake(due)
		return false
	}
	node.Pool = ""
	return true
}

// holder is the member whose status lists a node as one of a pool that is held for it, nil for none.
func (s *seen) holder(node, pool string) *entry {
	if s.holders == nil {
		s.holders = map[string]*entry{}
		for _, e := range s.entries {
			if e.member == nil {
				continue
			}
			for i := range e.member.Status.Reservations {
				r := &e.member.Status.Reservations[i]
				for _, name := range r.Held {
					s.holders[r.NodePool+"/"+name] = e
				}
			}
		}
	}
	return s.holders[pool+"/"+node]
}

// wake makes sure that a pass comes when time alone changes what is seen.
func (s *seen) wake(at time.Time) {
	if s.next.IsZero() || at.Before(s.next) {
		s.next = at
	}
}

// lifecyclePrefix is that of the taints by which Kubernetes itself says that a node is not Ready.
const lifecyclePrefix = "node.kubernetes.io/"

// isStartup reports whether a taint is one that a node registers with and that is taken off when the node is ready for pods: by
// the provider when it has seen the node, by a cloud's controller manager, by Cluster API, or by Karpenter.
func isStartup(taint *corev1.Taint) bool {
	switch taint.Key {
	case v1alpha1.TaintRegistration, "node.cloudprovider.kubernetes.io/uninitialized", "node.cluster.x-k8s.io/uninitialized", "karpenter.sh/unregistered":
		return true
	default:
		return false
	}
}

// taintDisrupted is how Karpenter marks a node that it is about to delete.
const taintDisrupted = "karpenter.sh/disrupted"

func nodeOf(node *corev1.Node) plan.Node {
	out := plan.Node{
		Name:      node.Name,
		Pool:      node.Labels[v1alpha1.LabelNodePool],
		Cordoned:  node.Spec.Unschedulable,
		Leaving:   node.DeletionTimestamp != nil,
		Reserved:  node.Annotations[v1alpha1.AnnotationReserved] == "true",
		CreatedAt: node.CreationTimestamp.Time,
	}
	if out.Pool == "" {
		return out
	}
	out.Labels, out.Allocatable = node.Labels, plan.ResourcesOf(node.Status.Allocatable)
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	for i := range node.Spec.Taints {
		taint := node.Spec.Taints[i]
		switch {
		case taint.Key == v1alpha1.TaintToBeDeleted, taint.Key == taintDisrupted:
			out.Leaving = true
		case isStartup(&taint):
			// It is a node that is coming, whatever the pods tolerate, and no evidence about the nodes of its pool.
			out.Ready = false
		case strings.HasPrefix(taint.Key, lifecyclePrefix):
			// A node with such a taint does not take pods yet, whatever its condition says. Cordoning has
			// a field of its own.
			out.Ready = out.Ready && taint.Key == corev1.TaintNodeUnschedulable
		case taint.Effect != corev1.TaintEffectPreferNoSchedule:
			out.Taints = append(out.Taints, taint)
		}
	}
	return out
}

// values are the plain values that the planner works with.
func (s *seen) values() plan.Observed {
	observed := plan.Observed{Pools: s.pools, Nodes: s.nodes}
	for _, e := range s.entries {
		if e.member != nil {
			observed.Members = append(observed.Members, e.value())
		}
	}
	return observed
}

func (e *entry) value() plan.Member {
	m := plan.Member{
		Key:          e.key,
		Lifecycle:    e.lifecycle(),
		Wants:        e.wants,
		MinSize:      e.member.Spec.MinSize,
		Size:         e.size(),
		FormerSize:   e.member.Status.Size,
		NodePools:    e.member.Spec.NodePools,
		GrowthPolicy: e.member.Spec.GrowthPolicy,
		Placement:    e.member.Spec.Placement,
		PodsPerNode:  plan.PodsPerNode(e.member.Spec.PodsPerNode),
		GiveUpAfter:  ptr.Deref(e.member.Spec.GiveUpAfter, 0),
		TopologyKey:  e.member.Spec.TopologyKey,
		Pods:         e.pods,
		Gated:        e.gated,
		Reservations: e.member.Status.Reservations,
		Growth:       e.member.Status.Growth,

		TopologyDomain: e.member.Status.TopologyDomain,
		Avoided:        e.member.Status.Avoided,
	}
	if e.cluster == nil {
		return m
	}
	m.SizeGiven = e.member.Annotations[v1alpha1.AnnotationAdoptedGeneration] == generation(e.cluster)
	m.PodRequests, m.Tolerations = e.needs.requests, e.needs.tolerations
	return m
}

// size is that of the MiniCluster. One that is out of bounds is not followed, neither by the Flux Operator
// nor here, so the last one that was in bounds still counts.
func (e *entry) size() int32 {
	if e.cluster == nil || (e.cluster.Size > e.cluster.MaxSize && e.member.Status.Size > 0) {
		return e.member.Status.Size
	}
	return e.cluster.Size
}

func (e *entry) lifecycle() plan.Lifecycle {
	switch {
	case e.cluster == nil || e.cluster.Deleting:
		return plan.Deleting
	case e.job != nil && finished(e.job):
		return plan.Finished
	default:
		return plan.Running
	}
}

// finished reads the Job's own conditions; those of the MiniCluster are not dependable.
func finished(job *batchv1.Job) bool {
	for i := range job.Status.Conditions {
		c := &job.Status.Conditions[i]
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

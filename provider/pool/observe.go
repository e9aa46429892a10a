// Package pool reconciles NodePools: it keeps the floor at what members reserve, the machines at the
// target, and releases exactly the nodes that members have given up.
//
// A pass observes one pool (observe.go), lets package nodegroup plan, and applies the decisions
// (apply.go) in an order in which each write leaves a state from which a restart goes on.
package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// Observer turns objects into the plain values that package nodegroup plans with.
type Observer struct {
	// Tenants are the pods on the nodes of the cluster.
	Tenants *Tenants
	// Cached reads from memory and has the indexes of AddIndexes.
	Cached client.Reader
	// Live reads from the API server.
	Live client.Reader
	// Store has the records of machines, and nodes.
	Store *record.Store
	// Launchers say what the clouds can; Cluster is what they know the cluster by.
	Launchers *launch.Launchers
	Cluster   string
}

// Observe is everything that is known of a pool.
func (o *Observer) Observe(ctx context.Context, pool *v1alpha1.NodePool) (*nodegroup.Group, error) {
	group, err := o.Machines(ctx, pool, record.Cached)
	if err != nil {
		return nil, err
	}
	if group.TemplateHash, err = pool.Spec.Template.Hash(); err != nil {
		return nil, err
	}
	if group.Reservations, err = o.cachedReservations(ctx, pool.Name); err != nil {
		return nil, err
	}
	if launcher, err := o.Launchers.For(&pool.Spec.Machines); err == nil {
		traits := launcher.Traits(&launch.Pool{Cluster: o.Cluster, Name: pool.Name, Machines: pool.Spec.Machines})
		group.CanBeAtomic, group.ReplaceAfter = traits.Atomic, traits.ReplaceAfter
	}
	for i := range group.Machines {
		machine := &group.Machines[i]
		node, err := o.Store.NodeOf(machine)
		if err != nil {
			return nil, err
		}
		if node == nil {
			continue
		}
		machine.Node = nodeOf(node, o.Tenants.Count(node.Name))
		// What the record will say in a moment.
		machine.Node.Reserved = machine.Node.Reserved || machine.Purpose == v1alpha1.PurposeReservation
	}
	return group, nil
}

// Machines is what is known of a pool without its reservations and what is on its nodes, which is all that most requests of Cluster
// Autoscaler need.
func (o *Observer) Machines(ctx context.Context, pool *v1alpha1.NodePool, freshness record.Freshness) (*nodegroup.Group, error) {
	group := GroupOf(pool)
	var err error
	if group.Machines, err = o.Store.List(ctx, pool.Name, freshness); err != nil {
		return nil, err
	}
	for i := range group.Machines {
		machine := &group.Machines[i]
		// Names are claimed before they are used, so a machine beyond the claim means that the claim is not known yet.
		group.Ordered = max(group.Ordered, nodegroup.Number(pool.Name, machine.Name)+1)
		if freshness == record.Live && !machine.Registered {
			// The record tells of a node a moment after it came, and that moment counts where a target is lowered.
			node, err := o.Store.NodeOf(machine)
			if err != nil {
				return nil, err
			}
			machine.Registered = node != nil
		}
	}
	return group, nil
}

// Look is what is known of a pool but for what is on its nodes. Live, the machines are those of the API server itself, and so are
// the claims, as a node needs it that is to go; both are asked for at a time, since somebody else may write the pool meanwhile.
func (o *Observer) Look(ctx context.Context, pool *v1alpha1.NodePool, freshness record.Freshness) (*nodegroup.Group, error) {
	var live []nodegroup.Reservation
	var asking errgroup.Group
	if freshness == record.Live {
		asking.Go(func() (err error) {
			live, err = o.liveReservations(ctx, pool.Name)
			return err
		})
	}
	group, err := o.Machines(ctx, pool, freshness)
	if err := errors.Join(err, asking.Wait()); err != nil {
		return nil, err
	}
	cached, err := o.cachedReservations(ctx, pool.Name)
	if err != nil {
		return nil, err
	}
	group.Reservations = merge(cached, live)
	return group, nil
}

// merge is what is cached with what is live in its place: a member that the API server does not name, because it is not marked with
// the pool yet or has just given up its claim, keeps what the cache says until that has caught up.
func merge(cached, live []nodegroup.Reservation) []nodegroup.Reservation {
	known := make(map[string]bool, len(live))
	for i := range live {
		known[live[i].Member] = true
	}
	out := slices.Clone(live)
	for i := range cached {
		if !known[cached[i].Member] {
			out = append(out, cached[i])
		}
	}
	return out
}

// liveReservations are the claims on a pool as the API server itself has them: of the members that are marked with the pool.
func (o *Observer) liveReservations(ctx context.Context, pool string) ([]nodegroup.Reservation, error) {
	return reservations(ctx, o.Live, pool, client.HasLabels{v1alpha1.MemberPoolLabel(pool)})
}

// GroupOf is what the NodePool object itself says.
func GroupOf(pool *v1alpha1.NodePool) *nodegroup.Group {
	group := &nodegroup.Group{
		Name:             pool.Name,
		MinSize:          pool.Spec.MinSize,
		MaxSize:          pool.Spec.MaxSize,
		Target:           pool.Spec.Replicas,
		Deleting:         pool.DeletionTimestamp != nil,
		ForMembers:       pool.Spec.ReplicasForMembers,
		ToDelete:         pool.Spec.MachinesToDelete,
		Paused:           pool.Spec.Paused,
		FollowsFloor:     pool.Spec.Autoscaler == v1alpha1.AutoscalerNone,
		ScaleDownDelay:   pool.Spec.ScaleDown.Delay.Duration,
		ProvisionTimeout: pool.Spec.ProvisionTimeout.Duration,
		Floor:            pool.Status.Floor,
		AnnouncedFloor:   pool.Status.AnnouncedFloor,
		Ordered:          pool.Status.MachinesOrdered,
		OrderedFrom:      pool.Status.OrderedFrom,
		KnownFailed:      pool.Status.FailedMachines,
	}
	if f := pool.Status.LastFailure; f != nil {
		group.LastFailure = &nodegroup.Failure{At: f.Time.Time, Class: f.Class, Code: f.Code, Message: f.Message}
	}
	if pool.Status.FloorChangedAt != nil {
		group.FloorChangedAt = pool.Status.FloorChangedAt.Time
	}
	return group
}

// cachedReservations are the claims on a pool, from memory.
func (o *Observer) cachedReservations(ctx context.Context, pool string) ([]nodegroup.Reservation, error) {
	return reservations(ctx, o.Cached, pool, client.MatchingFields{indexReservedIn: pool}, client.UnsafeDisableDeepCopy)
}

func reservations(ctx context.Context, reader client.Reader, pool string, options ...client.ListOption) ([]nodegroup.Reservation, error) {
	var members v1alpha1.EnsembleMemberList
	if err := reader.List(ctx, &members, options...); err != nil {
		return nil, fmt.Errorf("list the members with reservations in NodePool %s: %w", pool, err)
	}
	var out []nodegroup.Reservation
	for i := range members.Items {
		member := &members.Items[i]
		for j := range member.Status.Reservations {
			r := &member.Status.Reservations[j]
			if r.NodePool == pool {
				out = append(out, reservationOf(member, r))
			}
		}
	}
	slices.SortFunc(out, func(a, b nodegroup.Reservation) int { return strings.Compare(a.Member, b.Member) })
	return out, nil
}

// reservationOf is the claim of a member on a pool.
func reservationOf(member *v1alpha1.EnsembleMember, r *v1alpha1.Reservation) nodegroup.Reservation {
	out := nodegroup.Reservation{
		Member: client.ObjectKeyFromObject(member).String(),
		Nodes:  r.Nodes, Occupied: r.Occupied, Held: r.Held,
		AllOrNothing: member.Spec.GrowthPolicy != v1alpha1.GrowthBestEffort && member.Spec.GrowthPolicy != v1alpha1.GrowthGreedy,
		Domain:       member.Status.TopologyDomain,
		Since:        member.CreationTimestamp.Time,
	}
	if growth := member.Status.Growth; growth != nil {
		out.Since = growth.Since.Time
		out.Claim = string(member.UID) + "-" + strconv.FormatInt(growth.Since.UnixMicro(), 10)
	}
	return out
}

// StillReleasable are those of the named machines that the API server itself, not a cache, says may go:
// their nodes carry our taint, so that no pod has come since, hold no pod, and are held by nobody.
func (o *Observer) StillReleasable(ctx context.Context, group *nodegroup.Group, names []string) ([]string, error) {
	live, err := o.liveReservations(ctx, group.Name)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, reservation := range merge(group.Reservations, live) {
		for _, node := range reservation.Held {
			held[node] = true
		}
	}
	machines := make(map[string]*nodegroup.Machine, len(group.Machines))
	for i := range group.Machines {
		machines[group.Machines[i].Name] = &group.Machines[i]
	}
	free := make([]bool, len(names))
	failures := inParallel(len(names), func(i int) (err error) {
		free[i], err = o.free(ctx, machines[names[i]], held)
		return err
	})
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	var out []string
	for i, name := range names {
		if free[i] {
			out = append(out, name)
		}
	}
	return out, nil
}

// free reports whether the API server itself says that nobody uses the node of a machine. Of one that has not registered the
// record says so: a node that comes all the same is looked at before its machine is ended. What is unknown is not free: a node that
// was seen and is not there now is no proof of anything.
func (o *Observer) free(ctx context.Context, m *nodegroup.Machine, held map[string]bool) (bool, error) {
	switch {
	case m == nil:
		return false, nil
	case m.Node == nil && (m.Registered || m.NodeName != ""):
		return false, nil
	case m.Node == nil:
		node, err := o.Store.NodeOf(m)
		return node == nil, err
	case held[m.Node.Name]:
		return false, nil
	}
	var node corev1.Node
	switch err := o.Live.Get(ctx, client.ObjectKey{Name: m.Node.Name}, &node); {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get Node %s: %w", m.Node.Name, err)
	case node.Spec.ProviderID != m.ProviderID, !v1alpha1.Releasing(&node):
		return false, nil
	}
	used, err := o.used(ctx, node.Name)
	return !used, err
}

// used reports whether the API server itself, not a cache, says that pods keep a node from being empty.
func (o *Observer) used(ctx context.Context, node string) (bool, error) {
	var pods corev1.PodList
	if err := o.Live.List(ctx, &pods, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector(indexNodeName, node)}); err != nil {
		return false, fmt.Errorf("list the pods on node %s: %w", node, err)
	}
	return record.CountPods(pods.Items) > 0, nil
}

func nodeOf(node *corev1.Node, pods int) *nodegroup.Node {
	out := &nodegroup.Node{
		Name:      node.Name,
		CreatedAt: node.CreationTimestamp.Time,
		Cordoned:  node.Spec.Unschedulable,
		Releasing: v1alpha1.Releasing(node),
		Reserved:  node.Annotations[v1alpha1.AnnotationReserved] == "true",
		HeldBy:    node.Annotations[v1alpha1.AnnotationHeldBy],
		Pods:      pods,
	}
	out.Untainted = node.Annotations[v1alpha1.AnnotationReleasing] != "" && !out.Releasing
	if said := node.Annotations[v1alpha1.AnnotationGivenUp]; said != "" {
		// What cannot be read counts as long ago: the node does not stay.
		out.GivenUpAt = time.Unix(0, 0)
		if at, err := time.Parse(time.RFC3339Nano, said); err == nil {
			out.GivenUpAt = at
		}
	}
	since := node.CreationTimestamp
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
			if !c.LastTransitionTime.IsZero() {
				since = c.LastTransitionTime
			}
		}
	}
	if !out.Ready {
		out.NotReadySince = since.Time
	}
	out.Leaving = record.Leaving(node)
	return out
}

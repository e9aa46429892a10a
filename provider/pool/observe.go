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

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// Observer turns objects into the plain values that package nodegroup plans with.
type Observer struct {
	// Cached reads from memory and has the indexes of AddIndexes.
	Cached client.Reader
	// Live reads from the API server.
	Live    client.Reader
	Backend machines.Backend
}

// Observe is everything that is known of a pool.
func (o *Observer) Observe(ctx context.Context, pool *v1alpha1.NodePool) (*nodegroup.Group, error) {
	group, err := o.Machines(ctx, pool, machines.Cached)
	if err != nil {
		return nil, err
	}
	if group.TemplateHash, err = pool.Spec.Template.Hash(); err != nil {
		return nil, err
	}
	if group.Reservations, err = o.cachedReservations(ctx, pool.Name); err != nil {
		return nil, err
	}
	var nodes corev1.NodeList
	if err := o.Cached.List(ctx, &nodes, client.MatchingFields{indexNodePool: pool.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the nodes of NodePool %s: %w", pool.Name, err)
	}
	byProviderID := make(map[string]*corev1.Node, len(nodes.Items))
	for i := range nodes.Items {
		byProviderID[nodes.Items[i].Spec.ProviderID] = &nodes.Items[i]
	}
	for i := range group.Machines {
		node := byProviderID[group.Machines[i].ProviderID]
		if node == nil {
			continue
		}
		var pods corev1.PodList
		if err := o.Cached.List(ctx, &pods, client.MatchingFields{indexNodeName: node.Name}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list the pods on node %s: %w", node.Name, err)
		}
		group.Machines[i].Node = nodeOf(node, pods.Items)
	}
	return group, nil
}

// Machines is what is known of a pool without its nodes and reservations, which is all that most requests
// of Cluster Autoscaler need.
func (o *Observer) Machines(ctx context.Context, pool *v1alpha1.NodePool, freshness machines.Freshness) (*nodegroup.Group, error) {
	group := GroupOf(pool)
	var err error
	if group.Machines, err = o.Backend.List(ctx, pool.Name, freshness); err != nil {
		return nil, err
	}
	// Names are claimed before they are used, so a machine beyond the claim means that the claim is not known yet.
	for i := range group.Machines {
		group.Ordered = max(group.Ordered, nodegroup.Number(pool.Name, group.Machines[i].Name)+1)
	}
	return group, nil
}

// Reservations adds the reservations to what Machines knows.
func (o *Observer) Reservations(ctx context.Context, group *nodegroup.Group) (err error) {
	group.Reservations, err = o.cachedReservations(ctx, group.Name)
	return err
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
				out = append(out, nodegroup.Reservation{
					Member: client.ObjectKeyFromObject(member).String(),
					Nodes:  r.Nodes, Occupied: r.Occupied, Held: r.Held,
				})
			}
		}
	}
	slices.SortFunc(out, func(a, b nodegroup.Reservation) int { return strings.Compare(a.Member, b.Member) })
	return out, nil
}

// StillReleasable are those of the named machines that the API server itself, not a cache, says may go:
// their nodes carry our taint, so that no pod has come since, hold no pod, and are held by nobody.
func (o *Observer) StillReleasable(ctx context.Context, pool string, names []string, registered map[string]bool) ([]string, error) {
	reservations, err := reservations(ctx, o.Live, pool)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for i := range reservations {
		for _, name := range reservations[i].Held {
			held[name] = true
		}
	}
	free := make([]bool, len(names))
	failures := atOnce(len(names), func(i int) (err error) {
		if !held[names[i]] {
			free[i], err = o.free(ctx, names[i], registered[names[i]])
		}
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

func (o *Observer) free(ctx context.Context, name string, registered bool) (bool, error) {
	var node corev1.Node
	err := o.Live.Get(ctx, client.ObjectKey{Name: name}, &node)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("get Node %s: %w", name, err)
	case !registered:
		// It has registered in the meantime and is looked at anew.
		return false, nil
	case !releasing(&node):
		return false, nil
	}
	used, err := o.used(ctx, name)
	return !used, err
}

// used reports whether the API server itself, not a cache, says that pods keep a node from being empty.
func (o *Observer) used(ctx context.Context, node string) (bool, error) {
	var pods corev1.PodList
	if err := o.Live.List(ctx, &pods, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector(indexNodeName, node)}); err != nil {
		return false, fmt.Errorf("list the pods on node %s: %w", node, err)
	}
	return countPods(pods.Items) > 0, nil
}

func nodeOf(node *corev1.Node, pods []corev1.Pod) *nodegroup.Node {
	out := &nodegroup.Node{
		Name:      node.Name,
		CreatedAt: node.CreationTimestamp.Time,
		Cordoned:  node.Spec.Unschedulable,
		Releasing: releasing(node),
		Reserved:  node.Annotations[v1alpha1.AnnotationReserved] == "true",
		HeldBy:    node.Annotations[v1alpha1.AnnotationHeldBy],
		Pods:      countPods(pods),
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
	out.Leaving = node.DeletionTimestamp != nil || (toBeDeleted(node) && !out.Releasing)
	return out
}

// releasing reports whether the provider has tainted a node for release. A Cluster Autoscaler that has just
// started removes such taints; the annotation then stands alone and does not count. Nor does it for a taint that was put
// there at another time, which is Cluster Autoscaler's own.
func releasing(node *corev1.Node) bool {
	said := node.Annotations[v1alpha1.AnnotationReleasing]
	if said == "" {
		return false
	}
	at, err := time.Parse(time.RFC3339, said)
	return err == nil && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == v1alpha1.TaintToBeDeleted && t.Value == toBeDeletedValue(at)
	})
}

// toBeDeletedValue is the value of the taint that is put on a node at a time, the seconds since 1970, as Cluster Autoscaler
// writes it.
func toBeDeletedValue(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

func toBeDeleted(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintToBeDeleted })
}

// countPods counts the pods that keep a node from being empty.
func countPods(pods []corev1.Pod) int {
	count := 0
	for i := range pods {
		pod := &pods[i]
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
		owner := metav1.GetControllerOf(pod)
		daemon := owner != nil && owner.Kind == "DaemonSet"
		if !ended && !mirror && !daemon {
			count++
		}
	}
	return count
}

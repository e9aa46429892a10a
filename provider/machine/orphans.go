package machine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// AdoptedOrder is the id of the order of a machine that was found, and not ordered.
const AdoptedOrder = "adopted"

// sweep looks now and then for instances that no record tells of, as a record that was deleted by force leaves them, an etcd that
// was restored, or a cloud that makes more than it says. The first look at a ground after a start only tells.
type sweep struct {
	*Reconciler

	mu sync.Mutex
	// looked are the grounds of which it was told what is there.
	looked map[ground]bool
}

// ground is what is swept at a time: what a place has of a pool.
type ground struct {
	pool string
	// uid is that of the NodePool, empty where none of that name has its machines there: it was deleted, or has them elsewhere now.
	uid   types.UID
	place launch.Place
}

// left reports whether no NodePool has its machines there.
func (g *ground) left() bool { return g.uid == "" }

// Start implements manager.Runnable.
func (s *sweep) Start(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.calls.started:
	}
	for {
		if err := s.all(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error(err, "Cannot look for machines that no record tells of")
		}
		timer := time.NewTimer(s.Waits.Sweep)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// all sweeps every pool, each beside the others: a cloud that is slow delays its own alone.
func (s *sweep) all(ctx context.Context) error {
	var list v1alpha1.NodePoolList
	if err := s.Live.List(ctx, &list); err != nil {
		return fmt.Errorf("list NodePools: %w", err)
	}
	pools := make(map[string]*v1alpha1.NodePool, len(list.Items))
	for i := range list.Items {
		pools[list.Items[i].Name] = &list.Items[i]
	}
	s.forget(func(g ground) bool { return !g.left() && (pools[g.pool] == nil || pools[g.pool].UID != g.uid) })
	for name, pool := range pools {
		if pool.Spec.Paused {
			continue // Nothing of it is ended, nor taken in.
		}
		place, err := s.Launchers.PlaceOf(&pool.Spec.Machines)
		if err != nil {
			s.Log.Info("Cannot sweep a pool", "nodePool", name, "why", err.Error())
			continue
		}
		s.begin(ground{pool: name, uid: pool.UID, place: place}, pool,
			&launch.Pool{Cluster: s.Cluster, Name: name, Machines: pool.Spec.Machines})
	}
	for i, finder := range s.Launchers.Finders() {
		s.calls.begin("", pending{key: fmt.Sprint("pools/", i), done: func() {}, do: func(ctx context.Context) {
			if err := s.allLeft(ctx, finder, pools); err != nil {
				s.Log.Info("Cannot look for machines of pools that are no more", "why", err.Error())
			}
		}})
	}
	return nil
}

// allLeft sweeps what a launcher has of pools that are no more, or have their machines elsewhere.
func (s *sweep) allLeft(ctx context.Context, finder launch.Finder, pools map[string]*v1alpha1.NodePool) error {
	found, err := finder.Pools(ctx, s.Cluster)
	if err != nil {
		return err
	}
	there := make(map[ground]bool, len(found))
	for i := range found {
		of := &found[i]
		pool := pools[of.Name]
		place, err := s.Launchers.PlaceOf(&of.Machines)
		if err != nil || s.sweptWith(pool, place) {
			continue
		}
		if pool == nil {
			pool = &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: of.Name}} // For events.
		}
		g := ground{pool: of.Name, place: place}
		there[g] = true
		s.begin(g, pool, of)
	}
	s.forget(func(g ground) bool { return g.left() && g.place.Launcher == launch.Launcher(finder) && !there[g] })
	return nil
}

// sweptWith reports whether a place is swept with a pool, or not at all because of it; a pool that is nil is not there.
func (s *sweep) sweptWith(pool *v1alpha1.NodePool, place launch.Place) bool {
	if pool == nil {
		return false
	}
	now, err := s.Launchers.PlaceOf(&pool.Spec.Machines)
	return pool.Spec.Paused || (err == nil && now == place)
}

// begin sweeps a ground.
func (s *sweep) begin(g ground, pool *v1alpha1.NodePool, of *launch.Pool) {
	key := "sweep/" + g.pool
	if g.left() {
		key += "/left in " + g.place.Within
	}
	s.calls.begin(g.pool, pending{key: key, done: func() {}, do: func(ctx context.Context) {
		if err := s.one(ctx, g, pool, of); err != nil {
			s.Log.Info("Cannot sweep a pool", "nodePool", g.pool, "why", err.Error())
		}
	}})
}

// one sweeps a ground. It counts as looked at when all that is there was told of.
func (s *sweep) one(ctx context.Context, g ground, pool *v1alpha1.NodePool, of *launch.Pool) error {
	instances, err := g.place.Launcher.List(ctx, of)
	if err != nil {
		return fmt.Errorf("list the instances: %w", err)
	}
	if g.left() {
		s.letStrangersGo(ctx, g.place.Launcher, of, instances) // Nobody else lists them.
		instances = slices.DeleteFunc(instances, func(i launch.Instance) bool { return neverMade(&i) })
	}
	onlyTell := !s.hasLooked(g)
	now := s.Clock.Now()
	var failures []error
	for i := range instances {
		instance := &instances[i]
		if instance.Going || now.Sub(instance.CreatedAt) < s.Waits.Consistency {
			continue
		}
		if known, err := s.known(ctx, instance); err != nil || known {
			failures = append(failures, err)
			continue
		}
		failures = append(failures, s.orphan(ctx, g, pool, of, instance, onlyTell))
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked == nil {
		s.looked = map[ground]bool{}
	}
	s.looked[g] = true
	return nil
}

func (s *sweep) hasLooked(g ground) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looked[g]
}

// forget forgets that grounds were looked at which are no more: whatever comes to be there is told of first.
func (s *sweep) forget(is func(ground) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.looked, func(g ground, _ bool) bool { return is(g) })
}

// known reports whether a record tells of an instance, as the API server itself says.
func (s *sweep) known(ctx context.Context, instance *launch.Instance) (bool, error) {
	if instance.ProviderID != "" {
		if m, err := s.Store.OfNode(instance.ProviderID, ""); err != nil || m != nil {
			return m != nil, err
		}
	}
	if instance.Machine == "" {
		return false, nil
	}
	// A list of one, so that the provider needs no right to get records.
	var list v1alpha1.PoolMachineList
	named := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", instance.Machine)}
	if err := s.Live.List(ctx, &list, named); err != nil {
		return false, fmt.Errorf("look for the record of machine %s: %w", instance.Machine, err)
	}
	// The record of another instance of that name is not this one's.
	return slices.ContainsFunc(list.Items, func(m v1alpha1.PoolMachine) bool {
		return m.Status.ProviderID == "" || instance.ProviderID == "" || m.Status.ProviderID == instance.ProviderID
	}), nil
}

// orphan deals with an instance that no record tells of: it is ended where no node has its provider id, and adopted where one has. Where
// no NodePool has its machines there, nothing can adopt it, and one with a node is a person's to end: pods may be on it.
func (s *sweep) orphan(
	ctx context.Context, g ground, pool *v1alpha1.NodePool, of *launch.Pool, instance *launch.Instance, onlyTell bool,
) error {
	node, err := s.nodes.withProviderID(ctx, s.Live, instance.ProviderID)
	if err != nil {
		return err
	}
	if instance.ProviderID == "" {
		node = nil
	}
	s.tell(g, pool, instance, node, onlyTell)
	switch {
	case onlyTell, node != nil && g.left():
		return nil
	case node != nil:
		return s.takeIn(ctx, pool, instance, node)
	case g.left():
		if still, err := s.stillLeft(ctx, g); err != nil || !still {
			return err
		}
	}
	if err := g.place.Launcher.Terminate(ctx, of, []launch.Instance{*instance})[0]; err != nil && !errors.Is(err, launch.ErrGone) {
		return fmt.Errorf("end the instance %s: %w", instance.Key, err)
	}
	return nil
}

// tell tells of an instance that no record tells of, and what becomes of it.
func (s *sweep) tell(g ground, pool *v1alpha1.NodePool, instance *launch.Instance, node *corev1.Node, onlyTell bool) {
	what := "it is ended, since no node is its"
	switch {
	case node != nil && g.left():
		what = fmt.Sprintf("node %s is its, and no NodePool %s has machines there: drain and delete that node and it is ended, "+
			"or create the NodePool, which adopts it", node.Name, g.pool)
	case node != nil:
		what = "it is adopted, since node " + node.Name + " is its"
	case g.left():
		what = fmt.Sprintf("it is ended, since no node is its and no NodePool %s has machines there", g.pool)
	}
	if onlyTell && (node == nil || !g.left()) {
		what += ", with the next look in " + s.Waits.Sweep.String()
	}
	s.Log.Info("The cloud has a machine that no record tells of", "nodePool", pool.Name, "instance", instance.Key, "what", what)
	s.Events.Eventf(pool, nil, corev1.EventTypeWarning, v1alpha1.ReasonOrphan, v1alpha1.ReasonOrphan,
		"the cloud has the machine %s, which no record tells of; %s", instance.Key, what)
}

// stillLeft reports whether no NodePool has its machines in a ground, as the API server itself says now.
func (s *sweep) stillLeft(ctx context.Context, g ground) (bool, error) {
	// A list of one: that the kind is not there, which a definition that was deleted leaves, is an error and no answer.
	var list v1alpha1.NodePoolList
	named := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", g.pool)}
	if err := s.Live.List(ctx, &list, named); err != nil {
		return false, fmt.Errorf("look for NodePool %s: %w", g.pool, err)
	}
	return !slices.ContainsFunc(list.Items, func(pool v1alpha1.NodePool) bool { return s.sweptWith(&pool, g.place) }), nil
}

// takeIn makes a record of an instance that has a node: it may be a member's, and nobody's pods are killed because a record was
// lost. The number is claimed first, as for an order.
func (s *sweep) takeIn(ctx context.Context, pool *v1alpha1.NodePool, instance *launch.Instance, node *corev1.Node) error {
	var fresh v1alpha1.NodePool
	if err := s.Live.Get(ctx, client.ObjectKeyFromObject(pool), &fresh); err != nil {
		return client.IgnoreNotFound(err)
	}
	if fresh.UID != pool.UID || fresh.DeletionTimestamp != nil {
		return nil
	}
	number := fresh.Status.MachinesOrdered
	claimed := fresh.DeepCopy()
	claimed.Status.MachinesOrdered = number + 1
	if err := s.Client.Status().Patch(ctx, claimed, client.MergeFromWithOptions(&fresh, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("claim a name for the instance %s: %w", instance.Key, err)
	}
	hash, err := fresh.Spec.Template.Hash()
	if err != nil {
		return err
	}
	purpose := v1alpha1.PurposeAutoscaler
	if node.Annotations[v1alpha1.AnnotationReserved] != "" {
		purpose = v1alpha1.PurposeReservation
	}
	m := &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{
			Name:        nodegroup.MachineName(pool.Name, number),
			Labels:      map[string]string{v1alpha1.LabelNodePool: pool.Name},
			Annotations: map[string]string{v1alpha1.AnnotationAdopted: instance.ProviderID},
		},
		Spec: v1alpha1.PoolMachineSpec{
			// As of now: by the time of its making it would be late, and cancelled before its node is recorded.
			NodePool: pool.Name, Purpose: purpose, OrderedAt: metav1.NewMicroTime(s.Clock.Now()), TemplateHash: hash,
			Order:    v1alpha1.MachineOrder{ID: AdoptedOrder, Size: 1, First: number, Last: number},
			Template: fresh.Spec.Template, Machines: fresh.Spec.Machines,
		},
	}
	controllerutil.AddFinalizer(m, v1alpha1.FinalizerMachine)
	if err := s.Client.Create(ctx, m); err != nil {
		return fmt.Errorf("make a record of the instance %s: %w", instance.Key, err)
	}
	return s.count(ctx, claimed)
}

// count raises the target of a pool by the machine that was found, where the target counts fewer than there are: else there would be
// one more than it says for good, since each deletion by Cluster Autoscaler lowers it. Where no autoscaler decides, the target follows the
// floor, and what is idle above it goes.
func (s *sweep) count(ctx context.Context, pool *v1alpha1.NodePool) error {
	records, err := s.Store.OfPool(pool.Name)
	if err != nil || pool.Spec.Autoscaler == v1alpha1.AutoscalerNone {
		return err
	}
	live := int32(1) // The one that was found; the cache may not have its record yet.
	for _, m := range records {
		if m.DeletionTimestamp == nil && !slices.Contains(
			pool.Spec.MachinesToDelete, m.Name,
		) && m.Spec.Order.First != pool.Status.MachinesOrdered-1 {
			live++
		}
	}
	if live <= pool.Spec.Replicas || pool.Spec.Replicas >= pool.Spec.MaxSize {
		return nil
	}
	if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		// The pool's own pass writes its status when it sees the new record.
		var fresh v1alpha1.NodePool
		if err := s.Live.Get(ctx, client.ObjectKeyFromObject(pool), &fresh); err != nil {
			return err
		}
		if fresh.UID != pool.UID || fresh.Spec.Replicas != pool.Spec.Replicas || !slices.Equal(
			fresh.Spec.MachinesToDelete, pool.Spec.MachinesToDelete,
		) {
			// Somebody has decided on the target since, by what the records are now.
			return nil
		}
		raised := fresh.DeepCopy()
		raised.Spec.Replicas++
		return s.Client.Patch(ctx, raised, client.MergeFromWithOptions(&fresh, client.MergeFromWithOptimisticLock{}))
	}); err != nil {
		return fmt.Errorf("count the machine that was found in NodePool %s: %w", pool.Name, err)
	}
	return nil
}

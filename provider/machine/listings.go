package machine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// listings are the newest listings of the instances of each pool.
type listings struct {
	mu    sync.Mutex
	pools map[string]*listing
}

// listing is what clouds have of a pool, as they were last listed.
type listing struct {
	// places are those where the pool has machines, each listed by itself: what one of them does not tell is no news of another.
	places map[launch.Place]*placeListing
	// again is set when something was heard of the pool while it was being listed; rest is when it may be listed next.
	again bool
	rest  time.Time
	// failures counts the listings that have failed in a row; timer lists again at due, nil for none.
	failures int
	timer    *time.Timer
	due      time.Time
}

// placeListing is what one place has of a pool.
type placeListing struct {
	// begun is when the listing was asked for, zero for none so far.
	begun time.Time
	// instances are those that are marked with a machine, by its name.
	instances map[string]launch.Instance
	// absent is since when machines that were launched are in no listing.
	absent map[string]time.Time
}

func (l *listings) of(pool string) *listing {
	if l.pools == nil {
		l.pools = map[string]*listing{}
	}
	if l.pools[pool] == nil {
		l.pools[pool] = &listing{places: map[launch.Place]*placeListing{}}
	}
	return l.pools[pool]
}

// sighting is what the newest listing says of a machine.
type sighting struct {
	// instance is nil when the machine is not in it.
	instance *launch.Instance
	// absentSince is since when the machine, which was launched, is in no listing; zero while it is or nothing is known.
	absentSince time.Time
	// listed is when that listing was asked for, zero for none.
	listed time.Time
}

// see is what the newest listing of the place that a machine is in says of it.
func (l *listings) see(pool string, place launch.Place, machine string) sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of(pool).places[place]
	if of == nil {
		return sighting{}
	}
	out := sighting{absentSince: of.absent[machine], listed: of.begun}
	if instance, is := of.instances[machine]; is {
		out.instance = &instance
	}
	return out
}

func (l *listings) forget(pool string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if of := l.pools[pool]; of != nil && of.timer != nil {
		of.timer.Stop()
	}
	delete(l.pools, pool)
}

// keep forgets the places of a pool where it has no machines any more.
func (l *listings) keep(pool string, places map[launch.Place]v1alpha1.MachinesSpec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.of(pool).places, func(place launch.Place, _ *placeListing) bool {
		_, is := places[place]
		return !is
	})
}

// mayBegin reports whether a pool may be listed at a time, and else when; a listing under way is followed by another.
func (l *listings) mayBegin(pool string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(pool).rest.Sub(now)
}

func (l *listings) listAgain(pool string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(pool).again = true
}

// takeAgain reports whether a pool is to be listed again, and forgets it.
func (l *listings) takeAgain(pool string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of(pool)
	again := of.again
	of.again = false
	return again
}

// failed notes that a listing has failed, and returns after how long there is to be another one.
func (l *listings) failed(pool string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of(pool)
	of.failures++
	return min(retryFirst<<min(of.failures-1, 10), retryMost)
}

// succeeded notes that all places of a pool were listed.
func (l *listings) succeeded(pool string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(pool).failures = 0
}

// put keeps a listing of a place and returns the machines of which it says something new. launched are the machines that should be in it.
func (l *listings) put(
	pool string, place launch.Place, begun time.Time, instances []launch.Instance, launched []string,
) (changed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var before placeListing
	if known := l.of(pool).places[place]; known != nil {
		before = *known
	}
	of := &placeListing{begun: begun, instances: make(map[string]launch.Instance, len(instances)), absent: map[string]time.Time{}}
	l.of(pool).places[place] = of
	for i := range instances {
		name := instances[i].Machine
		if name == "" {
			continue
		}
		of.instances[name] = instances[i]
		if known, is := before.instances[name]; !is || !same(&known, &instances[i]) {
			changed = append(changed, name)
		}
	}
	for name := range before.instances {
		if _, is := of.instances[name]; !is {
			changed = append(changed, name)
		}
	}
	for _, name := range launched {
		if _, is := of.instances[name]; is {
			continue
		}
		since, was := before.absent[name]
		if !was {
			since = begun
			changed = append(changed, name)
		}
		of.absent[name] = since
	}
	return changed
}

// same reports whether two listings say the same of an instance.
func same(a, b *launch.Instance) bool {
	one, other := *a, *b
	one.Failure, other.Failure = nil, nil
	one.CreatedAt, other.CreatedAt, one.LeavingAt, other.LeavingAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	one.LookAgain, other.LookAgain = time.Time{}, time.Time{}
	return one == other && a.CreatedAt.Equal(b.CreatedAt) && a.LeavingAt.Equal(b.LeavingAt) && (a.Failure == nil) == (b.Failure == nil)
}

// restFactor is how many times longer than a listing took its pool is left alone after it: an event of each of a thousand
// machines is no reason to list a thousand machines a thousand times.
const restFactor = 9

// rested notes how long a listing took.
func (l *listings) rested(pool string, took time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(pool).rest = now.Add(restFactor * took)
}

// lister is the loop that lists instances, keyed by pool.
type lister struct{ *Reconciler }

// Reconcile implements reconcile.Reconciler.
func (l lister) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	name := request.Name
	configs, err := l.configs(ctx, name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(configs) == 0 {
		// Nothing was ordered, and nothing is heard of. What no record tells of is for the sweep.
		l.listings.forget(name)
		return ctrl.Result{}, nil
	}
	if wait := l.listings.mayBegin(name, l.Clock.Now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	poll := time.Duration(0)
	for place, machines := range configs {
		every := place.Launcher.Traits(&launch.Pool{Cluster: l.Cluster, Name: name, Machines: machines}).Poll
		if poll == 0 || every < poll {
			poll = every
		}
	}
	l.listings.listAgain(name)
	l.calls.begin(name, pending{key: "list/" + name, do: func(ctx context.Context) {
		l.listings.takeAgain(name)
		l.list(ctx, name, configs)
	}, done: func() {
		if l.listings.takeAgain(name) {
			l.wakePool(name)
		}
	}})
	if poll > 0 {
		// With jitter, so that the pools of an account are not listed in step.
		poll += time.Duration(rand.Int64N(int64(poll)/5 + 1)) //nolint:gosec // Nothing secret.
	}
	return ctrl.Result{RequeueAfter: poll}, nil
}

// configs are the places that the machines of a pool are in, each with what one of them was made of, and that where its machines come
// from now, if its cloud is heard of: some clouds make nothing else while they keep what has failed, and no record may tell of that.
func (r *Reconciler) configs(ctx context.Context, pool string) (map[launch.Place]v1alpha1.MachinesSpec, error) {
	records, err := r.Store.OfPool(pool)
	if err != nil {
		return nil, err
	}
	out := map[launch.Place]v1alpha1.MachinesSpec{}
	for _, m := range records {
		place, err := r.Launchers.PlaceOf(&m.Spec.Machines)
		if err != nil {
			continue // Told where the machine itself is looked at.
		}
		if _, is := out[place]; !is {
			out[place] = m.Spec.Machines
		}
	}
	var now v1alpha1.NodePool
	switch err := r.Client.Get(ctx, client.ObjectKey{Name: pool}, &now); {
	case apierrors.IsNotFound(err):
		return out, nil
	case err != nil:
		return nil, fmt.Errorf("get NodePool %s: %w", pool, err)
	}
	if place, err := r.Launchers.PlaceOf(&now.Spec.Machines); err == nil && len(place.Launcher.Objects()) > 0 {
		if _, is := out[place]; !is {
			out[place] = now.Spec.Machines
		}
	}
	return out, nil
}

// list lists the instances of a pool, each place beside the others, and wakes the machines of which something new is known. Where a place
// cannot be listed, what was listed there before stands: a cloud that cannot be asked has lost nothing.
func (r *Reconciler) list(ctx context.Context, pool string, configs map[launch.Place]v1alpha1.MachinesSpec) {
	begun := r.Clock.Now()
	defer func() {
		now := r.Clock.Now()
		r.listings.rested(pool, now.Sub(begun), now)
	}()
	r.listings.keep(pool, configs)
	failures := make(chan error, len(configs))
	for place, machines := range configs {
		go func() {
			failures <- r.listPlace(ctx, place, &launch.Pool{Cluster: r.Cluster, Name: pool, Machines: machines}, begun)
		}()
	}
	failed, wait := false, time.Duration(0)
	for range configs {
		err := <-failures
		if err == nil {
			continue
		}
		failed = true
		if throttled, is := errors.AsType[*launch.ThrottledError](err); is {
			wait = max(wait, throttled.After)
		} else {
			log.FromContext(ctx).Info("Cannot list the instances of a pool", "nodePool", pool, "why", err.Error())
		}
	}
	if !failed {
		r.listings.succeeded(pool)
		return
	}
	r.wakePoolAt(pool, r.Clock.Now().Add(max(wait, r.listings.failed(pool))))
}

// listPlace lists the instances of a pool in one place.
func (r *Reconciler) listPlace(ctx context.Context, place launch.Place, of *launch.Pool, begun time.Time) error {
	instances, err := place.Launcher.List(ctx, of)
	if err != nil {
		return err
	}
	r.letStrangersGo(ctx, place.Launcher, of, instances)
	for i := range instances {
		// By its provider id a machine is known that was found and not ordered.
		if m, err := r.Store.OfNode(instances[i].ProviderID, ""); err == nil && m != nil {
			instances[i].Machine = m.Name
		}
	}
	records, err := r.Store.OfPool(of.Name)
	if err != nil {
		return err
	}
	var launched []string
	for _, m := range records {
		if isLaunched(&m.Status) && m.Status.Failure == nil && r.placeOf(m) == place {
			launched = append(launched, m.Name)
		}
	}
	for _, name := range r.listings.put(of.Name, place, begun, instances, launched) {
		r.wakeMachine(name)
	}
	if at := lookAgain(instances); !at.IsZero() {
		r.wakePoolAt(of.Name, at)
	}
	return nil
}

// placeOf is where a machine is; of one that this process has no launcher for nothing is listed, and nothing is known.
func (r *Reconciler) placeOf(m *v1alpha1.PoolMachine) launch.Place {
	place, err := r.Launchers.PlaceOf(&m.Spec.Machines)
	if err != nil {
		return launch.Place{}
	}
	return place
}

// see is what the newest listing says of a machine.
func (r *Reconciler) see(m *v1alpha1.PoolMachine) sighting {
	return r.listings.see(m.Spec.NodePool, r.placeOf(m), m.Name)
}

// wakePoolAt lets a pool be listed again at a time; of several the first counts. A pool that is listed before forgets it.
func (r *Reconciler) wakePoolAt(pool string, at time.Time) {
	r.listings.mu.Lock()
	defer r.listings.mu.Unlock()
	of := r.listings.of(pool)
	if of.timer != nil && of.timer.Stop() && of.due.Before(at) {
		at = of.due
	}
	of.due = at
	of.timer = time.AfterFunc(max(at.Sub(r.Clock.Now()), staleRetry), func() { r.wakePool(pool) })
}

// lookAgain is when the first of instances has to be looked at again though nothing is heard, zero for never.
func lookAgain(instances []launch.Instance) time.Time {
	var first time.Time
	for i := range instances {
		if at := instances[i].LookAgain; !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// letStrangersGo lets go what a cloud keeps of instances that have failed and that no record tells of, without waiting for the sweep:
// nobody has a use for one, and some clouds make nothing else while it is there.
//
// One that has an id or a node is left to the sweep, which looks whether somebody uses it.
func (r *Reconciler) letStrangersGo(ctx context.Context, launcher launch.Launcher, of *launch.Pool, instances []launch.Instance) {
	for i := range instances {
		instance := &instances[i]
		if !neverMade(instance) {
			continue
		}
		// The record was there before the instance.
		m, err := r.Store.Named(instance.Machine)
		if err != nil || (instance.Machine != "" && m != nil) {
			continue
		}
		if known, err := (&sweep{Reconciler: r}).known(ctx, instance); err != nil || known {
			continue
		}
		if err := launcher.Terminate(ctx, of, []launch.Instance{*instance})[0]; err != nil && !errors.Is(err, launch.ErrGone) {
			r.Log.Info("Cannot let go what the cloud keeps of a failed instance", "nodePool", of.Name, "instance", instance.Key, "why", err.Error())
		}
	}
}

// neverMade reports whether an instance has failed before there was a machine.
func neverMade(instance *launch.Instance) bool {
	return instance.Failure != nil && !instance.Going && instance.ProviderID == "" && instance.NodeName == ""
}

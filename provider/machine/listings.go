package machine

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// listings are the newest listings of the instances of each pool.
type listings struct {
	mu    sync.Mutex
	pools map[string]*listing
}

// listing is what a cloud has of a pool, as it was last listed.
type listing struct {
	// begun is when the listing was asked for, zero for none so far.
	begun time.Time
	// instances are those that are marked with a machine, by its name.
	instances map[string]launch.Instance
	// absent is since when machines that were launched are in no listing.
	absent map[string]time.Time
	// again is set when something was heard of the pool while it was being listed; rest is when it may be listed next.
	again bool
	rest  time.Time
}

func (l *listings) of(pool string) *listing {
	if l.pools == nil {
		l.pools = map[string]*listing{}
	}
	if l.pools[pool] == nil {
		l.pools[pool] = &listing{absent: map[string]time.Time{}}
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

func (l *listings) see(pool, machine string) sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of(pool)
	out := sighting{absentSince: of.absent[machine], listed: of.begun}
	if instance, is := of.instances[machine]; is {
		out.instance = &instance
	}
	return out
}

func (l *listings) forget(pool string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pools, pool)
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

// put keeps a listing and returns the machines of which it says something new. launched are the machines that should be in it.
func (l *listings) put(pool string, begun time.Time, instances []launch.Instance, launched []string) (changed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of(pool)
	before := of.instances
	of.begun, of.instances = begun, make(map[string]launch.Instance, len(instances))
	for i := range instances {
		name := instances[i].Machine
		if name == "" {
			continue
		}
		of.instances[name] = instances[i]
		if known, is := before[name]; !is || !same(&known, &instances[i]) {
			changed = append(changed, name)
		}
	}
	for name := range before {
		if _, is := of.instances[name]; !is {
			changed = append(changed, name)
		}
	}
	absent := map[string]time.Time{}
	for _, name := range launched {
		if _, is := of.instances[name]; is {
			continue
		}
		since, was := of.absent[name]
		if !was {
			since = begun
			changed = append(changed, name)
		}
		absent[name] = since
	}
	of.absent = absent
	return changed
}

// same reports whether two listings say the same of an instance.
func same(a, b *launch.Instance) bool {
	one, other := *a, *b
	one.Failure, other.Failure = nil, nil
	one.CreatedAt, other.CreatedAt, one.LeavingAt, other.LeavingAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
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
		// Nothing was ordered: there is nothing to hear of. What no record tells of is for the sweep.
		l.listings.forget(name)
		return ctrl.Result{}, nil
	}
	if wait := l.listings.mayBegin(name, l.Clock.Now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	poll := time.Duration(0)
	for launcher, machines := range configs {
		every := launcher.Traits(&launch.Pool{Cluster: l.Cluster, Name: name, Machines: machines}).Poll
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

// configs are the launchers that the machines of a pool come from, each with where its machines come from.
func (r *Reconciler) configs(_ context.Context, pool string) (map[launch.Launcher]v1alpha1.MachinesSpec, error) {
	records, err := r.Store.OfPool(pool)
	if err != nil {
		return nil, err
	}
	out := map[launch.Launcher]v1alpha1.MachinesSpec{}
	for _, m := range records {
		launcher, err := r.Launchers.For(&m.Spec.Machines)
		if err != nil {
			continue // Told where the machine itself is looked at.
		}
		if _, is := out[launcher]; !is {
			out[launcher] = m.Spec.Machines
		}
	}
	return out, nil
}

// list lists the instances of a pool, and wakes the machines of which something new is known.
func (r *Reconciler) list(ctx context.Context, pool string, configs map[launch.Launcher]v1alpha1.MachinesSpec) {
	begun := r.Clock.Now()
	defer func() {
		now := r.Clock.Now()
		r.listings.rested(pool, now.Sub(begun), now)
	}()
	var all []launch.Instance
	for launcher, machines := range configs {
		instances, err := launcher.List(ctx, &launch.Pool{Cluster: r.Cluster, Name: pool, Machines: machines})
		if err != nil {
			// What was listed before stands. A cloud that cannot be asked has lost nothing.
			if _, throttled := errors.AsType[*launch.ThrottledError](err); !throttled {
				log.FromContext(ctx).Info("Cannot list the instances of a pool", "nodePool", pool, "why", err.Error())
			}
			return
		}
		all = append(all, instances...)
	}
	for i := range all {
		// By its provider id a machine is known that was found and not ordered.
		if m, err := r.Store.OfNode(all[i].ProviderID, ""); err == nil && m != nil {
			all[i].Machine = m.Name
		}
	}
	records, err := r.Store.OfPool(pool)
	if err != nil {
		return
	}
	var launched []string
	for _, m := range records {
		if isLaunched(&m.Status) && m.Status.Failure == nil {
			launched = append(launched, m.Name)
		}
	}
	for _, name := range r.listings.put(pool, begun, all, launched) {
		r.wakeMachine(name)
	}
}

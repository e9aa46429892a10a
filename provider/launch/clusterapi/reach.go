package clusterapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// reachAgain is how often it is tried to reach a cluster that cannot be reached, and looked whether its Machines are known.
const reachAgain, lookSynced = 5 * time.Second, 100 * time.Millisecond

// Reached is a Launcher whose cluster may be away, or may not let it watch Machines, when it is started: machines of other backends do not
// wait for that. Until all Machines are known each call has an error that says why they are not. It is to be added to the manager.
type Reached struct {
	config     *rest.Config
	namespaces []string
	log        logr.Logger

	mu       sync.Mutex
	launcher *Launcher // nil until all Machines are known
	why      error
	informer cache.Informer // nil until there is one
	handlers []waiting
}

// waiting is a handler of events that waits for the informer.
type waiting struct {
	handler toolscache.ResourceEventHandler
	options toolscache.HandlerOptions
}

var (
	_ launch.Cached                  = (*Reached)(nil)
	_ launch.Finder                  = (*Reached)(nil)
	_ manager.LeaderElectionRunnable = (*Reached)(nil)
)

// Reach returns a launcher of Machines in some namespaces of a cluster. It does not wait for that.
func Reach(config *rest.Config, namespaces []string, log logr.Logger) *Reached {
	return &Reached{config: config, namespaces: namespaces, log: log, why: errors.New("it has not been tried yet")}
}

// Start implements manager.Runnable: it tries until the cluster is reached, and watches it until the context ends.
func (r *Reached) Start(ctx context.Context) error {
	for {
		c, err := NewCluster(r.config, r.namespaces, func(o *cluster.Options) {
			o.Cache.DefaultWatchErrorHandler = func(ctx context.Context, reflector *toolscache.Reflector, err error) {
				r.failed(err)
				toolscache.DefaultWatchErrorHandler(ctx, reflector, err)
			}
		})
		if err == nil {
			return r.watch(ctx, c)
		}
		r.failed(err)
		if !pause(ctx, reachAgain) {
			return nil
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: a replica that comes to lead knows the Machines.
func (*Reached) NeedLeaderElection() bool { return false }

func (r *Reached) watch(ctx context.Context, c cluster.Cluster) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Start(ctx) }()
	informer, err := c.GetCache().GetInformer(ctx, newMachine(), cache.BlockUntilSynced(false))
	if err == nil {
		err = r.handOver(informer)
	}
	if err != nil {
		cancel()
		return fmt.Errorf("watch the Machines at %s: %w", r.config.Host, errors.Join(err, <-ended))
	}
	for !informer.HasSynced() {
		if !pause(ctx, lookSynced) {
			return <-ended
		}
	}
	r.mu.Lock()
	r.launcher, r.why = New(c, r.namespaces), nil
	r.mu.Unlock()
	r.log.Info("All Machines of Cluster API are known", "apiServer", r.config.Host)
	return <-ended
}

// handOver gives the informer the handlers that wait for it.
func (r *Reached) handOver(informer cache.Informer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.handlers {
		if _, err := informer.AddEventHandlerWithOptions(w.handler, w.options); err != nil {
			return err
		}
	}
	r.informer, r.handlers = informer, nil
	return nil
}

// failed notes why the Machines are not known; while they are, a watch that is interrupted is nobody's concern here.
func (r *Reached) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.launcher != nil {
		return
	}
	if r.why.Error() != err.Error() {
		r.log.Info("The cluster that has the Machines of Cluster API is not reachable; it is tried again", "why", err.Error())
	}
	r.why = err
}

// reached is the launcher, or an error that says why there is none.
func (r *Reached) reached() (*Launcher, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.launcher == nil {
		return nil, fmt.Errorf("the cluster that has the Machines, %s, is not reachable: %w", r.config.Host, r.why)
	}
	return r.launcher, nil
}

// Launch implements launch.Launcher.
func (r *Reached) Launch(ctx context.Context, pool *launch.Pool, order *launch.Order) ([]launch.Outcome, error) {
	l, err := r.reached()
	if err != nil {
		return nil, err
	}
	return l.Launch(ctx, pool, order)
}

// List implements launch.Launcher.
func (r *Reached) List(ctx context.Context, pool *launch.Pool) ([]launch.Instance, error) {
	l, err := r.reached()
	if err != nil {
		return nil, err
	}
	return l.List(ctx, pool)
}

// Pools implements launch.Finder.
func (r *Reached) Pools(ctx context.Context, id string) ([]launch.Pool, error) {
	l, err := r.reached()
	if err != nil {
		return nil, err
	}
	return l.Pools(ctx, id)
}

// Terminate implements launch.Launcher.
func (r *Reached) Terminate(ctx context.Context, pool *launch.Pool, instances []launch.Instance) []error {
	l, err := r.reached()
	if err != nil {
		return slices.Repeat([]error{err}, len(instances))
	}
	return l.Terminate(ctx, pool, instances)
}

// Traits implements launch.Launcher.
func (*Reached) Traits(pool *launch.Pool) launch.Traits { return (&Launcher{}).Traits(pool) }

// Objects implements launch.Launcher.
func (*Reached) Objects() []client.Object { return (&Launcher{}).Objects() }

// Cache implements launch.Cached. Nothing but Machines can be watched by it.
func (r *Reached) Cache() cache.Cache { return &reachedCache{reached: r} }

// reachedCache says of itself that it is filled, so that no controller waits for it, and hands events on when there are some.
type reachedCache struct {
	cache.Cache // nil: nothing else is asked of it.
	reached     *Reached
}

// GetInformer implements cache.Informers.
func (c *reachedCache) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return &reachedInformer{reached: c.reached}, nil
}

// WaitForCacheSync implements cache.Informers.
func (*reachedCache) WaitForCacheSync(context.Context) bool { return true }

// reachedInformer keeps handlers until there is an informer.
type reachedInformer struct {
	cache.Informer // nil: nothing else is asked of it.
	reached        *Reached
}

// AddEventHandlerWithOptions implements cache.Informer.
func (i *reachedInformer) AddEventHandlerWithOptions(
	handler toolscache.ResourceEventHandler, options toolscache.HandlerOptions,
) (toolscache.ResourceEventHandlerRegistration, error) {
	r := i.reached
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.informer != nil {
		if _, err := r.informer.AddEventHandlerWithOptions(handler, options); err != nil {
			return nil, err
		}
	} else {
		r.handlers = append(r.handlers, waiting{handler, options})
	}
	return registration{}, nil
}

// registration is that of a handler which nobody is to wait for.
type registration struct {
	toolscache.ResourceEventHandlerRegistration
}

// HasSynced implements toolscache.ResourceEventHandlerRegistration.
func (registration) HasSynced() bool { return true }

// pause waits, or returns false where the context ends first.
func pause(ctx context.Context, how time.Duration) bool {
	timer := time.NewTimer(how)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

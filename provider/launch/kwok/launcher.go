// Package kwok makes simulated machines. It has two sides. Launcher is what the provider asks, as it asks any cloud. Boot is the
// cloud: it lets instances boot, fail, crash, be taken back and go. They meet at KwokInstance objects, each of which stands for
// an instance of a cloud. When the boot delay of one is over, it registers, which is to say that its Node is created; the kwok
// controller, a program of its own, then keeps that node Ready.
//
// spec.machines.kwok of a NodePool says how the cloud behaves. Each field that makes it behave worse is called a role here.
package kwok

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// indexPool is the index of the cache over KwokInstances by the name of their pool.
const indexPool = "kwokinstances-by-pool"

const (
	// throttledFor is how long a caller is asked to wait that was throttled.
	throttledFor = time.Second
	// cacheLag is how far the cache, which listings are made from, may be behind the API server.
	cacheLag = 5 * time.Second
	// inParallel is how many instances of one call are made or ended at a time, and how many the cloud looks at.
	inParallel = 16
)

// Launcher makes simulated machines exist and go.
type Launcher struct {
	instances toolscache.Indexer
	client    client.Client
	live      client.Reader
	clock     clock.PassiveClock

	// selling is held while the stock is counted and sold: two orders must not have the same machine.
	selling sync.Mutex
	// calls numbers the draws that are for a call and not for a machine.
	calls atomic.Uint64
}

var _ launch.Finder = (*Launcher)(nil)

// New returns a launcher of a manager that has not been started yet. It lists from the manager's cache, and reads from the API
// server where it must not be mistaken.
func New(ctx context.Context, mgr manager.Manager) (*Launcher, error) {
	informer, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.KwokInstance{})
	if err != nil {
		return nil, fmt.Errorf("watch KwokInstances: %w", err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("watch KwokInstances: the cache has a %T, which has no index", informer)
	}
	if err := shared.AddIndexers(toolscache.Indexers{indexPool: byPool}); err != nil {
		return nil, fmt.Errorf("index KwokInstances: %w", err)
	}
	return &Launcher{instances: shared.GetIndexer(), client: mgr.GetClient(), live: mgr.GetAPIReader(), clock: clock.RealClock{}}, nil
}

func byPool(object any) ([]string, error) {
	instance, ok := object.(*v1alpha1.KwokInstance)
	if !ok {
		return nil, nil
	}
	return []string{instance.Spec.NodePool}, nil
}

// Traits implements launch.Launcher.
func (l *Launcher) Traits(pool *launch.Pool) launch.Traits {
	traits := launch.Traits{ByName: true, Poll: time.Minute, Lag: cacheLag, ReplaceAfter: time.Minute}
	config := pool.Machines.Kwok
	if config == nil {
		return traits
	}
	traits.Atomic = config.Orders == v1alpha1.KwokOrdersAtomic
	traits.Tainted = config.Registration != v1alpha1.KwokRegistrationBare
	traits.Lag += orZero(config.ListingLag)
	if orZero(config.ListingLag) > 0 || config.ListingFailurePercent > 0 {
		// An event brings one listing, which may be behind or fail.
		traits.Poll = time.Second
	}
	return traits
}

// Objects implements launch.Launcher.
func (l *Launcher) Objects() []client.Object { return []client.Object{&v1alpha1.KwokInstance{}} }

// errNoConfig is the error of a call about a pool of another kind of cloud.
var errNoConfig = errors.New("spec.machines.kwok is not set")

// begin is the beginning of each call: it takes as long as a call of the simulated cloud does, and is throttled as often.
func (l *Launcher) begin(ctx context.Context, pool *launch.Pool) (*v1alpha1.KwokMachines, error) {
	config := pool.Machines.Kwok
	if config == nil {
		return nil, fmt.Errorf("NodePool %s: %w", pool.Name, errNoConfig)
	}
	if err := wait(ctx, orZero(config.CallDelay)); err != nil {
		return nil, fmt.Errorf("call the simulated cloud for NodePool %s: %w", pool.Name, err)
	}
	if config.ThrottlePercent > 0 && l.luck(config, "throttle") < config.ThrottlePercent {
		return nil, &launch.ThrottledError{After: throttledFor}
	}
	return config, nil
}

// wait simulates the time that a call takes.
func wait(ctx context.Context, duration time.Duration) error {
	if duration <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func orZero(duration *metav1.Duration) time.Duration {
	if duration == nil {
		return 0
	}
	return duration.Duration
}

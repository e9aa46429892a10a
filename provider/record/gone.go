package record

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// goneFor is how long the provider id of a machine that is gone is remembered. Cluster Autoscaler may ask for its deletion by what it
// has listed minutes ago, and has to hear that this is done.
const goneFor = 15 * time.Minute

// gone are the provider ids of machines that are gone, each with its pool. A process that has just started knows of none.
type gone struct {
	mu  sync.Mutex
	ids map[string]goneID
}

type goneID struct {
	pool string
	at   time.Time
}

// watch remembers what goes from now on.
func (g *gone) watch(ctx context.Context, mgr manager.Manager) error {
	informer, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.PoolMachine{})
	if err != nil {
		return fmt.Errorf("watch PoolMachines: %w", err)
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{DeleteFunc: func(object any) {
		if last, is := object.(toolscache.DeletedFinalStateUnknown); is {
			object = last.Obj
		}
		if m, is := object.(*v1alpha1.PoolMachine); is && m.Status.ProviderID != "" {
			g.note(m.Status.ProviderID, m.Spec.NodePool, time.Now())
		}
	}}); err != nil {
		return fmt.Errorf("watch PoolMachines: %w", err)
	}
	return nil
}

func (g *gone) note(id, pool string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ids == nil {
		g.ids = map[string]goneID{}
	}
	if len(g.ids) >= maxWritten {
		maps.DeleteFunc(g.ids, func(_ string, of goneID) bool { return now.Sub(of.at) > goneFor })
	}
	g.ids[id] = goneID{pool, now}
}

// pool is the pool of a machine that is gone, empty where nothing is known of it.
func (g *gone) pool(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ids[id].pool
}

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// announcer records in status.announcedFloor which minimum size Cluster Autoscaler was last told, when it
// differs. The reconciler, which may run in another replica, waits for that before it releases a node. The
// write is made beside the request, which is answered from memory.
type announcer struct {
	client client.Client
	log    logr.Logger
	// queue has the pools that something has to be recorded of; newest is what, so that no older size is ever recorded after it.
	queue  workqueue.TypedRateLimitingInterface[string]
	mu     sync.Mutex
	newest map[string]int32
}

type announcement struct {
	pool string
	size int32
}

func newAnnouncer(c client.Client, log logr.Logger) *announcer {
	return &announcer{client: c, log: log, newest: map[string]int32{}, queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 5*time.Second))}
}

// note takes up the minimum sizes that Cluster Autoscaler was told and that are not recorded.
func (a *announcer) note(sizes []announcement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, size := range sizes {
		a.newest[size.pool] = size.size
		a.queue.Add(size.pool)
	}
}

// take is what is to be recorded of a pool.
func (a *announcer) take(pool string) (announcement, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	size, is := a.newest[pool]
	delete(a.newest, pool)
	return announcement{pool, size}, is
}

// putBack notes what could not be recorded, unless something newer was told meanwhile.
func (a *announcer) putBack(item announcement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, newer := a.newest[item.pool]; !newer {
		a.newest[item.pool] = item.size
	}
}

// Announce writes what was told until the context ends.
func (s *CloudProvider) Announce(ctx context.Context) error {
	a := s.announce
	go func() {
		<-ctx.Done()
		a.queue.ShutDown()
	}()
	for {
		pool, shutdown := a.queue.Get()
		if shutdown {
			return nil
		}
		if item, is := a.take(pool); is {
			if err := a.write(ctx, item); err != nil && ctx.Err() == nil {
				a.log.Error(err, "Cannot record the minimum size that Cluster Autoscaler was told", "nodePool", pool)
				a.putBack(item)
				a.queue.AddRateLimited(pool)
			} else {
				a.queue.Forget(pool)
			}
		}
		a.queue.Done(pool)
	}
}

func (a *announcer) write(ctx context.Context, item announcement) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"announcedFloor": item.size}})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	p := &v1alpha1.NodePool{}
	p.Name = item.pool
	return client.IgnoreNotFound(a.client.Status().Patch(ctx, p, client.RawPatch(types.MergePatchType, patch)))
}

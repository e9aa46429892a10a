package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// announcer records in status.announcedFloor which least size Cluster Autoscaler was last told, when it
// differs. The reconciler, which may run in another replica, waits for that before it releases a node. The
// write is made beside the request, which is answered from memory.
type announcer struct {
	client client.Client
	log    logr.Logger
	queue  workqueue.TypedRateLimitingInterface[announcement]
}

type announcement struct {
	pool string
	size int32
}

func newAnnouncer(c client.Client, log logr.Logger) *announcer {
	return &announcer{client: c, log: log, queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[announcement](50*time.Millisecond, 5*time.Second))}
}

// told notes the least sizes that Cluster Autoscaler was told and that are not recorded.
func (a *announcer) told(sizes []announcement) {
	for _, size := range sizes {
		a.queue.Add(size)
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
		item, shutdown := a.queue.Get()
		if shutdown {
			return nil
		}
		if err := a.write(ctx, item); err != nil && ctx.Err() == nil {
			a.log.Error(err, "Cannot record the least size that Cluster Autoscaler was told", "nodePool", item.pool)
			a.queue.AddRateLimited(item)
		} else {
			a.queue.Forget(item)
		}
		a.queue.Done(item)
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

package faults

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// labelEdits is a label that counts how often somebody has edited a pool.
const labelEdits = "example.com/edits"

// editEvery is the time between two edits of one writer.
const editEvery = 20 * time.Millisecond

// TestWritersLoseNothing: while others edit labels and bounds of a pool at a high rate, Cluster Autoscaler adds and
// removes nodes. Everything that was answered with success has happened, of both sides, and nothing else.
func TestWritersLoseNothing(t *testing.T) {
	t.Parallel()
	const name = "writers"
	const most, writers, grown, removed = 50, 2, 6, 3
	ctx := t.Context()
	record(t, cluster.Client, name)
	p := nodePool(name)
	p.Spec.MaxSize = most
	newPool(t, p)
	provider := start(t, name, settings{})
	defer provider.Stop()

	writing, enough := context.WithCancel(ctx)
	defer enough()
	edits := make([]int, writers)
	var busy sync.WaitGroup
	for i := range writers {
		busy.Go(func() {
			ticker := time.NewTicker(editEvery)
			defer ticker.Stop()
			for {
				select {
				case <-writing.Done():
					return
				case <-ticker.C:
				}
				// The test's context, so that an edit which was begun is counted.
				if err := edit(ctx, cluster.Client, name, func(p *v1alpha1.NodePool) {
					count, _ := strconv.Atoi(p.Labels[labelEdits])
					p.Labels = map[string]string{labelEdits: strconv.Itoa(count + 1)}
					p.Spec.MaxSize, p.Spec.MinSize = most+int32(count%7), int32(count%2)
				}); err != nil {
					t.Errorf("edit: %v", err)
					return
				}
				edits[i]++
			}
		})
	}
	// insist asks until it is granted, as Cluster Autoscaler does in its next loop, and counts how often that took more
	// than one request.
	aborted := 0
	insist := func(what string, call func() error) {
		t.Helper()
		inprocess.Until(t, func(context.Context) (string, error) {
			switch err := call(); status.Code(err) {
			case codes.OK:
				return "", nil
			case codes.Aborted:
				aborted++
				return fmt.Sprintf("%s: %v", what, err), nil
			default:
				return "", err
			}
		})
	}
	for range grown {
		insist("IncreaseSize", func() error { return provider.increase(ctx, name, 1) })
	}
	nodes := hasNodes(t, cluster.Client, name, grown).ready
	for _, node := range nodes[:removed] {
		insist("DeleteNodes", func() error { return provider.deleteNodes(ctx, name, node) })
	}
	enough()
	busy.Wait()
	seen := hasNodes(t, cluster.Client, name, grown-removed)
	if !slices.Equal(seen.ready, slices.Sorted(slices.Values(nodes[removed:]))) {
		t.Errorf("left are %v, not %v", seen.ready, nodes[removed:])
	}
	sum := 0
	for _, count := range edits {
		sum += count
	}
	last := int32(sum - 1)
	if seen.pool.Labels[labelEdits] != strconv.Itoa(sum) || seen.pool.Spec.MaxSize != most+last%7 || seen.pool.Spec.MinSize != last%2 {
		t.Errorf("after %d edits the pool says %v, minSize %d, maxSize %d", sum, seen.pool.Labels, seen.pool.Spec.MinSize, seen.pool.Spec.MaxSize)
	}
	if sum < 2*(grown+removed) {
		t.Errorf("there were %d edits beside %d requests: too few to be in the way", sum, grown+removed)
	}
	t.Logf("%d edits beside %d requests, of which %d were aborted", sum, grown+removed, aborted)
}

// TestWriterAlwaysFirst: where somebody else is faster each time, the provider gives up with Aborted, and has changed
// nothing.
func TestWriterAlwaysFirst(t *testing.T) {
	t.Parallel()
	const name = "writer-first"
	ctx := t.Context()
	record(t, cluster.Client, name)
	p := nodePool(name)
	p.Spec.Replicas = 2
	newPool(t, p)
	network := newLag()
	provider := start(t, name, settings{network: network, follower: true})
	defer provider.Stop()
	leader := start(t, name, settings{})
	defer leader.Stop()
	node := hasNodes(t, cluster.Client, name, 2).ready[0]

	var tries atomic.Int32
	network.interpose(func(request *http.Request) {
		if request.Method != http.MethodPatch || path.Base(request.URL.Path) != name {
			return
		}
		// One request, which no version is asked for: it takes as little of the provider's time as can be.
		p := nodePool(name)
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:"%d"}}}`, labelEdits, tries.Add(1))
		if err := cluster.Client.Patch(ctx, p, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Errorf("patch: %v", err)
		}
	})
	for what, call := range map[string]func() error{
		"IncreaseSize": func() error { return provider.increase(ctx, name, 1) },
		"DeleteNodes":  func() error { return provider.deleteNodes(ctx, name, node) },
	} {
		inprocess.Until(t, func(context.Context) (string, error) {
			before := tries.Load()
			// On a slow machine its time is over before it has tried as often as it may, or more than once.
			if err := call(); status.Code(err) != codes.Aborted && status.Code(err) != codes.DeadlineExceeded {
				return "", fmt.Errorf("%s against a writer that is always faster was answered %s, want Aborted", what, status.Code(err))
			}
			if count := tries.Load() - before; count < 2 {
				return fmt.Sprintf("%s gave up after %d tries", what, count), nil
			}
			return "", nil
		})
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		var after v1alpha1.NodePool
		if err := cluster.Client.Get(ctx, client.ObjectKey{Name: name}, &after); err != nil {
			return "", err
		}
		if after.Spec.Replicas != 2 || len(after.Spec.MachinesToDelete) > 0 {
			return "", fmt.Errorf("the refused requests have left target %d, to delete %v", after.Spec.Replicas, after.Spec.MachinesToDelete)
		}
		if count := tries.Load(); after.Labels[labelEdits] != strconv.Itoa(int(count)) {
			return fmt.Sprintf("the refused requests have left the labels %v, of %d", after.Labels, count), nil
		}
		return "", nil
	})
	// It was not the provider's fault: as soon as nobody is in the way, it is granted.
	network.interpose(nil)
	if err := provider.increase(ctx, name, 1); err != nil {
		t.Errorf("IncreaseSize when nobody is in the way: %v", err)
	}
	hasNodes(t, cluster.Client, name, 3)
}

package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// desired size is what `kubectl scale ensemblemember` does.
func (x *scene) desire(size int) {
	x.Helper()
	m := &v1alpha1.EnsembleMember{}
	m.Namespace, m.Name = x.key.Namespace, x.key.Name
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"size":%d}}`, size))
	if err := cluster.Client.Patch(x.Context(), m, patch); err != nil {
		x.Fatal(err)
	}
}

// edit writes a size into the MiniCluster itself.
func (x *scene) edit(size int) {
	x.Helper()
	object := x.object()
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"size":%d}}`, size))
	if err := cluster.Client.Patch(x.Context(), object, patch); err != nil {
		x.Fatal(err)
	}
}

// TestKillsBetweenWrites lets a MiniCluster grow, shrink, be edited and go, and kills the controller before each of
// its writes in turn. A second controller goes on from there and always comes to the same end.
// It is not parallel: two controllers would do each other's work.
func TestKillsBetweenWrites(t *testing.T) {
	inprocess.EachKill(t, func(most int64) bool { return killed(t, most) })
}

// killed reports whether the controller came to the end before it was killed.
func killed(t *testing.T, most int64) (survived bool) {
	t.Helper()
	x := newScene(t, fmt.Sprintf("kill-%d", most), 1)
	p := start(t, most)
	defer func() { p.Stop() }()
	survived = true
	alive := func() {
		if p.Killed() {
			p.Stop()
			p, survived = start(t, -1), false
		}
	}
	largest := 0
	atSize := func(size int) {
		t.Helper()
		x.until(func(s *seen) string {
			largest = max(largest, s.size)
			return notAtSize(s, size)
		}, alive)
	}
	atSize(1)
	x.desire(3)
	atSize(3)
	x.desire(2)
	atSize(2)
	if largest > 3 {
		t.Errorf("killed before write %d: the size was %d in between, and 3 was the most that was asked for", most+1, largest)
	}
	x.edit(4)
	atSize(4)
	object := x.object()
	if err := cluster.Client.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	x.until(func(s *seen) string {
		if s.member != nil || s.pods > 0 {
			return fmt.Sprintf("the member is left (%v), or %d pods are", s.member != nil, s.pods)
		}
		return ""
	}, alive)
	return survived
}

// TestOrphanedMember: a member that kubectl delete --cascade=orphan has left behind does not block the name of its MiniCluster.
// It is not parallel: two controllers would do each other's work.
func TestOrphanedMember(t *testing.T) {
	x := newScene(t, "orphaned", 2)
	p := start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string { return notAtSize(s, 2) }, nil)
	p.Stop()
	if err := cluster.Client.Delete(t.Context(), x.object(), client.PropagationPolicy(metav1.DeletePropagationOrphan)); err != nil {
		t.Fatal(err)
	}
	orphan := &v1alpha1.EnsembleMember{}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if err := cluster.Client.Get(ctx, x.key, orphan); err != nil {
			return "", err
		}
		if len(orphan.OwnerReferences) > 0 {
			return "the member still has its owner", nil
		}
		return "", nil
	})
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: x.key.Namespace, Name: x.key.Name}}
	if err := cluster.Client.Delete(t.Context(), job, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
		t.Fatal(err)
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if err := cluster.Client.Get(ctx, x.key, job); !apierrors.IsNotFound(err) {
			return "the Job is left", err
		}
		// The garbage collector lets go of the MiniCluster last.
		if err := cluster.Client.Get(ctx, x.key, x.object()); !apierrors.IsNotFound(err) {
			return "the MiniCluster is left", err
		}
		return "", nil
	})
	x.create(2)
	p = start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string {
		if s.member != nil && s.member.UID == orphan.UID {
			return "the member without an owner is left"
		}
		return notAtSize(s, 2)
	}, nil)
}

// TestBelowMinSize: a MiniCluster whose size is below its least one, which the Flux Operator does not follow, is managed from that
// one on.
// It is not parallel: two controllers would do each other's work.
func TestBelowMinSize(t *testing.T) {
	x := newScene(t, "below", 2)
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"minSize":2,"size":1}}`))
	if err := cluster.Client.Patch(t.Context(), x.object(), patch); err != nil {
		t.Fatal(err)
	}
	p := start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string { return notAtSize(s, 2) }, nil)
}

// TestReservedBeforeResized: while not all nodes are Ready nothing is resized, and what is waited for is said.
// It is not parallel: two controllers would do each other's work.
func TestReservedBeforeResized(t *testing.T) {
	x := newScene(t, "order", 1)
	p := start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string { return notAtSize(s, 1) }, nil)
	x.outOfStock = true
	x.desire(4)
	x.until(func(s *seen) string {
		if want := "1 of 4 nodes are Ready in order"; !strings.HasPrefix(message(s.member), want) {
			return fmt.Sprintf("the member says %q, not %q", message(s.member), want)
		}
		if s.member.Status.Reserved != 4 || s.size != 1 {
			return fmt.Sprintf("%d nodes are reserved and the size is %d", s.member.Status.Reserved, s.size)
		}
		return ""
	}, nil)
	x.outOfStock = false
	x.until(func(s *seen) string {
		if s.size > 1 && held(s.member) < s.size {
			t.Errorf("size %d stands on %d nodes held", s.size, held(s.member))
		}
		return notAtSize(s, 4)
	}, nil)
}

// TestRest: a controller with nothing to do writes nothing, though its caches are refilled and events come.
// It is not parallel: two controllers would do each other's work.
func TestRest(t *testing.T) {
	x := newScene(t, "rest", 2)
	p := start(t, -1)
	x.until(func(s *seen) string { return notAtSize(s, 2) }, nil)
	p.Stop()

	// A new process sees everything for the first time, and after that a change that is not its business.
	p = start(t, -1)
	defer p.Stop()
	pool := &v1alpha1.NodePool{}
	pool.Name = x.key.Name
	for n := range 5 {
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"example.com/touched":"%d"}}}`, n))
		if err := cluster.Client.Patch(t.Context(), pool, patch); err != nil {
			t.Fatal(err)
		}
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if err := p.GetClient().Get(ctx, client.ObjectKeyFromObject(pool), pool); err != nil {
			return "", err
		}
		if pool.Annotations["example.com/touched"] != "4" {
			return "the cache has not seen the last change", nil
		}
		return "", nil
	})
	if writes := p.Writes(); writes > 0 {
		t.Errorf("%d writes with nothing to do", writes)
	}
	// A change that is its business is answered after all those before it.
	x.desire(1)
	x.until(func(s *seen) string { return notAtSize(s, 1) }, nil)
	// The shrink: a resize, and the statuses that follow from it and from the pods that leave. A conflict costs one more.
	if writes := p.Writes(); writes > 12 {
		t.Errorf("%d writes for one shrink, and nothing else to do", writes)
	}
}

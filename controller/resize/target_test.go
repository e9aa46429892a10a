package resize

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

var mineAsTarget = &v1alpha1.MemberTarget{APIVersion: "flux-framework.org/v1alpha2", Kind: "MiniCluster", Name: mine.Name}

// untarget makes the member one from before targets.
func (s *scene) untarget() {
	s.Helper()
	member := s.member()
	member.Spec.Target = nil
	s.update(member)
}

// TestTarget: a member says which workload it is of, and one from before targets does after the next pass.
func TestTarget(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	s.run(2)
	if diff := cmp.Diff(mineAsTarget, s.member().Spec.Target); diff != "" {
		t.Errorf("a new member (-want +got):\n%s", diff)
	}
	s.untarget()
	if m := s.sees(); m.Kind != "MiniCluster" || m.Size != 2 || len(m.Pods) != 2 {
		t.Errorf("one from before is seen as a %s of size %d with %d pods", m.Kind, m.Size, len(m.Pods))
	}
	s.settle()
	if diff := cmp.Diff(mineAsTarget, s.member().Spec.Target); diff != "" {
		t.Errorf("one from before (-want +got):\n%s", diff)
	}
}

// TestTargetDropped: where the definition in the cluster is an older one, which drops the target, sizes are decided all the same.
func TestTargetDropped(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	s.run(2)
	s.untarget()
	patches := 0
	s.Client = interceptor.NewClient(s.world, interceptor.Funcs{Patch: func(
		ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption,
	) error {
		member, is := o.(*v1alpha1.EnsembleMember)
		if !is {
			return c.Patch(ctx, o, p, opts...)
		}
		patches++
		member.Spec.Target = nil
		var stored v1alpha1.EnsembleMember
		if err := c.Get(ctx, client.ObjectKeyFromObject(member), &stored); err != nil {
			return err
		}
		if equality.Semantic.DeepEqual(stored.Spec, member.Spec) && maps.Equal(stored.Labels, member.Labels) {
			// Nothing is left of the patch: nothing is written, and there is no event.
			stored.DeepCopyInto(member)
			return nil
		}
		return c.Update(ctx, member)
	}})
	s.provide(2, 5)
	s.desire(4)
	s.pass()
	if nodes := s.member().Status.Reservations[0].Nodes; nodes != 4 {
		t.Errorf("a pass in which nothing could be stored of the target reserves %d nodes for 4", nodes)
	}
	s.settle()
	if s.size() != 4 {
		t.Errorf("the size is %d after 4 were desired: %s", s.size(), s.ready())
	}
	if patches > 2 {
		t.Errorf("the member was patched %d times", patches)
	}
}

// TestTargetOfOtherKind: a member of a kind that is not switched on is left as it is but for its conditions, and beside it everything goes on.
func TestTargetOfOtherKind(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	other := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: mine.Namespace, Name: "job.other"}}
	other.Spec = v1alpha1.EnsembleMemberSpec{
		Size: 3, MinSize: 1, MaxSize: 5, NodePools: []string{"p"},
		Target: &v1alpha1.MemberTarget{APIVersion: "batch/v1", Kind: "Job", Name: "other"},
	}
	s.create(other)
	other.Status = v1alpha1.EnsembleMemberStatus{
		Size: 3, Reservations: []v1alpha1.Reservation{{NodePool: "p", Nodes: 3, Held: []string{"n-5", "n-6", "n-7"}}},
	}
	if err := s.world.Status().Update(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	s.run(2)
	// What it has reserved stays its own: its nodes, though nobody here sees a pod there, and its part of the pool.
	s.provide(2, 8)
	s.desire(4)
	s.settle()
	for _, node := range s.held() {
		if slices.Contains(other.Status.Reservations[0].Held, node) {
			t.Errorf("the MiniCluster holds %v, of which %s is held by a Job", s.held(), node)
		}
	}
	s.pool(func(p *v1alpha1.NodePool) { p.Spec.MaxSize = 8 })
	s.desire(6)
	s.settle()
	if ready := s.ready(); !strings.Contains(ready, "p has maxSize 5") {
		t.Errorf("6 of a pool of 8 are wanted, of which a Job has 3: %s", ready)
	}
	s.desire(2)
	s.settle()
	var left v1alpha1.EnsembleMember
	if err := s.world.Get(t.Context(), client.ObjectKeyFromObject(other), &left); err != nil {
		t.Fatal(err)
	}
	ready := meta.FindStatusCondition(left.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Reason != v1alpha1.ReasonKindNotManaged {
		t.Errorf("it does not say that nobody manages it: %v", ready)
	}
	left.Status.Conditions = nil
	if diff := cmp.Diff([]any{other.Spec, other.Status}, []any{left.Spec, left.Status}); diff != "" {
		t.Errorf("it was touched (-before +after):\n%s", diff)
	}
	if s.size() != 2 || len(s.held()) != 2 {
		t.Errorf("the MiniCluster has size %d and holds %v", s.size(), s.held())
	}
}

package resize

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		if err := c.Patch(ctx, o, p, opts...); err != nil {
			return err
		}
		member, is := o.(*v1alpha1.EnsembleMember)
		if !is {
			return nil
		}
		patches++
		member.Spec.Target = nil
		return c.Update(ctx, member)
	}})
	s.provide(2, 5)
	s.desire(4)
	for range 8 {
		s.pass()
	}
	if s.size() != 4 {
		t.Errorf("the size is %d after 4 were desired: %s", s.size(), s.ready())
	}
	if patches > 2 {
		t.Errorf("the member was patched %d times", patches)
	}
}

// TestTargetOfOtherKind: a member of a kind that is not switched on is left as it is, and beside it goes everything on.
func TestTargetOfOtherKind(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	other := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: mine.Namespace, Name: "job.other"}}
	other.Spec = v1alpha1.EnsembleMemberSpec{
		Size: 3, MinSize: 1, MaxSize: 5, NodePools: []string{"p"},
		Target: &v1alpha1.MemberTarget{APIVersion: "batch/v1", Kind: "Job", Name: "other"},
	}
	s.create(other)
	s.run(2)
	var left v1alpha1.EnsembleMember
	if err := s.world.Get(t.Context(), client.ObjectKeyFromObject(other), &left); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(other.Spec, left.Spec); diff != "" || len(left.Status.Conditions) > 0 {
		t.Errorf("it was touched, with conditions %v (-before +after):\n%s", left.Status.Conditions, diff)
	}
	if s.size() != 2 || len(s.held()) != 2 {
		t.Errorf("the MiniCluster has size %d and holds %v", s.size(), s.held())
	}
}

package resize

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// unreadable writes what Parse cannot read.
func (s *scene) unreadable() {
	s.Helper()
	s.cluster(func(u *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(u.Object, "many", "spec", "containers"); err != nil {
			s.Fatal(err)
		}
		u.SetGeneration(u.GetGeneration() + 1)
	})
}

// TestUnreadable: a MiniCluster that cannot be read stays what it was: it is not one that is being deleted. That is told once.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	s := newScene(t, 3)
	s.run(3)
	s.unreadable()
	look := func(when string) {
		t.Helper()
		s.settle()
		m := s.sees()
		if m.Lifecycle != plan.Running || m.Size != 3 || !strings.Contains(m.Invalid, "spec") || m.PodRequests[corev1.ResourceCPU] != 3000 ||
			len(m.Pods) != 3 {
			t.Errorf(
				"%s: lifecycle %d, size %d, %d pods that request %v, invalid because of %q", when, m.Lifecycle, m.Size, len(m.Pods), m.PodRequests,
				m.Invalid,
			)
		}
		if held := s.held(); len(held) != 3 || s.size() != 3 {
			t.Errorf("%s: it holds %v at size %d: %s", when, held, s.size(), s.ready())
		}
	}
	look("while the last reading is known")
	if told := s.toldOf(v1alpha1.ReasonInvalid); len(told) != 1 {
		t.Errorf("it was told %q", told)
	}
	s.begin()
	look("after a restart")
	s.cluster(func(u *unstructured.Unstructured) {
		if err := unstructured.SetNestedSlice(u.Object, []any{map[string]any{"image": "i"}}, "spec", "containers"); err != nil {
			t.Fatal(err)
		}
	})
	s.settle()
	if m := s.sees(); m.Invalid != "" || m.Size != 3 {
		t.Errorf("when it can be read again: size %d, invalid because of %q", m.Size, m.Invalid)
	}
}

// hidden is a cache that has not heard of some kinds yet.
func hidden(world client.WithWatch, kinds *[]client.ObjectList) client.Client {
	return interceptor.NewClient(world, interceptor.Funcs{List: func(
		ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption,
	) error {
		for _, kind := range *kinds {
			if fmt.Sprintf("%T", kind) == fmt.Sprintf("%T", list) {
				return nil
			}
		}
		return c.List(ctx, list, opts...)
	}})
}

package resize

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestLaunchedIsEnough: a growth does not wait for the provider to write which node each machine has: that a machine has the provider id
// of a node says so. Neither the node nor the machine counts twice.
func TestLaunchedIsEnough(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.run(1)
	s.desire(3)
	s.settle()
	launch := func(n int) {
		node := s.node(n)
		machine := machineOf(node)
		machine.ResourceVersion, machine.Status.NodeName = "", ""
		s.create(&machine)
	}
	launch(1)
	launch(2)
	s.settle()
	if held := s.held(); !slices.Equal(held, []string{"n-0", "n-1", "n-2"}) || s.size() != 3 {
		t.Fatalf("%v are held at size %d: %s", held, s.size(), s.ready())
	}
	seen, err := s.observer.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if coming := seen.byName["p"].Coming; len(coming) > 0 {
		t.Errorf("%v are coming, and all nodes are there", coming)
	}
	for n := 1; n < 3; n++ {
		s.machine(n, func(m *v1alpha1.PoolMachine) { m.Status.NodeName = fmt.Sprintf("n-%d", n) })
	}
	writes := s.writes.Load()
	s.pass()
	if told := s.toldOf(v1alpha1.ReasonStrangeNode); s.writes.Load() != writes || len(told) > 0 || len(s.held()) != 3 {
		t.Errorf("%d writes when the names come, %v are held, told %v", s.writes.Load()-writes, s.held(), told)
	}
}

// TestReleasesDoNotWaitForAStatus: once nodes are recorded as held, pods are released while the status that tells of it is being
// written, however long that takes.
func TestReleasesDoNotWaitForAStatus(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.run(1)
	s.after(time.Minute)
	s.desire(4)
	s.settle()
	s.provide(1, 4)
	s.settle()
	if s.size() != 4 || len(s.held()) != 4 {
		t.Fatalf("%v are held at size %d", s.held(), s.size())
	}
	s.pods(1, 4)
	freed := make(chan struct{})
	var once sync.Once
	var statuses, early atomic.Int64
	inner, is := s.Client.(client.WithWatch)
	if !is {
		t.Fatal("the client of the scene cannot watch")
	}
	s.Client = interceptor.NewClient(inner, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if _, pod := o.(*corev1.Pod); pod {
				defer once.Do(func() { close(freed) })
			}
			return c.Patch(ctx, o, p, opts...)
		},
		SubResourcePatch: func(
			ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption,
		) error {
			select {
			case <-freed:
			case <-time.After(30 * time.Second):
				early.Add(1)
			}
			statuses.Add(1)
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	s.pass()
	if early.Load() != 0 || statuses.Load() != 1 {
		t.Errorf("%d of %d statuses were waited for before any pod was released", early.Load(), statuses.Load())
	}
	if bound := s.bind(); bound != 3 {
		t.Errorf("%d of 3 pods were released", bound)
	}
	s.settle()
	if got := s.ready(); got != "True: at size 4" {
		t.Errorf("Ready is %q", got)
	}
}

// TestReleasesAtOnce: that the API server takes its time does not make one pod of a growth wait for another.
func TestReleasesAtOnce(t *testing.T) {
	t.Parallel()
	const size = 1 + 60
	s := newScene(t, 1)
	s.run(1)
	s.after(time.Minute)
	s.desire(size)
	s.settle()
	s.provide(1, size)
	s.settle()
	s.pods(1, size)
	inner, is := s.Client.(client.WithWatch)
	if !is {
		t.Fatal("the client of the scene cannot watch")
	}
	all := make(chan struct{})
	var under, late atomic.Int64
	s.Client = interceptor.NewClient(inner, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if _, pod := o.(*corev1.Pod); pod {
				if under.Add(1) == size-1 {
					close(all)
				}
				select {
				case <-all:
				case <-time.After(30 * time.Second):
					late.Add(1)
				}
			}
			return c.Patch(ctx, o, p, opts...)
		},
	})
	s.pass()
	if late.Load() > 0 {
		t.Errorf("%d releases have waited for others", late.Load())
	}
	if bound := s.bind(); bound != size-1 {
		t.Errorf("%d of %d pods were released", bound, size-1)
	}
}

// TestNothingIsReleasedUnrecorded: a node that is not yet recorded as held gets no pod before that is written.
func TestNothingIsReleasedUnrecorded(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.settle()
	s.pods(0, 1)
	s.provide(0, 1)
	inner, is := s.Client.(client.WithWatch)
	if !is {
		t.Fatal("the client of the scene cannot watch")
	}
	s.Client = interceptor.NewClient(inner, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if _, pod := o.(*corev1.Pod); pod && len(s.held()) != 1 {
				t.Errorf("pod %s is released, and %v are recorded as held", o.GetName(), s.held())
			}
			return c.Patch(ctx, o, p, opts...)
		},
	})
	s.settle()
	if bound := s.bind(); bound != 1 {
		t.Errorf("%d of 1 pods were released", bound)
	}
}

// TestRestsForWhatWasComputed: a pass is followed by a rest for the processor time that it took, not for the time in which it waited.
func TestRestsForWhatWasComputed(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ computes, rests time.Duration }{
		"nothing":   {0, 0},
		"a little":  {10 * time.Millisecond, 90 * time.Millisecond},
		"very much": {time.Minute, restAtMost},
	} {
		s := newScene(t, 1)
		s.run(1)
		spent := time.Duration(0)
		s.spent = func() time.Duration { spent += row.computes; return spent }
		inner, is := s.Client.(client.WithWatch)
		if !is {
			t.Fatal("the client of the scene cannot watch")
		}
		s.Client = interceptor.NewClient(inner, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				s.clock.SetTime(s.clock.Now().Add(time.Millisecond))
				return c.List(ctx, list, opts...)
			},
		})
		s.observer.reader = s.Client
		s.pass()
		if got := max(0, s.rests.Sub(s.clock.Now())); got != row.rests {
			t.Errorf(
				"%s: a pass that has waited for some milliseconds and has computed for %s rests %s, want %s", name, row.computes, got, row.rests,
			)
		}
	}
}

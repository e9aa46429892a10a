package controller

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// TestGivesUp: a member that is to give up after one failure wants what it has again, and says why. What it asks for then
// is tried as if nothing had been.
// It is not parallel: two controllers would do each other's work.
func TestGivesUp(t *testing.T) {
	x := newScene(t, "give-up", 1)
	x.patchPool(`{"spec":{"maxSize":1}}`)
	x.annotate(v1alpha1.AnnotationGiveUpAfter, "1")
	p := start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string {
		if s.member != nil && s.member.Spec.GiveUpAfter == nil {
			return "the member does not know when to give up"
		}
		return notAtSize(s, 1)
	}, nil)
	x.outOfStock = true
	x.desire(4)
	// A growth goes by the provisionTimeout when it begins, which is when the pool gets large enough.
	x.patchPool(`{"spec":{"maxSize":8,"provisionTimeout":"1s"}}`)
	x.until(func(s *seen) string {
		request := s.member.Spec.Request
		if s.member.Spec.Size != 1 || request == nil || request.Action != v1alpha1.RequestGiveUp {
			return fmt.Sprintf("the desired size is %d, of %+v", s.member.Spec.Size, request)
		}
		if want := "the controller: the growth to size 4 has failed 1 time: 1 of 4 nodes were Ready in give-up within its " +
			"provisionTimeout"; request.By != want || request.Amount != 3 || request.Size != 1 {
			t.Errorf("the desired size is set back by %q, by %d to %d; want by %q, by 3 to 1", request.By, request.Amount, request.Size, want)
		}
		return notAtSize(s, 1)
	}, nil)
	if s, err := x.look(t.Context()); err != nil {
		t.Fatal(err)
	} else if got, want := decided(s.member), []string{
		v1alpha1.ReasonReserved, v1alpha1.ReasonProvisionTimeout, v1alpha1.ReasonGaveUp,
	}; !endsWith(got, want) {
		t.Errorf("status.decisions ends with %v, want %v", got, want)
	}
	x.outOfStock = false
	x.patchPool(`{"spec":{"provisionTimeout":"1h"}}`)
	// The desired size comes by another watch, and must not be granted by the old timeout.
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		pool := &v1alpha1.NodePool{}
		if err := p.GetClient().Get(ctx, client.ObjectKey{Name: x.key.Name}, pool); err != nil {
			return "", err
		}
		if pool.Spec.ProvisionTimeout.Duration != time.Hour {
			return "the controller has not heard of the provisionTimeout", nil
		}
		return "", nil
	})
	x.desire(2)
	x.until(func(s *seen) string { return notAtSize(s, 2) }, nil)
	x.until(func(s *seen) string {
		if got, want := decided(s.member), []string{
			v1alpha1.ReasonGaveUp, v1alpha1.ReasonReserved, v1alpha1.ReasonResized,
		}; !endsWith(got, want) {
			return fmt.Sprintf("status.decisions ends with %v, want %v", got, want)
		}
		return ""
	}, nil)

	steps := growths(t, p.metrics)
	if steps[v1alpha1.ReasonReserved] < 2 || steps[v1alpha1.ReasonProvisionTimeout] != 1 || steps[v1alpha1.ReasonResized] != 1 ||
		steps[v1alpha1.ReasonNodesReady] < 1 {
		t.Errorf("the growths by their steps: %v; want two reserved, one failed, one Ready and resized", steps)
	}
}

// TestSharedNodes: with two pods to a node a member of two needs one node, and one of five three.
// It is not parallel: two controllers would do each other's work.
func TestSharedNodes(t *testing.T) {
	x := newScene(t, "shared", 2)
	x.podCPU = "1"
	x.annotate(v1alpha1.AnnotationPodsPerNode, "2")
	p := start(t, -1)
	defer p.Stop()
	has := func(size, nodes int) {
		t.Helper()
		x.until(func(s *seen) string {
			switch {
			case s.member == nil:
				return "there is no member"
			case s.size != size || s.running != size || !ready(s.member):
				return fmt.Sprintf("size %d, %d Running, want %d: %s", s.size, s.running, size, message(s.member))
			case int(s.member.Status.Reserved) != nodes || held(s.member) != nodes:
				return fmt.Sprintf("%d nodes reserved and %d held, want %d", s.member.Status.Reserved, held(s.member), nodes)
			}
			return ""
		}, nil)
	}
	has(2, 1)
	x.desire(5)
	has(5, 3)
}

// annotate sets an annotation of the MiniCluster.
func (x *scene) annotate(name, value string) {
	x.Helper()
	object := x.object()
	if err := cluster.Client.Patch(
		x.Context(), object, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, name, value)),
	); err != nil {
		x.Fatal(err)
	}
}

// patchPool changes the pool as a user does.
func (x *scene) patchPool(patch string) {
	x.Helper()
	pool := &v1alpha1.NodePool{}
	pool.Name = x.key.Name
	if err := cluster.Client.Patch(x.Context(), pool, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		x.Fatal(err)
	}
}

func decided(m *v1alpha1.EnsembleMember) []string {
	var reasons []string
	for i := range m.Status.Decisions {
		reasons = append(reasons, m.Status.Decisions[i].Reason)
	}
	return reasons
}

func endsWith(list, end []string) bool {
	return len(list) >= len(end) && slices.Equal(list[len(list)-len(end):], end)
}

// growths counts what the histogram of growths has, by the step.
func growths(t *testing.T, registry *prometheus.Registry) map[string]uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, family := range families {
		if family.GetName() != "ensemble_autoscaler_growth_duration_seconds" {
			continue
		}
		for _, metric := range family.GetMetric() {
			counts[metric.GetLabel()[0].GetValue()] = metric.GetHistogram().GetSampleCount()
		}
	}
	return counts
}

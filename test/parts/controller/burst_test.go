package controller

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// TestBurst: what happens while a pass is under way leads to one more, however many events it made.
// It is not parallel: two controllers would do each other's work.
func TestBurst(t *testing.T) {
	x := newScene(t, "burst", 1)
	p := start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string { return notAtSize(s, 1) }, nil)

	goOn := p.Hold()
	defer goOn()
	writes := p.Writes()
	x.desire(2)
	inprocess.Until(t, func(context.Context) (string, error) {
		if p.Writes() == writes {
			return "no pass is under way", nil
		}
		return "", nil
	})
	// A pass that began earlier, and has found nothing to write, has ended by now.
	before := passes(t, p.metrics)
	const events = 200
	var last *corev1.Pod
	for n := range events {
		last = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: fmt.Sprintf("burst-event-%d", n)},
			Spec: corev1.PodSpec{
				SchedulingGates: []corev1.PodSchedulingGate{{Name: "example.com/never"}},
				Containers:      []corev1.Container{{Name: "c", Image: "i"}},
			},
		}
		if err := cluster.Client.Create(t.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		err := p.GetClient().Get(ctx, client.ObjectKeyFromObject(last), &corev1.Pod{})
		if apierrors.IsNotFound(err) {
			return "the cache has not seen the last pod", nil
		}
		return "", err
	})
	if during := passes(t, p.metrics) - before; during != 0 {
		t.Errorf("%d passes have ended while one was held up", during)
	}
	goOn()
	x.until(func(s *seen) string { return notAtSize(s, 2) }, nil)
	// The growth itself: its reservation, each node and pod that comes, and what is written, make some events each.
	if after := passes(t, p.metrics) - before; after > events/4 {
		t.Errorf("%d passes for one growth and %d events that came during a pass", after, events)
	}
}

// passes is how many passes have ended.
func passes(t *testing.T, registry *prometheus.Registry) uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "ensemble_autoscaler_resize_pass_duration_seconds" {
			return family.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatal("there is no metric of passes")
	return 0
}

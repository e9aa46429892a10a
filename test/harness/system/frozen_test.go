package system_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// provisionTime is how long Cluster Autoscaler gives a machine to register here, before it repairs the size of a group.
const provisionTime = 10 * time.Second

// TestPausedPoolFreezesNobody: a pool with machines that run and others that did not come in time is paused. When Cluster Autoscaler
// has waited for those in vain, it goes on scaling other pools: it would do nothing for any of them, if it took the paused one for
// one whose size it has to repair and cannot.
func TestPausedPoolFreezesNobody(t *testing.T) {
	t.Parallel()
	s, err := system.Start(t.Context(), system.Options{
		Progress: os.Stderr, LogDir: t.ArtifactDir(),
		AutoscalerFlags: []string{"--scan-interval=1s", "--max-node-provision-time=" + provisionTime.String()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	pools := &minSizes{System: s, T: t}
	pools.declare("paused")
	pools.declare("other")
	pools.patch("paused", `{"spec":{"minSize":2}}`)
	pools.runs("paused", 2)
	// Two more that never come, and count as late at once.
	pools.patch("paused", `{"spec":{"minSize":4,"provisionTimeout":"1s","machines":{"kwok":{"bootDelay":"1h"}}}}`)
	pools.until("paused", func(p *v1alpha1.NodePool) string {
		if p.Spec.Replicas == 4 {
			return ""
		}
		return fmt.Sprintf("the target is %d, of 4", p.Spec.Replicas)
	})
	pools.patch("paused", `{"spec":{"paused":true}}`)
	paused := time.Now()
	// It has to be longer than its machines have been lacking, and it looks once a second.
	for size := int32(1); time.Since(paused) < 3*provisionTime; size++ {
		pools.patch("other", fmt.Sprintf(`{"spec":{"minSize":%d}}`, size))
		pools.runs("other", size)
	}
	pools.until("paused", func(p *v1alpha1.NodePool) string {
		if p.Spec.Replicas != 4 || len(p.Spec.MachinesToDelete) > 0 {
			return fmt.Sprintf("the target of the paused pool is %d, and %v are to be deleted", p.Spec.Replicas, p.Spec.MachinesToDelete)
		}
		return ""
	})
}

// minSizes are pools whose sizes Cluster Autoscaler raises to their minimum.
type minSizes struct {
	*system.System
	*testing.T
}

func (m *minSizes) declare(name string) {
	m.Helper()
	pool := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 100, ProvisionTimeout: metav1.Duration{Duration: time.Minute},
			Template: v1alpha1.NodeTemplate{Capacity: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
				corev1.ResourcePods: resource.MustParse("110"),
			}},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
	if err := m.Client.Create(m.Context(), pool); err != nil {
		m.Fatal(err)
	}
}

func (m *minSizes) patch(name, patch string) {
	m.Helper()
	pool := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := m.Client.Patch(m.Context(), pool, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		m.Fatal(err)
	}
}

// runs waits until so many nodes of a pool are Ready.
func (m *minSizes) runs(name string, size int32) {
	m.Helper()
	m.until(name, func(p *v1alpha1.NodePool) string {
		if p.Status.Ready == size {
			return ""
		}
		return fmt.Sprintf("%d nodes of %s are Ready, of %d", p.Status.Ready, name, size)
	})
}

func (m *minSizes) until(name string, missing func(*v1alpha1.NodePool) string) {
	m.Helper()
	last := "nothing is known of it"
	until(m.T, func(ctx context.Context) (bool, error) {
		var pool v1alpha1.NodePool
		if err := m.Client.Get(ctx, client.ObjectKey{Name: name}, &pool); err != nil {
			return false, err
		}
		if now := missing(&pool); now != last {
			last = now
			m.Log(now)
		}
		return last == "", nil
	})
}

package machine

import (
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/kills"
)

// TestKillsAtWrites tells the story of package kills on simulated clouds of several kinds.
// It is not parallel: two providers would do each other's work.
func TestKillsAtWrites(t *testing.T) {
	clouds := []struct {
		name string
		role func(*v1alpha1.KwokMachines)
	}{
		{"plain", func(*v1alpha1.KwokMachines) {}},
		{"strange", strange},
		{"replies", func(k *v1alpha1.KwokMachines) { k.LostReplyPercent = 90 }},
		{"atomic", func(k *v1alpha1.KwokMachines) { k.Orders = v1alpha1.KwokOrdersAtomic }},
		{"slow-end", func(k *v1alpha1.KwokMachines) { k.TerminationDelay = after(500 * time.Millisecond) }},
	}
	every := int64(len(clouds))
	for i, row := range clouds {
		first := int64(i+1) % every
		t.Run(row.name, func(t *testing.T) {
			kills.Each(t, first, every, &kills.Cloud{
				Cluster: &cluster, Name: row.name, Kinds: []client.ObjectList{&v1alpha1.KwokInstanceList{}},
				Machines: func(spec *v1alpha1.NodePoolSpec) {
					spec.Machines.Kwok = &v1alpha1.KwokMachines{}
					row.role(spec.Machines.Kwok)
				},
			})
		})
	}
}

package planned

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// maxMeasured is how many machines of a pool are measured, the latest: a cloud of last month says little about today.
const maxMeasured = 100

// Measured is how long the machines of a pool took from their order until their nodes were Ready.
type Measured struct {
	// Machines is the number of machines that were measured. Without any the durations are zero.
	Machines int `json:"machines"`
	// Median and Slowest are those of these machines, in whole seconds, as conditions have it.
	Median  metav1.Duration `json:"median"`
	Slowest metav1.Duration `json:"slowest"`
}

// Measure is what the machines of each pool say. A machine that is Ready says since when.
func Measure(machines []v1alpha1.PoolMachine) map[string]Measured {
	byPool := map[string][]*v1alpha1.PoolMachine{}
	for i := range machines {
		m := &machines[i]
		if meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha1.ConditionReady) && m.Spec.Order.ID != orderAdopted {
			byPool[m.Spec.NodePool] = append(byPool[m.Spec.NodePool], m)
		}
	}
	out := map[string]Measured{}
	for pool, of := range byPool {
		slices.SortFunc(of, func(a, b *v1alpha1.PoolMachine) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
		of = of[:min(len(of), maxMeasured)]
		took := make([]time.Duration, len(of))
		for i, m := range of {
			ready := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionReady)
			took[i] = max(0, ready.LastTransitionTime.Sub(m.CreationTimestamp.Time))
		}
		slices.Sort(took)
		out[pool] = Measured{
			Machines: len(took), Median: metav1.Duration{Duration: took[len(took)/2]}, Slowest: metav1.Duration{Duration: took[len(took)-1]},
		}
	}
	return out
}

// orderAdopted is the id of the order of a machine that was found and not ordered: its record is younger than it is.
const orderAdopted = "adopted"

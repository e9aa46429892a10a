package whatif

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
	// Median and Slowest are those of these machines, rounded to seconds: conditions have no more.
	Median  metav1.Duration `json:"median"`
	Slowest metav1.Duration `json:"slowest"`
}

// boot is when a machine was ordered, and how long its node took.
type boot struct {
	ordered time.Time
	took    time.Duration
}

// Measure is what the machines of each pool say. A machine that is Ready says since when. One that says so of a time after the pool's
// provisionTimeout was Ready before, or it would have been given up: its node was not Ready for a while, and how long it took is not known.
func Measure(pools []v1alpha1.NodePool, machines []v1alpha1.PoolMachine) map[string]Measured {
	timeouts := map[string]time.Duration{}
	for i := range pools {
		timeouts[pools[i].Name] = pools[i].Spec.ProvisionTimeout.Duration
	}
	byPool := map[string][]boot{}
	for i := range machines {
		m := &machines[i]
		ready := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionTrue || m.Spec.Order.ID == orderAdopted {
			continue
		}
		took := max(0, ready.LastTransitionTime.Sub(m.Spec.OrderedAt.Time))
		if timeout, known := timeouts[m.Spec.NodePool]; known && took <= timeout {
			byPool[m.Spec.NodePool] = append(byPool[m.Spec.NodePool], boot{ordered: m.Spec.OrderedAt.Time, took: took})
		}
	}
	out := map[string]Measured{}
	for pool, boots := range byPool {
		slices.SortFunc(boots, func(a, b boot) int { return b.ordered.Compare(a.ordered) })
		boots = boots[:min(len(boots), maxMeasured)]
		took := make([]time.Duration, len(boots))
		for i := range boots {
			took[i] = boots[i].took
		}
		slices.Sort(took)
		out[pool] = Measured{Machines: len(took), Median: seconds(took[len(took)/2]), Slowest: seconds(took[len(took)-1])}
	}
	return out
}

func seconds(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d.Round(time.Second)} }

// orderAdopted is the id of the order of a machine that was found and not ordered: its record is younger than it is.
const orderAdopted = "adopted"

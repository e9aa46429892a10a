package plan

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources are amounts of node resources. CPU is in thousandths of a core, all others in their own unit
// (memory in bytes).
type Resources map[corev1.ResourceName]int64

// ResourcesOf converts a list. An amount too large for an int64 becomes the largest one.
func ResourcesOf(list corev1.ResourceList) Resources {
	r := make(Resources, len(list))
	for name, quantity := range list {
		if name == corev1.ResourceCPU {
			r[name] = amountOf(&quantity, 1000, &largestMilli, (*resource.Quantity).MilliValue)
		} else {
			r[name] = amountOf(&quantity, 1, &largest, (*resource.Quantity).Value)
		}
	}
	return r
}

// largest and largestMilli are what an int64 holds, of units and of thousandths. A Quantity holds more, and says a wrong number, or 0, of
// what it cannot say as an int64.
var largest, largestMilli = *resource.NewQuantity(
	math.MaxInt64, resource.DecimalSI,
), *resource.NewMilliQuantity(math.MaxInt64, resource.DecimalSI)

func amountOf(q *resource.Quantity, unit int64, most *resource.Quantity, value func(*resource.Quantity) int64) int64 {
	if whole, is := q.AsInt64(); is {
		return times(whole, unit)
	}
	if q.Cmp(*most) >= 0 {
		return math.MaxInt64
	}
	return value(q)
}

// Add adds other to r. A sum too large for an int64 becomes the largest one.
func (r Resources) Add(other Resources) {
	for name, amount := range other {
		r[name] = plus(r[name], amount)
	}
}

// plus is a sum of amounts, at most the largest one.
func plus(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// times is so many times an amount, at most the largest one.
func times(amount, n int64) int64 {
	if amount > 0 && n > math.MaxInt64/amount {
		return math.MaxInt64
	}
	return amount * n
}

// requestsOf is what the pods of all these DaemonSets request together; nil when there are none.
func requestsOf(daemons []Daemon) Resources {
	if len(daemons) == 0 {
		return nil
	}
	sum := Resources{}
	for i := range daemons {
		sum.Add(daemons[i].Requests)
	}
	return sum
}

// Lacking returns the first resource, by name, of which requests wants more than what is left of
// allocatable beside requested, and both amounts. It returns an empty name when requests fits. A
// resource of which nothing is requested is never lacking, even where more is in use than there is.
func Lacking(requests, allocatable, requested Resources) (name corev1.ResourceName, want, have int64) {
	for n, amount := range requests {
		left := allocatable[n] - requested[n]
		if amount > 0 && amount > left && (name == "" || n < name) {
			name, want, have = n, amount, left
		}
	}
	return name, want, have
}

// TooLarge says which resource an empty node of the pool has not enough of for the pods of the member that are to share it,
// both amounts, and which DaemonSets take some of it. It is empty when they fit.
func TooLarge(m *Member, pool Pool) string {
	requests, who := m.PodRequests, "a pod requests"
	if m.PodsPerNode > 1 {
		requests = make(Resources, len(m.PodRequests))
		for name, one := range m.PodRequests {
			requests[name] = times(one, int64(m.PodsPerNode))
		}
		who = fmt.Sprintf("%d pods that share a node request", m.PodsPerNode)
	}
	lacking, asked, offered := Lacking(requests, pool.Allocatable, requestsOf(pool.Daemons))
	if lacking == "" {
		return ""
	}
	why := fmt.Sprintf(
		"%s %s of %s and an empty node of %s offers %s", who, formatQuantity(lacking, asked), lacking, pool.Name,
		formatQuantity(lacking, max(0, offered)),
	)
	if taken := takenBy(pool.Daemons, lacking); taken != "" {
		why += ": " + taken
	}
	return why
}

// takenBy says which DaemonSets take how much of a resource on each node; empty when none does.
func takenBy(daemons []Daemon, of corev1.ResourceName) string {
	var parts []string
	var sum int64
	for i := range daemons {
		if takes := daemons[i].Requests[of]; takes > 0 {
			parts = append(parts, fmt.Sprintf("%s takes %s", daemons[i].Name, formatQuantity(of, takes)))
			sum = plus(sum, takes)
		}
	}
	switch len(parts) {
	case 0:
		return ""
	case 1:
		return "DaemonSet " + parts[0]
	default:
		return fmt.Sprintf("DaemonSets take %s: %s", formatQuantity(of, sum), listed(parts))
	}
}

// fits is Lacking without the reason, beside what is requested and what is to come. It does not allocate.
func fits(requests, allocatable, requested, coming Resources) bool {
	for n, amount := range requests {
		if amount > 0 && amount > allocatable[n]-plus(requested[n], coming[n]) {
			return false
		}
	}
	return true
}

// shape is a key that two members share exactly when every node is as usable for the one as for the other.
func (m *Member) shape() string {
	// Few resources are requested, so that all of it fits what the stack has. It is made for each member in each pass.
	names := make([]corev1.ResourceName, 0, 8)
	for name := range m.PodRequests {
		names = append(names, name)
	}
	slices.Sort(names)
	b := make([]byte, 0, 128)
	for _, name := range names {
		b = append(append(b, name...), '=')
		b = append(strconv.AppendInt(b, m.PodRequests[name], 10), ';')
	}
	for i := range m.Tolerations {
		b = append(append(b, m.Tolerations[i].String()...), ';')
	}
	if m.Selects != nil {
		b = append(append(append(b, "on "...), m.Selects.String()...), ';')
	}
	return string(b)
}

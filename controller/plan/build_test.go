package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// noon is when every example takes place.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

var (
	fourCores = plan.Resources{corev1.ResourceCPU: 4000, corev1.ResourcePods: 110}
	threeCore = plan.Resources{corev1.ResourceCPU: 3000, corev1.ResourcePods: 1}
	oneCore   = plan.Resources{corev1.ResourceCPU: 1000, corev1.ResourcePods: 1}
)

func pool(name string, maxSize int32) plan.Pool {
	return plan.Pool{Name: name, MaxSize: maxSize, ProvisionTimeout: 10 * time.Minute, Allocatable: fourCores}
}

// offering is a pool whose nodes have so much CPU, in thousandths.
func offering(p plan.Pool, cpu int64) plan.Pool {
	p.Allocatable = plan.Resources{corev1.ResourceCPU: cpu, corev1.ResourcePods: 110}
	return p
}

func deleting(p plan.Pool) plan.Pool {
	p.Deleting = true
	return p
}

func paused(p plan.Pool) plan.Pool {
	p.Paused = true
	return p
}

// nodes makes Ready, empty, reserved nodes of a pool, named pool-from to pool-(to-1).
func nodes(pool string, from, to int) []plan.Node {
	var out []plan.Node
	for i := from; i < to; i++ {
		out = append(out, plan.Node{
			Name: fmt.Sprintf("%s-%d", pool, i), Pool: pool, Ready: true, Reserved: true,
			CreatedAt: noon.Add(-time.Hour), Allocatable: fourCores, Requested: plan.Resources{},
		})
	}
	return out
}

// memberBuilder makes a member of default/<name>.
type memberBuilder struct{ plan.Member }

func member(name string, size, wants int32, pools ...string) *memberBuilder {
	return &memberBuilder{plan.Member{
		Kind: "MiniCluster", Job: "Job of the MiniCluster",
		Key:  types.NamespacedName{Namespace: "default", Name: name},
		Size: size, Wants: wants, NodePools: pools, PodRequests: threeCore,
	}}
}

// holds records a reservation of count nodes of a pool, with the named nodes held.
func (b *memberBuilder) holds(pool string, count int32, names ...string) *memberBuilder {
	b.Reservations = append(b.Reservations, v1alpha1.Reservation{NodePool: pool, Nodes: count, Held: names})
	return b
}

// beside records how many nodes of the pool of the last reservation were of no use when it was granted.
func (b *memberBuilder) beside(count int32) *memberBuilder {
	b.Reservations[len(b.Reservations)-1].OccupiedAtGrant = count
	return b
}

// podsOn puts one pod that runs on each of the named nodes, with the indexes 0, 1, 2…
func (b *memberBuilder) podsOn(names ...string) *memberBuilder {
	for i, name := range names {
		b.pod(int32(i), name)
	}
	return b
}

// pod puts one more pod that runs on a node.
func (b *memberBuilder) pod(rank int32, node string) *memberBuilder {
	if rank < b.Size && !slices.ContainsFunc(b.Pods, func(p plan.Pod) bool { return p.Index == rank && !p.Released }) {
		b.Running++
	}
	b.Pods = append(b.Pods, plan.Pod{Index: rank, Node: node})
	return b
}

// grows records a growth that was asked for some time before noon and has until the deadline.
func (b *memberBuilder) grows(size int32, ago time.Duration, deadline time.Duration) *memberBuilder {
	b.Growth = &v1alpha1.Growth{Size: size, Since: metav1.NewMicroTime(noon.Add(-ago))}
	if deadline != 0 {
		d := metav1.NewMicroTime(noon.Add(deadline))
		b.Growth.Deadline = &d
	}
	return b
}

// granted says that the growth was granted by a pool some time before noon.
func (b *memberBuilder) granted(pool string, ago time.Duration) *memberBuilder {
	at := metav1.NewMicroTime(noon.Add(-ago))
	b.Growth.GrantedAt, b.Growth.From = &at, b.Size
	if pool != b.NodePools[0] {
		b.Growth.NodePool = pool
	}
	return b
}

// begins says that the growth is for the first nodes of the MiniCluster.
func (b *memberBuilder) begins() *memberBuilder { b.Growth.From = 0; return b }

// served says how much of the size had its nodes when the growth began.
func (b *memberBuilder) served(size int32) *memberBuilder { b.Growth.Served = size; return b }

// failed says that a pool has failed before.
func (b *memberBuilder) failed(pool, reason string) *memberBuilder {
	b.Growth.Failures = append(
		b.Growth.Failures, v1alpha1.PoolFailure{NodePool: pool, Reason: reason, Message: pool + " failed", At: metav1.NewMicroTime(noon)},
	)
	return b
}

func (b *memberBuilder) takes(policy v1alpha1.GrowthPolicy, placement v1alpha1.Placement) *memberBuilder {
	b.GrowthPolicy, b.Placement = policy, placement
	return b
}

// shares says how many pods of which requests share a node.
func (b *memberBuilder) shares(podsPerNode int32, requests plan.Resources) *memberBuilder {
	b.PodsPerNode, b.PodRequests = podsPerNode, requests
	return b
}

// stalled is a pool whose floor rose some time before noon and whose target has not followed.
func stalled(p plan.Pool, ago time.Duration, cause string) plan.Pool {
	p.Stall = plan.Stall{Since: noon.Add(-ago), Cause: cause}
	return p
}

// outOfStock is a pool that had no machine some time before noon.
func outOfStock(p plan.Pool, ago time.Duration) plan.Pool {
	p.OutOfStock = plan.Stockout{At: noon.Add(-ago), Message: "no machine is left"}
	return p
}

// inOne says of which label all nodes of the member have the same value, and in which domain the last pass has put it, if any.
func (b *memberBuilder) inOne(key, domain string) *memberBuilder {
	b.TopologyKey = key
	if domain != "" {
		b.TopologyDomain = key + "=" + domain
	}
	return b
}

// in is a pool whose template says in which zone its nodes are.
func in(p plan.Pool, zone string) plan.Pool {
	p.Labels = map[string]string{zoneKey: zone}
	return p
}

// at are nodes of one zone.
func at(list []plan.Node, zone string) []plan.Node {
	for i := range list {
		list[i].Labels = map[string]string{zoneKey: zone}
	}
	return list
}

func (b *memberBuilder) is(l plan.Lifecycle) *memberBuilder { b.Lifecycle = l; return b }

// occupy puts foreign pods on nodes until nothing is left of them.
func occupy(list []plan.Node, names ...string) []plan.Node {
	for i := range list {
		for _, name := range names {
			if list[i].Name == name {
				list[i].Requested = plan.Resources{corev1.ResourceCPU: 4000, corev1.ResourcePods: 1}
			}
		}
	}
	return list
}

func names(pool string, from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%s-%d", pool, i))
	}
	return out
}

// summary tells a decision in one line: reservations, resize, and the first condition that is not True.
func summary(d plan.Decision) string {
	var parts []string
	for _, r := range d.Reservations {
		part := fmt.Sprintf("%s: %d reserved, %d held", r.NodePool, r.Nodes, len(r.Held))
		if r.Occupied > 0 {
			part += fmt.Sprintf(", %d occupied", r.Occupied)
		}
		parts = append(parts, part)
	}
	if d.Resize != 0 {
		parts = append(parts, fmt.Sprintf("resize to %d", d.Resize))
	}
	return strings.Join(append(parts, d.FirstUnmet()), "; ")
}

func microTime(t time.Time) metav1.MicroTime { return metav1.NewMicroTime(t) }

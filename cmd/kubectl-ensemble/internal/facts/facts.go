// Package facts gathers what an explanation needs from the API server, and nothing else: what a member does not wait for is not listed, so
// that an answer costs the same in a large cluster.
package facts

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

const (
	// maxNodes is how many nodes are read one by one: an explanation names the first few.
	maxNodes = 16
	// maxListed is how many nodes of a pool are looked through for one that is of no use.
	maxListed = 500
)

// topics are what is not known where a resource may not be read.
var topics = map[string][]explain.Topic{
	cluster.ResourceNodePools:       {explain.Floor, explain.ClusterAutoscaler, explain.Machines},
	cluster.ResourcePoolMachines:    {explain.Machines},
	cluster.ResourceEnsembleMembers: {explain.Claim, explain.Queue},
	cluster.ResourceNodes:           {explain.Nodes},
	cluster.ResourcePods:            {explain.Gates, explain.Pods},
	cluster.ResourceConfigMaps:      {explain.ClusterAutoscaler},
}

// nodeTopics are those of a node, whose machine is found without its pool: of the pool its template is of interest.
var nodeTopics = map[string][]explain.Topic{
	cluster.ResourceNodePools:    {explain.Nodes},
	cluster.ResourcePoolMachines: {explain.Machines},
	cluster.ResourcePods:         {explain.Pods},
}

// gathering are facts on their way.
type gathering struct {
	reader *cluster.Reader
	// topics are what is not known where a resource may not be read.
	topics map[string][]explain.Topic
	mutex  sync.Mutex
	facts  explain.Facts
}

func gather(reader *cluster.Reader, now time.Time) *gathering {
	return &gathering{reader: reader.Afresh(), topics: topics, facts: explain.Facts{Now: now, Missing: map[explain.Topic][]string{}}}
}

// done hands the facts out, with the rights that were missing.
func (g *gathering) done() *explain.Facts {
	for _, gap := range g.reader.Gaps() {
		for _, topic := range g.topics[gap.Resource] {
			g.facts.Missing[topic] = append(g.facts.Missing[topic], gap.String())
			slices.Sort(g.facts.Missing[topic])
		}
	}
	return &g.facts
}

// Member are the facts about a member that was read.
func Member(ctx context.Context, reader *cluster.Reader, now time.Time, m *v1alpha1.EnsembleMember) (*explain.Facts, error) {
	g := gather(reader, now)
	g.facts.Member = m
	granted := meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha1.ConditionCapacityReserved)
	ready := meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha1.ConditionCapacityReady)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.podsOf(ctx, m) })
	switch {
	case !granted:
		group.Go(func() error { return g.pools(ctx, m.Spec.NodePools) })
		group.Go(func() error { return g.members(ctx, m.Namespace) })
	case !ready:
		pools := claimed(m)
		group.Go(func() error { return g.autoscaler(ctx, pools) })
		group.Go(func() error {
			if err := g.pools(ctx, pools); err != nil {
				return err
			}
			return g.machines(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return g.done(), nil
}

// Pool are the facts about a pool that was read.
func Pool(ctx context.Context, reader *cluster.Reader, now time.Time, pool *v1alpha1.NodePool) (*explain.Facts, error) {
	g := gather(reader, now)
	g.facts.Pools = []v1alpha1.NodePool{*pool}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.members(ctx, "") })
	group.Go(func() error { return g.autoscaler(ctx, []string{pool.Name}) })
	group.Go(func() error { return g.machines(ctx) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return g.done(), nil
}

// Pod are the facts about a pod that was read: those of its member, where it has one. Where that may not be read, the right is missing to
// know the claim.
func Pod(ctx context.Context, reader *cluster.Reader, now time.Time, pod *corev1.Pod) (*explain.Facts, error) {
	name := pod.Labels[v1alpha1.LabelMember]
	names := []string{name}
	if name == "" {
		job := pod.Labels[batchv1.JobNameLabel]
		if job == "" {
			return gather(reader, now).done(), nil
		}
		names = namesOf(job)
	}
	g := gather(reader, now)
	for _, name := range names {
		m, err := g.reader.EnsembleMember(ctx, pod.Namespace, name)
		if err != nil {
			return nil, err
		}
		if m != nil {
			return Member(ctx, reader, now, m)
		}
	}
	return g.done(), nil
}

// namesOf are the names that the member may have whose pods a Job makes.
func namesOf(job string) []string {
	var names []string
	for _, kind := range kinds.All() {
		if kind.JobOf(job, "") == job {
			names = append(names, member.Name(kind, job))
		}
	}
	return names
}

// Node are the facts about a node that was read.
func Node(ctx context.Context, reader *cluster.Reader, now time.Time, node *corev1.Node) (*explain.Facts, error) {
	g := gather(reader, now)
	g.topics = nodeTopics
	pool := node.Labels[v1alpha1.LabelNodePool]
	if pool == "" {
		return g.done(), nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.pools(ctx, []string{pool}) })
	group.Go(func() error {
		pods, err := g.reader.Pods(ctx, "", client.MatchingFields{"spec.nodeName": node.Name})
		g.facts.Pods = pods
		return err
	})
	group.Go(func() error { return g.record(ctx, pool, node) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return g.done(), nil
}

// record finds the machine of a node: with most clouds it has the name of the node.
func (g *gathering) record(ctx context.Context, pool string, node *corev1.Node) error {
	m, err := g.reader.PoolMachine(ctx, node.Name)
	if err != nil {
		return err
	}
	if m != nil && m.Status.NodeName == node.Name {
		g.facts.Machines = []v1alpha1.PoolMachine{*m}
		return nil
	}
	all, err := g.reader.PoolMachines(ctx, pool)
	for i := range all {
		if all[i].Status.NodeName == node.Name {
			g.facts.Machines = []v1alpha1.PoolMachine{all[i]}
		}
	}
	return err
}

func claimed(m *v1alpha1.EnsembleMember) []string {
	var names []string
	for i := range m.Status.Reservations {
		if m.Status.Reservations[i].Nodes > 0 {
			names = append(names, m.Status.Reservations[i].NodePool)
		}
	}
	return names
}

// podsOf reads the pods of a member.
func (g *gathering) podsOf(ctx context.Context, m *v1alpha1.EnsembleMember) error {
	text := m.Status.Selector
	if kind := kinds.All().Of(m); text == "" && kind != nil {
		text = kind.Selector(member.TargetName(m), "")
	}
	if text == "" {
		// It is of a kind that nobody here knows, and nothing says which pods are its own.
		return nil
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return fmt.Errorf("status.selector of EnsembleMember %s/%s is %q: %w", m.Namespace, m.Name, text, err)
	}
	g.facts.Pods, err = g.reader.Pods(ctx, m.Namespace, client.MatchingLabelsSelector{Selector: selector})
	return err
}

// pools reads pools by their names, in that order.
func (g *gathering) pools(ctx context.Context, names []string) error {
	for _, name := range names {
		pool, err := g.reader.NodePool(ctx, name)
		if err != nil {
			return err
		}
		if pool != nil {
			g.facts.Pools = append(g.facts.Pools, *pool)
		}
	}
	return nil
}

// members reads all members, and where that is not allowed those of one namespace.
func (g *gathering) members(ctx context.Context, namespace string) error {
	all, err := g.reader.EnsembleMembers(ctx, "")
	if err != nil || all != nil || namespace == "" {
		g.facts.Members = all
		return err
	}
	g.facts.Members, err = g.reader.EnsembleMembers(ctx, namespace)
	return err
}

func (g *gathering) autoscaler(ctx context.Context, pools []string) (err error) {
	g.facts.Autoscaler, err = g.reader.Autoscaler(ctx, pools...)
	return err
}

// machines reads what is not Ready of the pools: machines, and nodes. A pool of which all machines are Ready is not listed.
func (g *gathering) machines(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range g.facts.Pools {
		pool := &g.facts.Pools[i]
		group.Go(func() error { return g.machinesOf(ctx, pool) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	slices.SortFunc(g.facts.Machines, func(a, b v1alpha1.PoolMachine) int { return a.Spec.OrderedAt.Compare(b.Spec.OrderedAt.Time) })
	slices.SortFunc(g.facts.Nodes, func(a, b corev1.Node) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return nil
}

func (g *gathering) machinesOf(ctx context.Context, pool *v1alpha1.NodePool) error {
	complete := pool.Status.Replicas == pool.Spec.Replicas && pool.Status.Ready >= pool.Status.Replicas
	if complete && pool.Status.LastFailure == nil {
		// Nodes that are Ready may still be of no use.
		nodes, err := g.reader.Nodes(ctx, pool.Name, client.Limit(maxListed))
		g.mutex.Lock()
		defer g.mutex.Unlock()
		g.facts.Nodes = append(g.facts.Nodes, nodes...)
		return err
	}
	all, err := g.reader.PoolMachines(ctx, pool.Name)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(m v1alpha1.PoolMachine) bool { return explain.MachineReady(&m) })
	var nodes []corev1.Node
	for i := range all {
		if all[i].Status.NodeName == "" || len(nodes) == maxNodes {
			continue
		}
		node, err := g.reader.Node(ctx, all[i].Status.NodeName)
		if err != nil {
			return err
		}
		if node != nil {
			nodes = append(nodes, *node)
		}
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.facts.Machines = append(g.facts.Machines, all...)
	g.facts.Nodes = append(g.facts.Nodes, nodes...)
	return nil
}

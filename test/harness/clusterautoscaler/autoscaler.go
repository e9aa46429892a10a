package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// cluster is what the autoscaler reads and writes in Kubernetes.
type cluster interface {
	// Nodes are all nodes, sorted by name.
	Nodes() ([]*corev1.Node, error)
	// Pods are all pods that have not ended, sorted by namespace and name.
	Pods() ([]*corev1.Pod, error)
	// AddTaint and RemoveTaint change one taint of a node. A node that is gone is no error.
	AddTaint(ctx context.Context, node string, taint corev1.Taint) error
	RemoveTaint(ctx context.Context, node, key string) error
}

// autoscaler is the state between loops.
type autoscaler struct {
	options  options
	provider *provider
	cluster  cluster
	books    *books
	log      *slog.Logger
	// choose picks one of several ways to help pods, by its index.
	choose func([]expansion) int
	// expander says which ways to choose from; nil is all.
	expander *grpcExpander

	started     bool
	lastScaleUp time.Time
	unneeded    map[string]time.Time // nodes by name, since when
	deletions   map[string]deletion  // tainted nodes by name
}

func newAutoscaler(o options, p *provider, c cluster, log *slog.Logger) *autoscaler {
	return &autoscaler{
		options:   o,
		provider:  p,
		cluster:   c,
		books:     newBooks(o, p, log),
		log:       log,
		choose:    func([]expansion) int { return 0 },
		unneeded:  map[string]time.Time{},
		deletions: map[string]deletion{},
	}
}

// runOnce is one loop. Its steps are in the order of Cluster Autoscaler; after an error the rest of the
// loop is left out.
func (a *autoscaler) runOnce(ctx context.Context, now time.Time) error {
	nodes, err := a.cluster.Nodes()
	if err != nil {
		return err
	}
	if err := a.cleanUpTaints(ctx, nodes); err != nil {
		return err
	}
	a.provider.askGPULabel(ctx)
	for _, node := range nodes {
		if _, _, err := a.provider.nodeGroupForNode(ctx, node); err != nil {
			a.log.Warn("group of node unknown", "node", node.Name, "error", err)
		}
	}
	pods, err := a.cluster.Pods()
	if err != nil {
		return err
	}

	if err := a.provider.refresh(ctx); err != nil {
		return err
	}
	if err := a.books.update(ctx, nodes, now); err != nil {
		return err
	}
	if err := a.removeUnregistered(ctx); err != nil {
		a.log.Warn("machines without a node not removed", "error", err)
	}
	if !a.books.clusterHealthy() {
		a.log.Warn("cluster is unhealthy, nothing is done", "unready", len(a.books.all.unready), "nodes", len(a.books.all.registered))
		a.unneeded = map[string]time.Time{}
		return nil
	}
	if err := a.removeFailed(ctx); err != nil {
		a.log.Warn("failed machines not removed", "error", err)
	}
	if fixed, err := a.fixTargets(ctx, now); fixed || err != nil {
		return err
	}

	upcoming, notStarted := map[string]int{}, map[string]bool{}
	for _, group := range a.books.groups {
		if count := a.books.expectedUpcoming(group.id, now); count > 0 && a.books.templates[group.id] != nil {
			upcoming[group.id] = count
			if r := a.books.readiness[group.id]; r != nil {
				for _, name := range r.notStarted {
					notStarted[name] = true
				}
			}
		}
	}
	heldBack := false
	wanting := homeless(unschedulable(pods), machinesNow(nodes, pods, notStarted, upcoming, a.books.templates))
	switch {
	case len(wanting) == 0:
	case allNew(wanting, now):
		a.log.Info("pods are new, waiting one loop for more", "pods", len(wanting))
		heldBack = true
	default:
		if _, err := a.scaleUp(ctx, wanting, now); err != nil {
			a.log.Error("scale-up failed", "error", err)
		}
	}

	if a.options.scaleDownEnabled {
		started := slices.DeleteFunc(slices.Clone(nodes), func(n *corev1.Node) bool { return notStarted[n.Name] })
		podsByNode := byNode(pods)
		if err := a.scaleDown(ctx, started, podsByNode, heldBack, now); err != nil {
			return err
		}
		if err := a.finishDeletions(ctx, nodes, podsByNode, now); err != nil {
			return err
		}
	}
	if a.options.enforceMinSize {
		return a.enforceMinSizes(ctx, now)
	}
	return nil
}

func byNode(pods []*corev1.Pod) map[string][]*corev1.Pod {
	result := map[string][]*corev1.Pod{}
	for _, pod := range pods {
		if pod.Spec.NodeName != "" {
			result[pod.Spec.NodeName] = append(result[pod.Spec.NodeName], pod)
		}
	}
	return result
}

// cleanUpTaints takes, in the first loop, the taint of nodes that are to be deleted off all nodes of the
// groups. They are taken for leftovers of an earlier run, although others may have put them there.
func (a *autoscaler) cleanUpTaints(ctx context.Context, nodes []*corev1.Node) error {
	if a.started {
		return nil
	}
	a.started = true
	for _, node := range nodes {
		if !beingDeleted(node) {
			continue
		}
		_, found, err := a.provider.nodeGroupForNode(ctx, node)
		if err != nil || !found {
			a.log.Warn("taint left, group of node unknown", "node", node.Name, "error", err)
			continue
		}
		a.log.Info("removing the taint of an earlier run", "node", node.Name)
		if err := a.cluster.RemoveTaint(ctx, node.Name, v1alpha1.TaintToBeDeleted); err != nil {
			return err
		}
	}
	return nil
}

// removeUnregistered deletes machines that have not registered in time, but none that the minimum size of
// its group calls for.
func (a *autoscaler) removeUnregistered(ctx context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(a.books.readiness)) {
		late := a.books.readiness[id].longUnregistered
		group, known := a.provider.group(ctx, id)
		if len(late) == 0 || !known {
			continue
		}
		target, err := a.provider.targetSize(ctx, id)
		if err != nil {
			return err
		}
		possible := target - group.min
		if possible <= 0 {
			a.log.Warn("minimum size reached, machines without a node stay", "group", id, "machines", late)
			continue
		}
		late = late[:min(len(late), possible)]
		a.log.Info("DeleteNodes of machines without a node", "group", id, "machines", late)
		var nodes []*corev1.Node
		for _, machine := range late {
			nodes = append(nodes, unregisteredNode(machine))
		}
		err = a.provider.deleteNodes(ctx, id, nodes...)
		a.provider.forgetNodes(id)
		if err != nil {
			return err
		}
	}
	return nil
}

// removeFailed deletes the machines that could not be made, each loop again until they are gone.
func (a *autoscaler) removeFailed(ctx context.Context) error {
	removed := false
	for _, group := range a.books.groups {
		var nodes []*corev1.Node
		for _, i := range a.books.instances[group.id] {
			if failed(i) {
				nodes = append(nodes, failedNode(i.id))
			}
		}
		if len(nodes) == 0 {
			continue
		}
		a.log.Info("DeleteNodes of failed machines", "group", group.id, "count", len(nodes))
		if err := a.provider.deleteNodes(ctx, group.id, nodes...); err != nil {
			return err
		}
		a.provider.forgetNodes(group.id)
		removed = true
	}
	if removed {
		return a.books.readTargets(ctx)
	}
	return nil
}

// fixTargets lowers the target of groups that have had fewer nodes for longer than a machine may take,
// with no machine pending. It tells whether it did, which ends the loop.
func (a *autoscaler) fixTargets(ctx context.Context, now time.Time) (bool, error) {
	fixed := false
	for _, id := range slices.Sorted(maps.Keys(a.books.wrongSizes)) {
		wrong := a.books.wrongSizes[id]
		options, err := a.provider.options(ctx, id, a.books.defaults)
		if err != nil {
			return fixed, err
		}
		if wrong.current >= wrong.target || !wrong.since.Add(options.provisionTime).Before(now) {
			continue
		}
		a.log.Info("DecreaseTargetSize", "group", id, "from", wrong.target, "to", wrong.current)
		if err := a.provider.decreaseTargetSize(ctx, id, wrong.current-wrong.target); err != nil {
			return fixed, err
		}
		fixed = true
	}
	return fixed, nil
}

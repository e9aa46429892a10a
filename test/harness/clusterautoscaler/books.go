package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// books is what the autoscaler knows of its groups: the counts of this loop, and what it has to remember
// from one loop to the next.
type books struct {
	provider *provider
	log      *slog.Logger
	defaults nodeOptions
	limits   unreadyLimits
	backoffs *backoffs

	scaleUps     map[string]scaleUp   // requests under way, by group
	unregistered map[string]time.Time // machines without a node, by ID, since when
	failedBefore map[string]bool      // IDs of the failed machines of the last loop
	wrongSizes   map[string]wrongSize // groups whose nodes differ from their target, by group

	// Of this loop.
	groups    []nodeGroup
	templates map[string]*corev1.Node
	targets   map[string]int
	instances map[string][]instance
	readiness map[string]*readiness
	all       readiness
}

// unreadyLimits say how many unready nodes are too many: more than count and more than percentage.
type unreadyLimits struct {
	count      int
	percentage float64
}

func (l unreadyLimits) exceeded(unready, total int) bool {
	return unready > l.count && float64(unready) > l.percentage/100*float64(total)
}

// scaleUp is a request for machines that have not all come.
type scaleUp struct {
	increase        int
	since, expected time.Time
}

// wrongSize is a difference between the nodes of a group and its target that no pending machine explains.
type wrongSize struct {
	current, target int
	since           time.Time
}

// readiness sorts the nodes and machines of a group by name.
type readiness struct {
	registered, ready, unready, notStarted, deleted []string
	unregistered, longUnregistered                  []string
}

func newBooks(o options, p *provider, log *slog.Logger) *books {
	return &books{
		provider: p,
		log:      log,
		defaults: nodeOptions{
			unneededTime:  o.scaleDownUnneededTime,
			unreadyTime:   o.scaleDownUnreadyTime,
			provisionTime: o.maxNodeProvisionTime,
			startupTime:   o.maxNodeStartupTime,
		},
		limits:       unreadyLimits{count: o.okTotalUnreadyCount, percentage: o.maxTotalUnreadyPercentage},
		backoffs:     newBackoffs(o),
		scaleUps:     map[string]scaleUp{},
		unregistered: map[string]time.Time{},
		failedBefore: map[string]bool{},
		wrongSizes:   map[string]wrongSize{},
	}
}

// update brings the books up to date with the provider after its refresh. An error ends the loop.
func (b *books) update(ctx context.Context, nodes []*corev1.Node, now time.Time) error {
	b.groups = b.provider.nodeGroups(ctx)
	b.templates = map[string]*corev1.Node{}
	for _, g := range b.groups {
		template, err := b.provider.template(ctx, g.id)
		if err != nil {
			b.log.Warn("group cannot be scaled up", "group", g.id, "error", err)
			continue
		}
		b.templates[g.id] = template
	}
	if err := b.readTargets(ctx); err != nil {
		return err
	}
	scaling := map[string]bool{}
	for id := range b.scaleUps {
		scaling[id] = b.upcoming(id) > 0
	}
	b.instances = map[string][]instance{}
	for _, g := range b.groups {
		if scaling[g.id] {
			b.provider.forgetNodes(g.id)
		}
		list, err := b.provider.nodes(ctx, g.id, now)
		if err != nil {
			return err
		}
		b.instances[g.id] = list
	}
	b.noteUnregistered(nodes, now)
	b.sortNodes(ctx, nodes, now)
	b.reviewScaleUps(ctx, now)
	b.noteFailures(now)
	b.noteWrongSizes(now)
	return nil
}

func (b *books) readTargets(ctx context.Context) error {
	b.targets = map[string]int{}
	for _, g := range b.groups {
		target, err := b.provider.targetSize(ctx, g.id)
		if err != nil {
			return err
		}
		b.targets[g.id] = target
	}
	return nil
}

// noteUnregistered remembers since when each machine has no node. One that failed or is on its way out
// is not expected to get one.
func (b *books) noteUnregistered(nodes []*corev1.Node, now time.Time) {
	registered := map[string]bool{}
	for _, node := range nodes {
		registered[node.Spec.ProviderID] = true
	}
	current := map[string]time.Time{}
	for _, list := range b.instances {
		for _, i := range list {
			if registered[i.id] || i.failure != nil || i.state == externalgrpc.InstanceStatus_instanceDeleting {
				continue
			}
			since, found := b.unregistered[i.id]
			if !found {
				since = now
			}
			current[i.id] = since
		}
	}
	b.unregistered = current
}

// sortNodes counts the nodes and unregistered machines of each group. It asks for the group of each, and
// for the options of that group.
func (b *books) sortNodes(ctx context.Context, nodes []*corev1.Node, now time.Time) {
	b.readiness, b.all = map[string]*readiness{}, readiness{}
	of := func(group string) *readiness {
		if b.readiness[group] == nil {
			b.readiness[group] = &readiness{}
		}
		return b.readiness[group]
	}
	for _, node := range nodes {
		startup := b.defaults.startupTime
		group, found, err := b.provider.nodeGroupForNode(ctx, node)
		if err != nil {
			b.log.Warn("group of node unknown", "node", node.Name, "error", err)
		}
		if found {
			options, err := b.provider.options(ctx, group.id, b.defaults)
			if err != nil {
				b.log.Warn("options of group unknown", "group", group.id, "error", err)
			} else {
				startup = options.startupTime
			}
			of(group.id).add(node, startup, now)
		}
		b.all.add(node, startup, now)
	}
	for _, id := range slices.Sorted(maps.Keys(b.unregistered)) {
		group, found, err := b.provider.nodeGroupForNode(ctx, unregisteredNode(id))
		if err != nil || !found {
			b.log.Warn("machine without a node has no group", "machine", id, "error", err)
			continue
		}
		options, err := b.provider.options(ctx, group.id, b.defaults)
		if err != nil {
			b.log.Warn("options of group unknown", "group", group.id, "error", err)
			continue
		}
		if b.unregistered[id].Add(options.provisionTime).Before(now) {
			of(group.id).longUnregistered = append(of(group.id).longUnregistered, id)
		} else {
			of(group.id).unregistered = append(of(group.id).unregistered, id)
		}
	}
}

func (r *readiness) add(node *corev1.Node, startup time.Duration, now time.Time) {
	r.registered = append(r.registered, node.Name)
	switch {
	case beingDeleted(node):
		r.deleted = append(r.deleted, node.Name)
	case isReady(node):
		r.ready = append(r.ready, node.Name)
	case node.CreationTimestamp.Add(startup).After(now):
		r.notStarted = append(r.notStarted, node.Name)
	default:
		r.unready = append(r.unready, node.Name)
	}
}

// upcoming is how many nodes of a group are yet to become Ready.
func (b *books) upcoming(group string) int {
	r := b.readiness[group]
	if r == nil {
		return b.targets[group]
	}
	return b.targets[group] - len(r.ready) - len(r.unready) - len(r.longUnregistered)
}

// expectedUpcoming is upcoming for the simulation of pods: nodes that nobody asked for here, or whose
// group is backed off, are not expected.
func (b *books) expectedUpcoming(group string, now time.Time) int {
	if _, asked := b.scaleUps[group]; !asked {
		return 0
	}
	if _, backedOff := b.backoffs.active(group, now); backedOff {
		return 0
	}
	return max(0, b.upcoming(group))
}

// registerScaleUp adds delta machines to the request of a group. A negative delta takes machines back and
// leaves the time limit as it is.
func (b *books) registerScaleUp(group string, delta int, provisionTime time.Duration, now time.Time) {
	request, found := b.scaleUps[group]
	if !found && delta <= 0 {
		return
	}
	request.increase += delta
	if request.increase <= 0 {
		delete(b.scaleUps, group)
		return
	}
	if delta > 0 {
		request.since, request.expected = now, now.Add(provisionTime)
	}
	b.scaleUps[group] = request
}

// registerFailure backs a group off.
func (b *books) registerFailure(group string, f failure, now time.Time) {
	if b.templates[group] == nil {
		b.log.Error("group without a template cannot be backed off", "group", group)
		return
	}
	until := b.backoffs.fail(group, f, now)
	b.log.Warn(
		"scale-up disabled", "group", group, "until", until.UTC().Format(time.RFC3339), "class", f.class, "code", f.code, "message", f.message,
	)
}

// reviewScaleUps ends the requests whose nodes have all come, and gives up those that took too long: the
// group is backed off and the whole increase asked back, even where a part of it came.
func (b *books) reviewScaleUps(ctx context.Context, now time.Time) {
	for _, group := range slices.Sorted(maps.Keys(b.scaleUps)) {
		request := b.scaleUps[group]
		if _, known := b.targets[group]; known && b.upcoming(group) <= 0 || !known {
			b.log.Info("scale-up finished", "group", group, "after", now.Sub(request.since).Round(time.Millisecond))
			delete(b.scaleUps, group)
			continue
		}
		if !request.expected.Before(now) {
			continue
		}
		waited := now.Sub(request.since).Round(time.Millisecond)
		b.log.Warn("scale-up timed out, asking its increase back", "group", group, "increase", request.increase, "after", waited)
		b.registerFailure(group, failure{class: 99, code: "timeout", message: fmt.Sprintf("scale-up timed out after %s", waited)}, now)
		if err := b.provider.decreaseTargetSize(ctx, group, -request.increase); err != nil {
			b.log.Warn("increase not taken back", "group", group, "error", err)
		}
		delete(b.scaleUps, group)
	}
}

// noteFailures backs a group off for the machines that newly failed while it is being scaled up.
func (b *books) noteFailures(now time.Time) {
	current := map[string]bool{}
	for _, group := range b.groups {
		_, scaling := b.scaleUps[group.id]
		scaling = scaling && b.upcoming(group.id) > 0
		news := map[failure]int{}
		for _, i := range b.instances[group.id] {
			if !failed(i) {
				continue
			}
			current[i.id] = true
			if !b.failedBefore[i.id] {
				news[failure{class: i.failure.class, code: i.failure.code}]++
			}
		}
		for kind, count := range news {
			b.log.Warn("machines failed", "group", group.id, "count", count, "class", kind.class, "code", kind.code)
			if scaling {
				b.registerScaleUp(group.id, -count, 0, now)
				b.registerFailure(group.id, kind, now)
			}
		}
	}
	b.failedBefore = current
}

// failed tells a machine that could not be made.
func failed(i instance) bool {
	return i.failure != nil && i.state == externalgrpc.InstanceStatus_instanceCreating
}

// noteWrongSizes remembers since when the nodes of a group differ from its target.
func (b *books) noteWrongSizes(now time.Time) {
	current := map[string]wrongSize{}
	for _, group := range b.groups {
		r := b.readiness[group.id]
		if r == nil {
			continue
		}
		target, registered := b.targets[group.id], len(r.registered)
		pending := len(r.unregistered) + len(r.longUnregistered)
		if registered <= target && registered >= target-pending {
			continue
		}
		wrong := wrongSize{current: registered, target: target, since: now}
		if before, found := b.wrongSizes[group.id]; found && before.current == registered && before.target == target {
			wrong.since = before.since
		}
		current[group.id] = wrong
	}
	b.wrongSizes = current
}

// clusterHealthy is false when so many nodes are unready that nothing should be done.
func (b *books) clusterHealthy() bool {
	return !b.limits.exceeded(len(b.all.unready), len(b.all.registered))
}

// unfit says why a group is not to be scaled up now, or "".
func (b *books) unfit(group string, now time.Time) string {
	if entry, found := b.backoffs.active(group, now); found {
		return fmt.Sprintf("in backoff until %s after %s", entry.until.UTC().Format(time.RFC3339), entry.failure.code)
	}
	if b.templates[group] == nil {
		return "has no template"
	}
	target, r := b.targets[group], b.readiness[group]
	least := target - b.scaleUps[group].increase
	if r == nil {
		if target == 0 || least == 0 {
			return ""
		}
		return fmt.Sprintf("unhealthy: target size %d and no machine", target)
	}
	missing := least - len(r.longUnregistered) - len(r.ready)
	if b.limits.exceeded(missing, len(r.ready)+len(r.unready)+len(r.notStarted)) {
		return fmt.Sprintf("unhealthy: %d of %d nodes are missing", missing, target)
	}
	return ""
}

// isReady tells a node that pods can run on.
func isReady(node *corev1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady {
			return false
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// beingDeleted tells a node that is about to go, whoever decided so.
func beingDeleted(node *corev1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == v1alpha1.TaintToBeDeleted {
			return true
		}
	}
	return false
}

// unregisteredNode is how a machine without a node is named to the provider: both name and provider ID
// are the ID of the machine.
func unregisteredNode(id string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: id, Annotations: map[string]string{"k8s.io/cluster-autoscaler/fake-node-reason": "unregistered"}},
		Spec:       corev1.NodeSpec{ProviderID: id},
	}
}

// failedNode is how a failed machine is named to the provider.
func failedNode(id string) *corev1.Node {
	node := unregisteredNode(id)
	node.Annotations["k8s.io/cluster-autoscaler/fake-node-reason"] = "create-error"
	return node
}

// isMirrorOrDaemon tells a pod that belongs to its node.
func isMirrorOrDaemon(pod *corev1.Pod) bool {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return true
	}
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet" && strings.HasPrefix(owner.APIVersion, "apps/")
}

package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// caller makes the calls of Cluster Autoscaler. Its errors say which call they are of.
type caller struct {
	conn     grpc.ClientConnInterface
	client   externalgrpc.CloudProviderClient
	group    string
	second   string
	patience time.Duration
}

// groups are the groups that cases change.
func (c *caller) groups() []string {
	if c.second == "" {
		return []string{c.group}
	}
	return []string{c.group, c.second}
}

// orders is the group whose machines run as late as possible.
func (c *caller) orders() string {
	groups := c.groups()
	return groups[len(groups)-1]
}

func (c *caller) refresh(ctx context.Context) error {
	if _, err := c.client.Refresh(ctx, &externalgrpc.RefreshRequest{}); err != nil {
		return fmt.Errorf("call Refresh: %w", err)
	}
	return nil
}

// bounds is a group as NodeGroups lists it.
func (c *caller) bounds(ctx context.Context, group string) (*externalgrpc.NodeGroup, error) {
	answer, err := c.client.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
	if err != nil {
		return nil, fmt.Errorf("NodeGroups: %w", err)
	}
	for _, g := range answer.GetNodeGroups() {
		if g.GetId() == group {
			return g, nil
		}
	}
	return nil, fmt.Errorf("NodeGroups does not list %s", group)
}

// groupOf is the group that NodeGroupForNode names, nil where the answer has none at all.
func (c *caller) groupOf(ctx context.Context, node *externalgrpc.ExternalGrpcNode) (*externalgrpc.NodeGroup, error) {
	answer, err := c.client.NodeGroupForNode(ctx, &externalgrpc.NodeGroupForNodeRequest{Node: node})
	if err != nil {
		return nil, fmt.Errorf("NodeGroupForNode of providerID %q: %w", node.GetProviderID(), err)
	}
	return answer.GetNodeGroup(), nil
}

func (c *caller) target(ctx context.Context, group string) (int32, error) {
	answer, err := c.client.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: group})
	if err != nil {
		return 0, fmt.Errorf("NodeGroupTargetSize of %s: %w", group, err)
	}
	return answer.GetTargetSize(), nil
}

func (c *caller) increase(ctx context.Context, group string, delta int32) error {
	if _, err := c.client.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: group, Delta: delta}); err != nil {
		return fmt.Errorf("NodeGroupIncreaseSize of %s by %d: %w", group, delta, err)
	}
	return nil
}

func (c *caller) decrease(ctx context.Context, group string, delta int32) error {
	if _, err := c.client.NodeGroupDecreaseTargetSize(
		ctx, &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: group, Delta: delta},
	); err != nil {
		return fmt.Errorf("NodeGroupDecreaseTargetSize of %s by %d: %w", group, delta, err)
	}
	return nil
}

func (c *caller) delete(ctx context.Context, group string, nodes ...*externalgrpc.ExternalGrpcNode) error {
	if _, err := c.client.NodeGroupDeleteNodes(ctx, &externalgrpc.NodeGroupDeleteNodesRequest{Id: group, Nodes: nodes}); err != nil {
		var ids []string
		for _, n := range nodes {
			ids = append(ids, n.GetProviderID())
		}
		return fmt.Errorf("NodeGroupDeleteNodes of %s from %s: %w", strings.Join(ids, ", "), group, err)
	}
	return nil
}

// unregistered is how Cluster Autoscaler names a machine that has no node: the provider id is all it knows.
func unregistered(id string) *externalgrpc.ExternalGrpcNode {
	return &externalgrpc.ExternalGrpcNode{ProviderID: id, Name: id}
}

func unregisteredAll(ids []string) []*externalgrpc.ExternalGrpcNode {
	var nodes []*externalgrpc.ExternalGrpcNode
	for _, id := range ids {
		nodes = append(nodes, unregistered(id))
	}
	return nodes
}

// registered is how Cluster Autoscaler names a machine that has a node: with its labels, those of the template.
func (c *caller) registered(ctx context.Context, group, id string) (*externalgrpc.ExternalGrpcNode, error) {
	node := unregistered(id)
	template, err := c.template(ctx, group)
	if template != nil {
		node.Labels, node.Annotations = template.Labels, template.Annotations
	}
	return node, err
}

// template is the node of TemplateNodeInfo, nil where that is not implemented.
func (c *caller) template(ctx context.Context, group string) (*corev1.Node, error) {
	answer, err := c.client.NodeGroupTemplateNodeInfo(ctx, &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: group})
	if status.Code(err) == codes.Unimplemented {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("NodeGroupTemplateNodeInfo of %s: %w", group, err)
	}
	node := &corev1.Node{}
	if err := node.Unmarshal(answer.GetNodeBytes()); err != nil {
		return nil, fmt.Errorf("NodeGroupTemplateNodeInfo of %s: nodeBytes is not a v1.Node: %w", group, err)
	}
	return node, nil
}

// listing is what Nodes says of a group, in three parts.
type listing struct {
	creating, running, deleting []string
}

// alive are the machines that are not on their way out.
func (l *listing) alive() []string { return slices.Concat(l.creating, l.running) }

func (l *listing) String() string {
	return fmt.Sprintf("creating %v, running %v, deleting %v", l.creating, l.running, l.deleting)
}

func (c *caller) list(ctx context.Context, group string) (*listing, error) {
	answer, err := c.client.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: group})
	if err != nil {
		return nil, fmt.Errorf("NodeGroupNodes of %s: %w", group, err)
	}
	l := &listing{}
	for _, i := range answer.GetInstances() {
		switch state := i.GetStatus().GetInstanceState(); state {
		case externalgrpc.InstanceStatus_instanceCreating:
			l.creating = append(l.creating, i.GetId())
		case externalgrpc.InstanceStatus_instanceRunning:
			l.running = append(l.running, i.GetId())
		case externalgrpc.InstanceStatus_instanceDeleting:
			l.deleting = append(l.deleting, i.GetId())
		default:
			return nil, fmt.Errorf("NodeGroupNodes of %s lists %s in state %s", group, i.GetId(), state)
		}
	}
	return l, nil
}

// has checks that a group has that target size, and as many machines.
func (c *caller) has(ctx context.Context, group string, want int32) error {
	size, err := c.target(ctx, group)
	if err != nil {
		return err
	}
	if size != want {
		return fmt.Errorf("the target size of %s is %d and not %d", group, size, want)
	}
	l, err := c.list(ctx, group)
	if err != nil {
		return err
	}
	if len(l.alive()) != int(want) {
		return fmt.Errorf("the target size of %s is %d and NodeGroupNodes lists %s", group, want, l)
	}
	return nil
}

// refused checks that a call which ended with err was refused with one of the codes, and that the groups have
// the sizes that they had before.
func (c *caller) refused(ctx context.Context, what string, err error, sizes map[string]int32, allowed ...codes.Code) error {
	if err := hasCode(what, err, allowed...); err != nil {
		return err
	}
	for group, size := range sizes {
		if err := c.has(ctx, group, size); err != nil {
			return fmt.Errorf("%s was refused and yet changed something: %w", what, err)
		}
	}
	return nil
}

func hasCode(what string, err error, allowed ...codes.Code) error {
	if code := status.Code(err); !slices.Contains(allowed, code) {
		return fmt.Errorf("%s ended with %s (%w), and not with one of %v", what, code, orGranted(err), allowed)
	}
	return nil
}

// silent reports whether a call ended without an answer of the server itself.
func silent(err error) bool {
	return slices.Contains([]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Canceled}, status.Code(err))
}

// errGranted stands for the error that there is not.
var errGranted = errors.New("it was granted")

func orGranted(err error) error {
	if err == nil {
		return errGranted
	}
	return err
}

// runs grows a group that has no machines, and returns their ids when they all run.
func (c *caller) runs(ctx context.Context, group string, machines int32) (ids []string, err error) {
	if err := c.increase(ctx, group, machines); err != nil {
		return nil, err
	}
	err = c.until(ctx, fmt.Sprintf("%d machines of %s run", machines, group), func(ctx context.Context) (string, error) {
		l, err := c.list(ctx, group)
		if err != nil {
			return "", err
		}
		if ids = l.running; len(ids) != int(machines) || len(l.creating) > 0 {
			return l.String(), nil
		}
		return "", nil
	})
	return ids, err
}

// knownMachine is a machine of a group, whether it runs or not, of which NodeGroupForNode has heard.
func (c *caller) knownMachine(ctx context.Context, group string) (id string, err error) {
	err = c.until(ctx, "NodeGroupForNode knows a machine of "+group, func(ctx context.Context) (string, error) {
		l, err := c.list(ctx, group)
		if err != nil {
			return "", err
		}
		for _, id = range l.alive() {
			if of, err := c.groupOf(ctx, unregistered(id)); err != nil || of.GetId() == group {
				return "", err
			}
		}
		return "it knows none of " + l.String(), nil
	})
	return id, err
}

// knows reports whether an id is that of a machine of a group which lives: it is listed, or it is a former id of one that is listed
// by another one now, and NodeGroupForNode still has its group.
func (c *caller) knows(ctx context.Context, group string, l *listing, id string) (bool, error) {
	if slices.Contains(l.alive(), id) {
		return true, nil
	}
	if id == "" {
		return false, nil
	}
	of, err := c.groupOf(ctx, unregistered(id))
	return of.GetId() == group, err
}

// gone waits until machines are listed no more.
func (c *caller) gone(ctx context.Context, group string, ids []string) error {
	return c.until(ctx, fmt.Sprintf("%v is listed no more", ids), func(ctx context.Context) (string, error) {
		l, err := c.list(ctx, group)
		if err != nil || !slices.ContainsFunc(slices.Concat(l.alive(), l.deleting), func(id string) bool { return slices.Contains(ids, id) }) {
			return "", err
		}
		return l.String(), nil
	})
}

// empty brings a group to no machines. It asks for no more than it has to: that DecreaseTargetSize clamps, and that
// DeleteNodes takes machines which never registered, are rules with cases of their own.
func (c *caller) empty(ctx context.Context, group string) error {
	return c.until(ctx, group+" has no machines any more", func(ctx context.Context) (string, error) {
		// A machine may come or go meanwhile, so an error is no reason to give up yet.
		if left := c.shrink(ctx, group); left != nil {
			return left.Error(), ctx.Err()
		}
		return "", nil
	})
}

// shrink asks for what brings a group to no machines. Its error says why there are some still.
func (c *caller) shrink(ctx context.Context, group string) error {
	size, err := c.target(ctx, group)
	if err != nil {
		return err
	}
	l, err := c.list(ctx, group)
	if err != nil {
		return err
	}
	if size == 0 && len(l.alive()) == 0 {
		return nil
	}
	if orders := size - int32(len(l.running)); orders > 0 {
		err = c.decrease(ctx, group, -orders)
	}
	if len(l.running) > 0 {
		err = errors.Join(err, c.delete(ctx, group, unregisteredAll(l.running)...))
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("the target size is %d, %s", size, l)
}

// until polls until nothing is missing. Its error says what was waited for and what was missing last.
func (c *caller) until(ctx context.Context, what string, missing func(context.Context) (string, error)) error {
	last := ""
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, c.patience, true, func(ctx context.Context) (done bool, err error) {
		if said, err := missing(ctx); err != nil || said == "" {
			return true, err
		} else if ctx.Err() == nil {
			// What is said after the time is over is only that it is over.
			last = said
		}
		return false, nil
	})
	switch {
	case err != nil && last != "":
		return fmt.Errorf("waited until %s: %w: %s", what, err, last)
	case err != nil:
		return fmt.Errorf("waited until %s: %w", what, err)
	}
	return nil
}

package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// story is the life of one pool, during which its provider is killed once and another one takes over.
type story struct {
	t    *testing.T
	name string
	p    *provider
	// killed is set when the first provider was killed.
	killed bool

	// member holds nodes, other is one that is nobody's.
	member *v1alpha1.EnsembleMember
	held   []string
	other  string
}

// poll is how often a story looks whether it may go on.
const poll = 100 * time.Millisecond

// TestKillAtEveryWrite lets a pool grow by its floor and by an IncreaseSize, lose a node to DeleteNodes and two orders
// to DecreaseTargetSize, release a node and be deleted; and kills the provider before each of its writes in turn.
// Another one takes over, and the story always comes to the same end.
func TestKillAtEveryWrite(t *testing.T) {
	t.Parallel()
	record(t, cluster.Client, "kill-")
	// tellers is how many stories are told side by side, few and many how many writes one takes.
	const tellers, few, many = 8, 40, 160
	var next atomic.Int64
	var survived atomic.Bool
	var telling sync.WaitGroup
	for range tellers {
		telling.Go(func() {
			for !survived.Load() && !t.Failed() {
				most := next.Add(1) - 1
				t.Run(fmt.Sprintf("before_write_%d", most+1), func(t *testing.T) {
					s := &story{t: t, name: fmt.Sprintf("kill-%d", most)}
					s.tell(most)
					if !s.killed {
						survived.Store(true)
					}
				})
			}
		})
	}
	telling.Wait()
	switch told := next.Load(); {
	case t.Failed():
	case told < few || told > many:
		t.Errorf("the provider was killed before each of about %d writes; a story takes %d to %d", told, few, many)
	default:
		t.Logf("the provider was killed before each of about %d writes", told)
	}
}

// until waits until nothing is missing, and starts another provider when the first is killed.
func (s *story) until(missing func(context.Context) (string, error)) {
	s.t.Helper()
	inprocess.UntilWithin(s.t, inprocess.Patience, poll, func(ctx context.Context) (string, error) {
		s.alive()
		return missing(ctx)
	})
}

func (s *story) alive() {
	s.t.Helper()
	if s.p.Killed() {
		s.p.Stop()
		s.p, s.killed = start(s.t, s.name, settings{}), true
	}
}

// ask makes a call as Cluster Autoscaler. What a provider answers that is killed meanwhile nobody hears, and a call that
// took too long on a busy machine is made again; any other error is one.
func (s *story) ask(what string, call func() error) (answered bool) {
	s.t.Helper()
	err := call()
	if s.p.Killed() || status.Code(err) == codes.DeadlineExceeded {
		return false
	}
	if err != nil {
		s.t.Errorf("%s: %v", what, err)
	}
	return err == nil
}

// resize asks for a target as Cluster Autoscaler does: it looks at the one there is and asks for the difference. What
// was answered is true for the next call.
func (s *story) resize(target int32) {
	s.t.Helper()
	s.until(func(ctx context.Context) (string, error) {
		for range 2 {
			current, err := s.p.target(ctx, s.name)
			switch {
			case err != nil:
				return fmt.Sprintf("TargetSize: %v", err), nil
			case current == target:
				return "", nil
			}
			delta := target - current
			if !s.ask("resize", func() error {
				if delta > 0 {
					return s.p.increase(ctx, s.name, delta)
				}
				return s.p.decrease(ctx, s.name, delta)
			}) {
				return "the provider was killed", nil
			}
			if again, err := s.p.target(ctx, s.name); err != nil || again != target {
				s.t.Errorf("after the reply the target is %d (%v), not %d", again, err, target)
			}
		}
		return "the target was changed and is not so", nil
	})
}

// hasNodes waits until the pool has so many Ready nodes, while Cluster Autoscaler asks for the groups in each loop.
func (s *story) hasNodes(nodes int) (seen *sight) {
	s.t.Helper()
	s.until(func(ctx context.Context) (string, error) {
		if _, err := s.p.server.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{}); err != nil {
			return "", err
		}
		var err error
		if seen, err = look(ctx, cluster.Client, s.name); err != nil {
			return "", err
		}
		return seen.lacksNodes(nodes), nil
	})
	return seen
}

// minSize waits until Cluster Autoscaler is told a minimum size.
func (s *story) minSize(want int32) {
	s.t.Helper()
	s.until(func(ctx context.Context) (string, error) {
		groups, err := s.p.server.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
		if err != nil {
			return "", err
		}
		for _, group := range groups.GetNodeGroups() {
			if group.GetMinSize() == want {
				return "", nil
			}
		}
		return fmt.Sprintf("the groups are %v, without a minSize of %d", groups.GetNodeGroups(), want), nil
	})
}

// chapter is a part of a story that ends in a state which the next one begins with.
type chapter func(*story)

// tell tells a story up to the end of the chapter after the one in which the provider was killed: by then the pool is
// what it is without a kill, and so goes on like that.
func (s *story) tell(most int64) {
	s.t.Helper()
	newPool(s.t, nodePool(s.name))
	s.member = newMember(s.t, s.name, "member")
	s.p = start(s.t, s.name, settings{dies: true, kill: most})
	defer func() { s.p.Stop() }()
	ending := false
	for _, tell := range []chapter{(*story).growByFloor, (*story).addAndDelete, (*story).orderAndCancel, (*story).release, (*story).end} {
		tell(s)
		if ending {
			return
		}
		ending = s.killed
	}
}

// growByFloor: a member reserves two nodes, the floor rises, and Cluster Autoscaler follows it.
func (s *story) growByFloor() {
	s.t.Helper()
	reserve(s.t, s.member, 2)
	s.minSize(2)
	s.resize(2)
	s.held = s.hasNodes(2).ready
	reserve(s.t, s.member, 2, s.held...)
}

// addAndDelete: Cluster Autoscaler adds two nodes for others, and removes one of them, which it asks for twice.
func (s *story) addAndDelete() {
	s.t.Helper()
	s.resize(4)
	others := slices.DeleteFunc(s.hasNodes(4).ready, func(node string) bool { return slices.Contains(s.held, node) })
	s.until(func(ctx context.Context) (string, error) {
		for range 2 {
			if !s.ask("DeleteNodes", func() error { return s.p.deleteNodes(ctx, s.name, others[1]) }) {
				return "the provider was killed", nil
			}
		}
		return "", nil
	})
	s.other = others[0]
	s.left(append(slices.Clone(s.held), s.other)...)
}

// orderAndCancel: Cluster Autoscaler orders two machines and cancels them again.
func (s *story) orderAndCancel() {
	s.t.Helper()
	if err := edit(s.t.Context(), cluster.Client, s.name, func(p *v1alpha1.NodePool) {
		p.Spec.Machines.Kwok.BootDelay = metav1.Duration{Duration: time.Hour}
	}); err != nil {
		s.t.Fatal(err)
	}
	s.resize(5)
	s.until(func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, s.name)
		if err != nil || len(seen.machines) == 5 {
			return "", err
		}
		return fmt.Sprintf("there are %d machines, not 5", len(seen.machines)), nil
	})
	s.resize(3)
	s.left(append(slices.Clone(s.held), s.other)...)
}

// release: the member gives one node back.
func (s *story) release() {
	s.t.Helper()
	reserve(s.t, s.member, 1, s.held[0])
	s.left(s.held[0], s.other)
}

// end: the pool is deleted, and stays for as long as the member holds a node.
func (s *story) end() {
	t := s.t
	t.Helper()
	if err := cluster.Client.Delete(t.Context(), nodePool(s.name)); err != nil {
		t.Fatal(err)
	}
	s.left(s.held[0], s.other)
	reserve(t, s.member, 0)
	s.until(func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, s.name)
		switch {
		case apierrors.IsNotFound(err):
			return "", nil
		case err != nil:
			return "", err
		}
		return fmt.Sprintf("the NodePool is still there, with %d machines", len(seen.machines)), nil
	})
	var nodes corev1.NodeList
	var machines v1alpha1.PoolMachineList
	ofPool := client.MatchingLabels{v1alpha1.LabelNodePool: s.name}
	if err := errors.Join(cluster.Client.List(t.Context(), &nodes, ofPool), cluster.Client.List(t.Context(), &machines, ofPool)); err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items)+len(machines.Items) > 0 {
		t.Errorf("the NodePool is gone, and %d nodes and %d machines are not", len(nodes.Items), len(machines.Items))
	}
}

// left waits until the pool has these nodes and nothing on its way, and checks which ones they are.
func (s *story) left(names ...string) {
	s.t.Helper()
	slices.Sort(names)
	if ready := s.hasNodes(len(names)).ready; !slices.Equal(ready, names) {
		s.t.Errorf("Ready are %v, not %v", ready, names)
	}
}

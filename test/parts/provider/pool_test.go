package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

func resources(cpu, memory, pods string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		corev1.ResourcePods: resource.MustParse(pods),
	}
}

// TestKillsBetweenWrites lets a pool without an autoscaler provide two nodes for a member, take one of them back and
// be deleted, and kills the provider before each of its writes in turn. A second provider goes on from there and
// always comes to the same end.
// It is not parallel: two providers would do each other's work.
func TestKillsBetweenWrites(t *testing.T) {
	inprocess.EachKill(t, func(most int64) bool { return killed(t, most) })
}

// killed reports whether the provider came to the end before it was killed.
func killed(t *testing.T, most int64) (survived bool) {
	t.Helper()
	name := fmt.Sprintf("kill-%d", most)
	newPool(t, name, v1alpha1.AutoscalerNone)
	member := newMember(t, name)
	p := start(t, most)
	defer func() { p.Stop() }()
	survived = true
	peak := 0
	hasNodes := func(nodes int) *state {
		t.Helper()
		var s *state
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			if p.Killed() {
				p.Stop()
				p, survived = start(t, -1), false
			}
			var err error
			if s, err = look(ctx, name); err != nil {
				return "", err
			}
			peak = max(peak, len(s.machines))
			return s.lacksNodes(nodes), nil
		})
		return s
	}

	reserve(t, member, name, 2)
	nodes := slices.Sorted(slices.Values(hasNodes(2).ready))
	reserve(t, member, name, 2, nodes...)
	reserve(t, member, name, 1, nodes[0])
	s := hasNodes(1)
	if s.ready[0] != nodes[0] {
		t.Errorf("killed before write %d: %s is left, and the member holds %s", most+1, s.ready[0], nodes[0])
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil {
			return "", err
		}
		node := s.nodes[nodes[0]]
		if by := node.Annotations[v1alpha1.AnnotationHeldBy]; by != "default/"+name ||
			node.Annotations[v1alpha1.AnnotationScaleDownDisabled] != "true" {
			return fmt.Sprintf("%s says that %q holds it: %v", node.Name, by, node.Annotations), nil
		}
		return "", nil
	})
	if peak > 2 {
		t.Errorf("killed before write %d: %d machines at a time, for a member that wanted 2", most+1, peak)
	}
	// A pool that is deleted while a member holds a node stays until it does not.
	doomed := &v1alpha1.NodePool{}
	doomed.Name = name
	if err := cluster.Client.Delete(t.Context(), doomed); err != nil {
		t.Fatal(err)
	}
	hasNodes(1)
	reserve(t, member, name, 0)
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if p.Killed() {
			p.Stop()
			p, survived = start(t, -1), false
		}
		s, err := look(ctx, name)
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("the NodePool is still there, with %v", s.machines), nil
	})
	var left corev1.NodeList
	var machines v1alpha1.PoolMachineList
	labels := client.MatchingLabels{v1alpha1.LabelNodePool: name}
	if err := errors.Join(cluster.Client.List(t.Context(), &left, labels), cluster.Client.List(t.Context(), &machines, labels)); err != nil {
		t.Fatal(err)
	}
	if len(left.Items)+len(machines.Items) > 0 {
		t.Errorf(
			"killed before write %d: the NodePool is gone, and %d nodes and %d machines are not", most+1, len(left.Items), len(machines.Items),
		)
	}
	return survived
}

// TestReleaseIsExact: of all empty nodes only the one goes that a member has given up.
// It is not parallel: two providers would do each other's work.
func TestReleaseIsExact(t *testing.T) {
	name := "exact"
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) { p.Spec.Replicas = 3 })
	p := start(t, -1)
	defer p.Stop()
	hasNodes := func(nodes int) *state {
		t.Helper()
		var s *state
		inprocess.Until(t, func(ctx context.Context) (missing string, err error) {
			if s, err = look(ctx, name); err != nil {
				return "", err
			}
			return s.lacksNodes(nodes), nil
		})
		return s
	}
	nodes := slices.Sorted(slices.Values(hasNodes(3).ready))
	member := newMember(t, name)
	// The member holds two; one of them has a pod that stays.
	reserve(t, member, name, 2, nodes[0], nodes[1])
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil {
			return "", err
		}
		if s.nodes[nodes[1]].Annotations[v1alpha1.AnnotationHeldBy] == "" {
			return "the nodes are not held yet", nil
		}
		return "", nil
	})
	pod := settle(t, name, nodes[0])
	reserve(t, member, name, 0)
	s := hasNodes(2)
	if left := slices.Sorted(slices.Values(s.ready)); !slices.Equal(left, []string{nodes[0], nodes[2]}) {
		t.Errorf("of %v, of which the first has a pod and the third was nobody's, %v are left", nodes, left)
	}
	if err := cluster.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	s = hasNodes(1)
	if s.ready[0] != nodes[2] {
		t.Errorf("%s is left, not %s, which was nobody's", s.ready[0], nodes[2])
	}
}

// TestDeletedAboveTarget: a pool that is deleted while more machines exist than its target counts takes all of them with it.
// It is not parallel: two providers would do each other's work.
func TestDeletedAboveTarget(t *testing.T) {
	const name = "above"
	doomed := newPool(t, name, v1alpha1.AutoscalerNone, func(p *v1alpha1.NodePool) { p.Spec.Replicas = 3 })
	p := start(t, -1)
	defer p.Stop()
	// A pod on each keeps them, whatever the target.
	var pods []*corev1.Pod
	for _, node := range hasNodes(t, name, 3).ready {
		pods = append(pods, settle(t, "on-"+node, node))
	}
	edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.Replicas = 1 })
	says(t, name, v1alpha1.ConditionMachinesReady, metav1.ConditionFalse, "there are 3 machines and the target is 1")
	if err := cluster.Client.Delete(t.Context(), doomed); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		if err := cluster.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("the NodePool is still there, with the target %d and %v", s.pool.Spec.Replicas, s.machines), nil
	})
}

// TestWarmNodeInUse: Cluster Autoscaler is kept from a node that stays for the next growth, until a pod of somebody else comes.
// It is not parallel: two providers would do each other's work.
func TestWarmNodeInUse(t *testing.T) {
	const name = "warm"
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) {
		p.Spec.Replicas, p.Spec.ScaleDown.Delay = 1, metav1.Duration{Duration: time.Hour}
	})
	p := start(t, -1)
	defer p.Stop()
	node := hasNodes(t, name, 1).ready[0]
	annotated := func(keys ...string) {
		t.Helper()
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			s, err := look(ctx, name)
			if err != nil {
				return "", err
			}
			var has []string
			for _, key := range []string{v1alpha1.AnnotationHeldBy, v1alpha1.AnnotationGivenUp, v1alpha1.AnnotationScaleDownDisabled} {
				if s.nodes[node].Annotations[key] != "" {
					has = append(has, key)
				}
			}
			if !slices.Equal(has, keys) {
				return fmt.Sprintf("%s bears %v, want %v", node, has, keys), nil
			}
			return "", nil
		})
	}
	member := newMember(t, name)
	reserve(t, member, name, 1, node)
	annotated(v1alpha1.AnnotationHeldBy, v1alpha1.AnnotationScaleDownDisabled)
	reserve(t, member, name, 0)
	annotated(v1alpha1.AnnotationGivenUp, v1alpha1.AnnotationScaleDownDisabled)
	settle(t, name, node)
	annotated()
}

// TestForeignNodeOfThatName: a Node that has a machine's name and is not its own is never touched.
// It is not parallel: two providers would do each other's work.
func TestForeignNodeOfThatName(t *testing.T) {
	name := "foreign"
	foreign := &corev1.Node{}
	foreign.Name = name + "-0"
	if err := cluster.Client.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) { p.Spec.Replicas = 2 })
	p := start(t, -1)
	defer p.Stop()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil {
			return "", err
		}
		if len(s.ready) != 1 {
			return fmt.Sprintf("Ready are %v", s.ready), nil
		}
		return "", nil
	})
	var after corev1.Node
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(foreign), &after); err != nil {
		t.Fatal(err)
	}
	for key := range after.Annotations {
		if strings.HasPrefix(key, v1alpha1.Group) {
			t.Errorf("the foreign node has got the annotation %s", key)
		}
	}
	if after.UID != foreign.UID || after.Spec.ProviderID != "" {
		t.Errorf("the foreign node was changed: %v", after.Spec)
	}
	// It is nobody's when the pool gives its machine up either.
	var fresh v1alpha1.NodePool
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: name}, &fresh); err != nil {
		t.Fatal(err)
	}
	before := fresh.DeepCopy()
	fresh.Spec.Replicas, fresh.Spec.MachinesToDelete = 1, []string{name + "-0"}
	if err := cluster.Client.Patch(t.Context(), &fresh, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil {
			return "", err
		}
		return s.lacksNodes(1), nil
	})
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(foreign), &after); err != nil {
		t.Errorf("the foreign node: %v", err)
	}
}

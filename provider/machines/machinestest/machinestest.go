// Package machinestest has the tests that every backend of machines passes.
package machinestest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// Subject is what is tested.
type Subject struct {
	Backend machines.Backend
	// Nodes reads the nodes of the cluster.
	Nodes client.Reader
	// Fast is a pool whose machines register as fast as they can, Slow one whose machines do not register
	// while the tests run. Both are empty.
	Fast, Slow *v1alpha1.NodePool
	// Patience is how long a machine of Fast may take to register, and any machine to go.
	Patience time.Duration
}

// Run runs all tests.
func Run(t *testing.T, s Subject) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"a machine is ordered once, however often that is asked for", ordered},
		{"a machine registers the node that the template describes", registers},
		{"a machine that has not registered can be cancelled", cancelled},
		{"a machine that has registered cannot be cancelled", notCancelled},
		{"a deleted machine goes with its node", deleted},
		{"what is not there is deleted and cancelled without an error", absent},
		{"what is not of this backend is not found", notFound},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

// until waits until nothing is missing.
func (s *Subject) until(t *testing.T, missing func(context.Context) (string, error)) {
	t.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, s.Patience, true, func(ctx context.Context) (done bool, err error) {
		last, err = missing(ctx)
		return last == "", err
	})
	if err != nil {
		t.Fatalf("%v: %s", err, last)
	}
}

func (s *Subject) order(t *testing.T, pool *v1alpha1.NodePool, name string, purpose v1alpha1.MachinePurpose) {
	t.Helper()
	if err := s.Backend.Order(t.Context(), pool, name, purpose); err != nil {
		t.Fatalf("order %s: %v", name, err)
	}
}

// find looks a machine up where the truth is.
func (s *Subject) find(ctx context.Context, pool *v1alpha1.NodePool, name string) (*nodegroup.Machine, error) {
	all, err := s.Backend.List(ctx, pool.Name, machines.Live)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
	}
	return nil, nil
}

func (s *Subject) mustFind(t *testing.T, pool *v1alpha1.NodePool, name string) *nodegroup.Machine {
	t.Helper()
	m, err := s.find(t.Context(), pool, name)
	if err != nil || m == nil {
		t.Fatalf("machine %s of %s: %v, %v", name, pool.Name, m, err)
	}
	return m
}

func (s *Subject) registered(t *testing.T, pool *v1alpha1.NodePool, name string) *corev1.Node {
	t.Helper()
	node := &corev1.Node{}
	s.until(t, func(ctx context.Context) (string, error) {
		m, err := s.find(ctx, pool, name)
		switch {
		case err != nil:
			return "", err
		case m == nil:
			return name + " is not there", nil
		case !m.Registered:
			return name + " has not registered", nil
		}
		var nodes corev1.NodeList
		if err := s.Nodes.List(ctx, &nodes, client.MatchingLabels{v1alpha1.LabelNodePool: pool.Name}); err != nil {
			return "", err
		}
		for i := range nodes.Items {
			if nodes.Items[i].Spec.ProviderID == m.ProviderID {
				*node = nodes.Items[i]
				return "", nil
			}
		}
		return "no node has the provider id " + m.ProviderID, nil
	})
	return node
}

func (s *Subject) gone(t *testing.T, pool *v1alpha1.NodePool, name string) {
	t.Helper()
	s.until(t, func(ctx context.Context) (string, error) {
		for _, freshness := range []machines.Freshness{machines.Live, machines.Cached} {
			all, err := s.Backend.List(ctx, pool.Name, freshness)
			if err != nil {
				return "", err
			}
			if slices.ContainsFunc(all, func(m nodegroup.Machine) bool { return m.Name == name }) {
				return fmt.Sprintf("%s is still listed", name), nil
			}
		}
		return "", nil
	})
}

func ordered(t *testing.T, s Subject) {
	t.Helper()
	name := s.Slow.Name + "-0"
	before := time.Now()
	s.order(t, s.Slow, name, v1alpha1.PurposeReservation)
	first := s.mustFind(t, s.Slow, name)
	s.order(t, s.Slow, name, v1alpha1.PurposeReservation)
	again := s.mustFind(t, s.Slow, name)
	if *first != *again {
		t.Errorf("the second order has changed the machine from %+v to %+v", *first, *again)
	}
	if first.ProviderID != s.Backend.ProviderID(s.Slow.Name, name) || first.Purpose != v1alpha1.PurposeReservation || first.Registered || first.Failure != nil {
		t.Errorf("the machine is %+v", *first)
	}
	if early, late := before.Add(-time.Second), time.Now().Add(time.Second); first.OrderedAt.Before(early) || first.OrderedAt.After(late) {
		t.Errorf("the machine was ordered at %s, not between %s and %s", first.OrderedAt, early, late)
	}
	if pool, parsed, ok := s.Backend.Parse(first.ProviderID); !ok || pool != s.Slow.Name || parsed != name {
		t.Errorf("the provider id %s is that of machine %q of %q, %t", first.ProviderID, parsed, pool, ok)
	}
	others, err := s.Backend.List(t.Context(), s.Fast.Name, machines.Live)
	if err != nil || len(others) != 0 {
		t.Errorf("the other pool has the machines %v, %v", others, err)
	}
	s.until(t, func(ctx context.Context) (string, error) {
		m, pool, err := s.Backend.Find(ctx, first.ProviderID)
		if err != nil {
			return "", err
		}
		if m == nil || m.Name != name || pool != s.Slow.Name {
			return fmt.Sprintf("provider id %s finds %v of %q", first.ProviderID, m, pool), nil
		}
		return "", nil
	})
	if err := s.Backend.Delete(t.Context(), name); err != nil {
		t.Errorf("delete %s: %v", name, err)
	}
	s.gone(t, s.Slow, name)
}

func registers(t *testing.T, s Subject) {
	t.Helper()
	for purpose, mark := range map[v1alpha1.MachinePurpose]string{v1alpha1.PurposeReservation: "true", v1alpha1.PurposeAutoscaler: ""} {
		name := fmt.Sprintf("%s-1%d", s.Fast.Name, len(mark))
		s.order(t, s.Fast, name, purpose)
		node := s.registered(t, s.Fast, name)
		if got := node.Annotations[v1alpha1.AnnotationReserved]; got != mark {
			t.Errorf("a node ordered for %s has the mark %q, not %q", purpose, got, mark)
		}
		for key, value := range s.Fast.Spec.Template.Labels {
			if node.Labels[key] != value {
				t.Errorf("the node has the label %s=%q, not %q", key, node.Labels[key], value)
			}
		}
		for key, value := range s.Fast.Spec.Template.AllocatableOrCapacity() {
			if got := node.Status.Allocatable[key]; got.Cmp(value) != 0 {
				t.Errorf("the node offers %s of %s, not %s", got.String(), key, value.String())
			}
		}
		for _, taint := range s.Fast.Spec.Template.Taints {
			if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) && t.Value == taint.Value }) {
				t.Errorf("the node lacks the taint %s", taint.ToString())
			}
		}
		if err := s.Backend.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
		s.gone(t, s.Fast, name)
	}
}

func cancelled(t *testing.T, s Subject) {
	t.Helper()
	name := s.Slow.Name + "-2"
	s.order(t, s.Slow, name, v1alpha1.PurposeAutoscaler)
	if err := s.Backend.Cancel(t.Context(), name); err != nil {
		t.Errorf("cancel %s: %v", name, err)
	}
	s.gone(t, s.Slow, name)
}

func notCancelled(t *testing.T, s Subject) {
	t.Helper()
	name := s.Fast.Name + "-3"
	s.order(t, s.Fast, name, v1alpha1.PurposeAutoscaler)
	s.registered(t, s.Fast, name)
	if err := s.Backend.Cancel(t.Context(), name); !errors.Is(err, machines.ErrRegistered) {
		t.Errorf("cancel %s, which has registered: %v, not %v", name, err, machines.ErrRegistered)
	}
	s.mustFind(t, s.Fast, name)
	if err := s.Backend.Delete(t.Context(), name); err != nil {
		t.Errorf("delete %s: %v", name, err)
	}
	s.gone(t, s.Fast, name)
}

func deleted(t *testing.T, s Subject) {
	t.Helper()
	name := s.Fast.Name + "-4"
	s.order(t, s.Fast, name, v1alpha1.PurposeReservation)
	node := s.registered(t, s.Fast, name)
	for range 2 {
		if err := s.Backend.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	s.gone(t, s.Fast, name)
	s.until(t, func(ctx context.Context) (string, error) {
		err := s.Nodes.Get(ctx, client.ObjectKeyFromObject(node), &corev1.Node{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "the node is still there", err
	})
}

func absent(t *testing.T, s Subject) {
	t.Helper()
	if err := s.Backend.Delete(t.Context(), s.Fast.Name+"-999"); err != nil {
		t.Errorf("delete what is not there: %v", err)
	}
	if err := s.Backend.Cancel(t.Context(), s.Fast.Name+"-999"); err != nil {
		t.Errorf("cancel what is not there: %v", err)
	}
}

func notFound(t *testing.T, s Subject) {
	t.Helper()
	for _, id := range []string{"", "other://instance/7"} {
		if m, pool, err := s.Backend.Find(t.Context(), id); m != nil || pool != "" || err != nil {
			t.Errorf("provider id %q finds %v of %q, %v", id, m, pool, err)
		}
		if pool, name, ok := s.Backend.Parse(id); ok || pool != "" || name != "" {
			t.Errorf("provider id %q is that of machine %q of %q", id, name, pool)
		}
	}
}

package launchtest

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// registration: a machine registers the node that its template describes, by the provider id and the name that are told.
func registration(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "registration", Fast)
	order := s.order(t, pool, 0, 0)
	outcome := s.accepted(t, pool, order)[0]
	machine := order.Machines[0].Name
	instance, node := s.registered(t, pool, machine)
	if outcome.ProviderID != "" && outcome.ProviderID != instance.ProviderID {
		t.Errorf("the provider id was %s and is %s", outcome.ProviderID, instance.ProviderID)
	}
	// Where the cloud knows the name of the node, it is the right one.
	s.instance(t, pool, machine, func(i *launch.Instance) string {
		if i.NodeName != "" && i.NodeName != node.Name {
			t.Errorf("the node %s is said to be named %s", node.Name, i.NodeName)
		}
		if i.CreatedAt.IsZero() || i.Going || !i.LeavingAt.IsZero() || i.Failure != nil {
			t.Errorf("it is %+v", *i)
		}
		return ""
	})
	s.likeTemplate(t, node)
	tainted := slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool {
		return taint.Key == v1alpha1.TaintRegistration && taint.Effect == corev1.TaintEffectNoSchedule
	})
	if want := s.Launcher.Traits(pool).Tainted; tainted != want {
		t.Errorf("the node has the taint of its registration: %t, which is to be %t", tainted, want)
	}
	s.clear(t, pool, order)
	s.nodeGone(t, node)
}

// likeTemplate requires that a node is as the template says.
func (s *Subject) likeTemplate(t *testing.T, node *corev1.Node) {
	t.Helper()
	for key, value := range s.Template.Labels {
		if node.Labels[key] != value {
			t.Errorf("the node has the label %s=%q, not %q", key, node.Labels[key], value)
		}
	}
	for key, value := range s.Template.AllocatableOrCapacity() {
		if got := node.Status.Allocatable[key]; got.Cmp(value) != 0 {
			t.Errorf("the node offers %s of %s, not %s", got.String(), key, value.String())
		}
	}
	for _, taint := range s.Template.Taints {
		if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) && t.Value == taint.Value }) {
			t.Errorf("the node lacks the taint %s", taint.ToString())
		}
	}
}

// spotNotice: that a machine is taken away is told before it goes.
func spotNotice(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "spot", Spot)
	order := s.order(t, pool, 0, 0)
	s.accepted(t, pool, order)
	machine := order.Machines[0].Name
	var node *corev1.Node
	s.instance(t, pool, machine, func(i *launch.Instance) string {
		if i.Failure != nil {
			t.Fatalf("it has failed without notice: %+v", *i.Failure)
		}
		if i.LeavingAt.IsZero() {
			return "nothing is announced"
		}
		if node = s.node(t, i.ProviderID); node == nil {
			t.Errorf("it is announced when the node is gone: %+v", *i)
		}
		return ""
	})
	// Then it fails, or is forgotten.
	s.listed(t, pool, machine, func(instances []launch.Instance) string {
		if found := of(instances, machine); len(found) > 0 && found[0].Failure == nil {
			return "it is still there"
		}
		return ""
	})
	if node != nil {
		s.nodeGone(t, node)
	}
	s.clear(t, pool, order)
}

// crash: that a machine is no more is told, with the reason.
func crash(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "crash", Crashing)
	order := s.order(t, pool, 0, 0)
	s.accepted(t, pool, order)
	instance := s.instance(t, pool, order.Machines[0].Name, func(i *launch.Instance) string {
		if i.Failure == nil {
			return "it has not crashed"
		}
		return ""
	})
	failure := instance.Failure
	if failure.Class != v1alpha1.FailureOther || failure.Code == "" || failure.Message == "" || failure.Time.IsZero() {
		t.Errorf("it has failed with %+v", *failure)
	}
	// The failure is told first, then the node goes.
	s.until(t, func(context.Context) (string, error) {
		if node := s.node(t, instance.ProviderID); node != nil {
			return "the node " + node.Name + " is still there", nil
		}
		return "", nil
	})
	s.clear(t, pool, order)
}

// listed waits for a listing in which nothing is missing.
func (s *Subject) listed(t *testing.T, pool *launch.Pool, what string, missing func([]launch.Instance) string) {
	t.Helper()
	s.until(t, func(ctx context.Context) (string, error) {
		instances, lacking, err := s.list(ctx, pool)
		if err == nil && lacking == "" {
			lacking = missing(instances)
		}
		if lacking != "" {
			return what + ": " + lacking, err
		}
		return "", err
	})
}

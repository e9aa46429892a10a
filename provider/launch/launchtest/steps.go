package launchtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// goneAfter is how many listings in a row have to lack an instance that is taken to be gone: one that is empty says nothing.
const goneAfter = 5

// until waits until nothing is missing.
func (s *Subject) until(t *testing.T, missing func(context.Context) (string, error)) {
	t.Helper()
	last := ""
	poll := cmp.Or(s.Poll, 20*time.Millisecond)
	err := wait.PollUntilContextTimeout(t.Context(), poll, s.Patience, true, func(ctx context.Context) (bool, error) {
		now, err := missing(ctx)
		if err != nil {
			return false, err // What was missing before says more than that the time is over.
		}
		last = now
		return last == "", nil
	})
	if err != nil {
		t.Fatalf("%v: %s", err, last)
	}
}

// records are those of the machines first to last of a pool, as one order.
func (s *Subject) records(t *testing.T, pool *launch.Pool, first, last int64) []*v1alpha1.PoolMachine {
	t.Helper()
	hash, err := s.Template.Hash()
	if err != nil {
		t.Fatal(err)
	}
	together := v1alpha1.MachineOrder{
		ID: "floor", Size: int32(last - first + 1), First: first, Last: last, //nolint:gosec // A few.
		Atomic: s.Launcher.Traits(pool).Atomic,
	}
	var out []*v1alpha1.PoolMachine
	for number := first; number <= last; number++ {
		out = append(out, &v1alpha1.PoolMachine{
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("%s-%d", pool.Name, number), UID: uuid.NewUUID(), Labels: map[string]string{v1alpha1.LabelNodePool: pool.Name},
			},
			Spec: v1alpha1.PoolMachineSpec{
				NodePool: pool.Name, Purpose: v1alpha1.PurposeReservation, Order: together,
				OrderedAt: metav1.NowMicro(), TemplateHash: hash, Template: *s.Template.DeepCopy(), Machines: *pool.Machines.DeepCopy(),
			},
		})
	}
	return out
}

// order is an order of the machines first to last of a pool.
func (s *Subject) order(t *testing.T, pool *launch.Pool, first, last int64) *launch.Order {
	t.Helper()
	records := s.records(t, pool, first, last)
	return &launch.Order{Token: fmt.Sprintf("%s-%d-%d", pool.Name, first, last), Atomic: records[0].Spec.Order.Atomic, Machines: records}
}

// launch repeats an order, as the provider does, until it is answered.
func (s *Subject) launch(t *testing.T, pool *launch.Pool, order *launch.Order) []launch.Outcome {
	t.Helper()
	var outcomes []launch.Outcome
	s.until(t, func(ctx context.Context) (string, error) {
		var err error
		outcomes, err = s.Launcher.Launch(ctx, pool, order)
		if err != nil {
			return err.Error(), ctx.Err()
		}
		if len(outcomes) != len(order.Machines) {
			return "", fmt.Errorf("%d machines have %d outcomes", len(order.Machines), len(outcomes))
		}
		return throttled(outcomes), nil
	})
	return outcomes
}

func throttled(outcomes []launch.Outcome) string {
	for _, outcome := range outcomes {
		if outcome.Kind == launch.Throttled {
			return outcome.Message
		}
	}
	return ""
}

// accepted launches an order that has to succeed.
func (s *Subject) accepted(t *testing.T, pool *launch.Pool, order *launch.Order) []launch.Outcome {
	t.Helper()
	outcomes := s.launch(t, pool, order)
	for i, outcome := range outcomes {
		if outcome.Kind != launch.Accepted {
			t.Fatalf("the outcome of %s is %+v", order.Machines[i].Name, outcome)
		}
	}
	return outcomes
}

// list is a listing, nil with what came of it where there was none.
func (s *Subject) list(ctx context.Context, pool *launch.Pool) (instances []launch.Instance, missing string, err error) {
	instances, err = s.Launcher.List(ctx, pool)
	if err != nil {
		return nil, err.Error(), ctx.Err()
	}
	return instances, "", nil
}

// of are the instances of a machine.
func of(instances []launch.Instance, machine string) []launch.Instance {
	return slices.DeleteFunc(slices.Clone(instances), func(i launch.Instance) bool { return i.Machine != machine })
}

// instance waits until a machine is listed and has what is asked for.
func (s *Subject) instance(t *testing.T, pool *launch.Pool, machine string, lacks func(*launch.Instance) string) *launch.Instance {
	t.Helper()
	var out launch.Instance
	s.until(t, func(ctx context.Context) (string, error) {
		instances, missing, err := s.list(ctx, pool)
		if err != nil || missing != "" {
			return missing, err
		}
		switch found := of(instances, machine); len(found) {
		case 0:
			return machine + " is not listed", nil
		case 1:
			out = found[0]
			return lacks(&out), nil
		default:
			return "", fmt.Errorf("%s has %d instances", machine, len(found))
		}
	})
	return &out
}

func nothing(*launch.Instance) string { return "" }

// registered waits for the node of a machine.
func (s *Subject) registered(t *testing.T, pool *launch.Pool, machine string) (*launch.Instance, *corev1.Node) {
	t.Helper()
	var node *corev1.Node
	instance := s.instance(t, pool, machine, func(i *launch.Instance) string {
		if i.Failure != nil {
			t.Fatalf("%s has failed: %+v", machine, *i.Failure)
		}
		if i.ProviderID == "" {
			return machine + " has no provider id"
		}
		if node = s.node(t, i.ProviderID); node == nil {
			return "no node has the provider id " + i.ProviderID
		}
		if s.Incomplete != nil {
			return s.Incomplete(node)
		}
		return ""
	})
	return instance, node
}

// node is the one with a provider id, nil where there is none.
func (s *Subject) node(t *testing.T, providerID string) *corev1.Node {
	t.Helper()
	var nodes corev1.NodeList
	if err := s.Nodes.List(t.Context(), &nodes); err != nil {
		t.Fatal(err)
	}
	for i := range nodes.Items {
		if nodes.Items[i].Spec.ProviderID == providerID {
			return &nodes.Items[i]
		}
	}
	return nil
}

// terminate repeats that instances are to end until that was asked for, or they are gone.
func (s *Subject) terminate(t *testing.T, pool *launch.Pool, instances ...launch.Instance) {
	t.Helper()
	s.terminateUntil(t, pool, instances, func(err error) bool { return err == nil || errors.Is(err, launch.ErrGone) })
}

// ended repeats it until the cloud says that they are gone.
func (s *Subject) ended(t *testing.T, pool *launch.Pool, instances ...launch.Instance) {
	t.Helper()
	s.terminateUntil(t, pool, instances, func(err error) bool { return errors.Is(err, launch.ErrGone) })
}

func (s *Subject) terminateUntil(t *testing.T, pool *launch.Pool, instances []launch.Instance, enough func(error) bool) {
	t.Helper()
	s.until(t, func(ctx context.Context) (string, error) {
		errs := s.Launcher.Terminate(ctx, pool, instances)
		if len(errs) != len(instances) {
			return "", fmt.Errorf("%d instances have %d answers", len(instances), len(errs))
		}
		for i, err := range errs {
			if !enough(err) {
				return fmt.Sprintf("the end of %+v: %v", instances[i], err), ctx.Err()
			}
		}
		return "", nil
	})
}

// gone waits until instances are listed no more.
func (s *Subject) gone(t *testing.T, pool *launch.Pool, which string, is func(launch.Instance) bool) {
	t.Helper()
	lacking := 0
	s.until(t, func(ctx context.Context) (string, error) {
		instances, missing, err := s.list(ctx, pool)
		if err != nil || missing != "" {
			return missing, err
		}
		if slices.ContainsFunc(instances, is) {
			lacking = 0
			return which + " is still listed", nil
		}
		if lacking++; lacking < goneAfter {
			return which + " may be gone", nil
		}
		return "", nil
	})
}

func (s *Subject) machineGone(t *testing.T, pool *launch.Pool, machine string) {
	t.Helper()
	s.gone(t, pool, machine, func(i launch.Instance) bool { return i.Machine == machine })
}

// nodeGone waits until a node is gone.
func (s *Subject) nodeGone(t *testing.T, node *corev1.Node) {
	t.Helper()
	s.until(t, func(ctx context.Context) (string, error) {
		var now corev1.Node
		err := s.Nodes.Get(ctx, client.ObjectKeyFromObject(node), &now)
		if apierrors.IsNotFound(err) || (err == nil && now.UID != node.UID) {
			return "", nil
		}
		return "node " + node.Name + " is still there", err
	})
}

// upToDate waits until a listing shows everything that was launched before now, and returns it.
func (s *Subject) upToDate(t *testing.T, pool *launch.Pool) []launch.Instance {
	t.Helper()
	var out []launch.Instance
	at := time.Now().Add(cmp.Or(s.Lag, s.Launcher.Traits(pool).Lag))
	s.until(t, func(ctx context.Context) (string, error) {
		if left := time.Until(at); left > 0 {
			return fmt.Sprintf("listings may be behind for another %s", left), nil
		}
		instances, missing, err := s.list(ctx, pool)
		if err != nil || missing != "" {
			return missing, err
		}
		out = instances
		return "", nil
	})
	return out
}

// single requires that each machine of an order has one instance, and waits for that.
func (s *Subject) single(t *testing.T, pool *launch.Pool, order *launch.Order) {
	t.Helper()
	at := time.Now().Add(cmp.Or(s.Lag, s.Launcher.Traits(pool).Lag))
	s.until(t, func(ctx context.Context) (string, error) {
		instances, missing, err := s.list(ctx, pool)
		if err != nil || missing != "" {
			return missing, err
		}
		for _, machine := range order.Machines {
			switch found := of(instances, machine.Name); {
			case len(found) > 1:
				return "", fmt.Errorf("%s has %d instances", machine.Name, len(found))
			case len(found) == 0:
				return machine.Name + " is not listed", nil
			}
		}
		if left := time.Until(at); left > 0 {
			return fmt.Sprintf("listings may be behind for another %s", left), nil
		}
		return "", nil
	})
}

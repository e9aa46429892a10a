package kills

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// state is what a user sees of the pool.
type state struct {
	pool v1alpha1.NodePool
	// records are the names of the PoolMachines.
	records []string
	// objects are those of the cloud, by kind, in the order of Cloud.Kinds.
	objects      [][]client.Object
	nodes, ready []string
}

// look looks at the pool. Records are listed after the objects of the cloud. The state is nil where the pool is gone.
func (l *life) look(ctx context.Context) (*state, error) {
	s, ofPool := &state{}, client.MatchingLabels{v1alpha1.LabelNodePool: l.name}
	for _, kind := range l.Kinds {
		objects, err := l.list(ctx, kind, ofPool)
		if err != nil {
			return nil, err
		}
		s.objects = append(s.objects, objects)
	}
	var machines v1alpha1.PoolMachineList
	var nodes corev1.NodeList
	if err := errors.Join(l.Cluster.Client.List(ctx, &machines, ofPool), l.Cluster.Client.List(ctx, &nodes, ofPool)); err != nil {
		return nil, err
	}
	for i := range machines.Items {
		s.records = append(s.records, machines.Items[i].Name)
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		s.nodes = append(s.nodes, node.Name)
		if slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}) {
			s.ready = append(s.ready, node.Name)
		}
	}
	slices.Sort(s.ready)
	err := l.Cluster.Client.Get(ctx, client.ObjectKey{Name: l.name}, &s.pool)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return s, err
}

// list lists objects of a kind.
func (l *life) list(ctx context.Context, kind client.ObjectList, options ...client.ListOption) ([]client.Object, error) {
	list, is := kind.DeepCopyObject().(client.ObjectList)
	if !is {
		return nil, fmt.Errorf("%T is no list", kind)
	}
	if err := l.Cluster.Client.List(ctx, list, options...); err != nil {
		return nil, err
	}
	var out []client.Object
	return out, meta.EachListItem(list, func(object runtime.Object) error {
		if of, is := object.(client.Object); is {
			out = append(out, of)
		}
		return nil
	})
}

// machineOf is the machine that an object is of, empty where its labels do not say.
func machineOf(object client.Object) string { return object.GetLabels()[v1alpha1.LabelMachine] }

// String says how much there is of everything.
func (s *state) String() string {
	var objects []int
	for _, of := range s.objects {
		objects = append(objects, len(of))
	}
	spec, status := &s.pool.Spec, &s.pool.Status
	return fmt.Sprintf("Ready %v, %d nodes, %d machines, %v objects of the cloud, target %d, to delete %v, status %d Ready of %d",
		s.ready, len(s.nodes), len(s.records), objects, spec.Replicas, spec.MachinesToDelete, status.Ready, status.Replicas)
}

// lacksNodes says what keeps the pool from having so many Ready nodes, and nothing on its way.
func (s *state) lacksNodes(nodes int) string {
	if s == nil {
		return "the NodePool is gone"
	}
	spec, status := &s.pool.Spec, &s.pool.Status
	other := func(of []client.Object) bool { return len(of) != nodes }
	if len(s.ready) != nodes || len(s.nodes) != nodes || len(s.records) != nodes || slices.ContainsFunc(s.objects, other) ||
		int(spec.Replicas) != nodes || len(spec.MachinesToDelete) > 0 || int(status.Ready) != nodes || int(status.Replicas) != nodes {
		return fmt.Sprintf("%d nodes are expected: %s", nodes, s)
	}
	return ""
}

// until waits until nothing is missing of what is seen of the pool, and starts another provider where that is killed.
func (l *life) until(t *testing.T, missing func(*state) string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if l.Killed() {
			l.Stop()
			l.survived = false
			l.start(t, -1)
		}
		s, err := l.look(ctx)
		if err == nil && s != nil {
			err = l.check(ctx, s)
		}
		if err != nil {
			return "", err
		}
		return missing(s), nil
	})
}

// check looks for objects of the cloud without a record, and for more than the member ever wanted.
func (l *life) check(ctx context.Context, s *state) error {
	for _, objects := range s.objects {
		if len(objects) > wanted {
			l.note("there are %d %T for a member that wants %d", len(objects), objects[0], wanted)
		}
		for _, object := range objects {
			if slices.Contains(s.records, machineOf(object)) {
				continue
			}
			// The record was listed after it. It may be gone only if the object is.
			err := l.Cluster.Client.Get(ctx, client.ObjectKeyFromObject(object), object)
			if err == nil {
				l.note("%T %s has no record", object, object.GetName())
			} else if !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return nil
}

// everything is all that there is of machines in the cluster, with their labels or without: the kind and the name of each.
func (l *life) everything(ctx context.Context) (map[types.UID]string, error) {
	out := map[types.UID]string{}
	for _, kind := range slices.Concat(l.Kinds, []client.ObjectList{&v1alpha1.PoolMachineList{}, &corev1.NodeList{}}) {
		objects, err := l.list(ctx, kind)
		if err != nil {
			return nil, err
		}
		for _, object := range objects {
			out[object.GetUID()] = fmt.Sprintf("%T %s with the finalizers %v", object, object.GetName(), object.GetFinalizers())
		}
	}
	return out, nil
}

// nothingIsLeft: when the NodePool is gone, all is that was made for it, and with that our finalizers.
func (l *life) nothingIsLeft(t *testing.T, member client.Object) {
	t.Helper()
	left, err := l.everything(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(left, func(uid types.UID, _ string) bool { return l.before[uid] != "" })
	if len(left) > 0 {
		t.Errorf("%s: the NodePool is gone, and left are %q", l.name, slices.Sorted(maps.Values(left)))
	}
	if err := l.Cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(member), member); err != nil || len(member.GetFinalizers()) > 0 {
		t.Errorf("%s: the member has the finalizers %v (%v)", l.name, member.GetFinalizers(), err)
	}
	if err := l.Cluster.Client.Delete(t.Context(), member); err != nil {
		t.Fatal(err)
	}
}

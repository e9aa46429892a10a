package inprocess

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// NewMember makes an EnsembleMember that may have reservations in the pool of its name, and has none.
func (c *Cluster) NewMember(t testing.TB, name string) *v1alpha1.EnsembleMember {
	t.Helper()
	m := &v1alpha1.EnsembleMember{
		// The controller marks a member with its pools.
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: name,
			Labels: map[string]string{v1alpha1.MemberPoolLabel(name): ""}},
		Spec: v1alpha1.EnsembleMemberSpec{Size: 1, MinSize: 1, MaxSize: 10, NodePools: []string{name}},
	}
	if err := c.Client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Reserve is what the controller does: it claims nodes in the pool of the member's name, and says which ones are held.
func (c *Cluster) Reserve(t testing.TB, m *v1alpha1.EnsembleMember, nodes int32, held ...string) {
	t.Helper()
	fresh := &v1alpha1.EnsembleMember{}
	if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(m), fresh); err != nil {
		t.Fatal(err)
	}
	fresh.Status.Reservations = nil
	if nodes > 0 {
		fresh.Status.Reservations = []v1alpha1.Reservation{{NodePool: m.Name, Nodes: nodes, Held: held}}
	}
	if err := c.Client.Status().Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
}

// Once notes every object of a kind of a pool, until the test ends, and tells when two are known by the same key; those whose key is
// empty are nobody's. seen are the keys.
func (c *Cluster) Once(
	t testing.TB, pool string, kind client.ObjectList, key func(client.Object) string, tell func(format string, args ...any),
) (seen func() []string) {
	t.Helper()
	watching, err := c.Client.Watch(context.WithoutCancel(t.Context()), kind, client.MatchingLabels{v1alpha1.LabelNodePool: pool})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	made := map[string]types.UID{}
	var noting sync.WaitGroup
	noting.Go(func() {
		for e := range watching.ResultChan() {
			object, is := e.Object.(client.Object)
			if !is || e.Type == watch.Deleted || key(object) == "" {
				continue
			}
			mu.Lock()
			if before, has := made[key(object)]; has && before != object.GetUID() {
				tell("%T %s was made twice", object, key(object))
			}
			made[key(object)] = object.GetUID()
			mu.Unlock()
		}
	})
	t.Cleanup(func() { watching.Stop(); noting.Wait() })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Sorted(maps.Keys(made))
	}
}

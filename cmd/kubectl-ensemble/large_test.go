package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// The cluster of the benchmark: 1,000 members, 10,000 nodes and as many machines, in ten pools.
const (
	largeMembers = 1000
	largePools   = 10
	largeNodes   = 1000 // in each pool
)

// BenchmarkExplain measures what an answer costs in a large cluster, as its user waits for it: the program's start apart. An answer within
// a second is what is promised.
func BenchmarkExplain(b *testing.B) {
	d := newDesk(b, server.Config)
	d.fill(b)
	for _, row := range []struct{ name, argument, says string }{
		{"member that waits for machines", "member/large-0", "waits for machines: "},
		{"member that is queued", "member/large-1", "waits for claim: Queued"},
		{"pool", "pool/large-0", "Pool large-0 waits for"},
		{"node", "node/large-0-7", "Node large-0-7"},
	} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				if out := d.must(b, "explain", row.argument); !strings.Contains(out, row.says) {
					b.Fatalf("%q is not in\n%s", row.says, out)
				}
			}
			if each := b.Elapsed() / time.Duration(b.N); each > time.Second {
				b.Errorf("an answer takes %s, want at most 1s", each)
			}
		})
	}
}

// fill makes the large cluster.
func (d *desk) fill(b *testing.B) {
	b.Helper()
	ctx := b.Context()
	var group errgroup.Group
	group.SetLimit(32)
	add := func(object client.Object) {
		withStatus, is := object.DeepCopyObject().(client.Object)
		if !is {
			b.Fatalf("%T is no object", object)
		}
		group.Go(func() error {
			if err := server.Client.Create(ctx, object); err != nil {
				return err
			}
			if _, isNode := object.(*corev1.Node); isNode {
				return nil // A node is created with its status.
			}
			withStatus.SetResourceVersion(object.GetResourceVersion())
			withStatus.SetUID(object.GetUID())
			return server.Client.Status().Update(ctx, withStatus)
		})
	}
	for p := range largePools {
		name := fmt.Sprintf("large-%d", p)
		object := pool(name, largeNodes)
		object.Spec.MaxSize = 2 * largeNodes
		object.Status.Ready = largeNodes / 2
		add(object)
		for n := range largeNodes {
			m := machine(name, n)
			m.Status.NodeName = m.Name
			node := &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: m.Name, Labels: map[string]string{v1alpha1.LabelNodePool: name}},
				Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}},
			}
			if n%2 == 0 {
				m.Status.Conditions[0].Status, m.Status.Conditions[0].Reason = metav1.ConditionTrue, v1alpha1.ConditionReady
				node.Status.Conditions[0].Status = corev1.ConditionTrue
			}
			add(m)
			add(node)
		}
	}
	for i := range largeMembers {
		m := d.member(fmt.Sprintf("large-%d", i), fmt.Sprintf("large-%d", i%largePools))
		if i%2 == 1 {
			m.Spec.NodePools = []string{"large-0"}
			m.Status.Conditions = conditions(v1alpha1.ConditionCapacityReserved, v1alpha1.ReasonQueued, "another growth asked first")
		}
		add(m)
	}
	create(b, d.autoscaler("large-0"))
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

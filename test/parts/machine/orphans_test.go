package machine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// instanceOf is an instance of the simulated cloud that bears the mark of a pool, and of no machine.
func instanceOf(t *testing.T, pool, name string, change ...func(*v1alpha1.KwokInstance)) *v1alpha1.KwokInstance {
	t.Helper()
	var system corev1.Namespace
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: "kube-system"}, &system); err != nil {
		t.Fatal(err)
	}
	template := poolOf(pool)
	out := &v1alpha1.KwokInstance{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.KwokInstanceSpec{
			Cluster: string(system.UID), NodePool: pool, ProviderID: "kwok://" + pool + "/" + name, NodeName: name, Fate: v1alpha1.FateReady,
			LaunchedAt: metav1.NewMicroTime(time.Now().Add(-time.Hour)), Template: template.Spec.Template, Machines: *template.Spec.Machines.Kwok,
		},
	}
	if string(system.UID) == out.Spec.Cluster {
		out.Labels = map[string]string{v1alpha1.LabelNodePool: pool}
	}
	for _, c := range change {
		c(out)
	}
	if out.Spec.Cluster != string(system.UID) {
		out.Labels = nil
	}
	return out
}

// Pools of which the cloud has a machine that no record tells of, without and with a node, and one that is no more itself.
const (
	orphanBare = "orphan-bare"
	orphanNode = "orphan-node"
	orphanLeft = "orphan-left"
)

// leaveOrphans makes them, as they are found when etcd was restored.
func leaveOrphans(t *testing.T) {
	t.Helper()
	newPool(t, orphanBare, alone)
	create(t, instanceOf(t, orphanBare, "stray-bare", func(i *v1alpha1.KwokInstance) { i.Spec.BootDelay = *after(1000 * time.Hour) }))

	create(t, instanceOf(t, orphanLeft, "stray-left", func(i *v1alpha1.KwokInstance) { i.Spec.BootDelay = *after(1000 * time.Hour) }))

	newPool(t, orphanNode, alone)
	registered := metav1.NewMicroTime(time.Now().Add(-time.Hour))
	instance := create(t, instanceOf(t, orphanNode, "stray-node", func(i *v1alpha1.KwokInstance) { i.Status.RegisteredAt = &registered }))
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "stray-node",
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake", v1alpha1.AnnotationReserved: "true"}},
		Spec: corev1.NodeSpec{ProviderID: instance.Spec.ProviderID},
	}
	if err := controllerutil.SetControllerReference(instance, node, cluster.Scheme); err != nil {
		t.Fatal(err)
	}
	create(t, node)
	cluster.Reserve(t, cluster.NewMember(t, orphanNode), 1, "stray-node")
}

// testOrphans: the first look at the cloud after a start only tells of what no record tells of; a later one ends it, or adopts
// it where a node is its: it is then a machine as any other.
func testOrphans(t *testing.T, _ *world) { //nolint:thelper // It is a test of TestTogether.
	saw(t, orphanBare, v1alpha1.ReasonOrphan,
		"the cloud has the machine stray-bare, which no record tells of; it is ended, since no node is its, with the next look in 5s")
	saw(t, orphanNode, v1alpha1.ReasonOrphan,
		"the cloud has the machine stray-node, which no record tells of; it is adopted, since node stray-node is its, with the next look in 5s")
	await(t, orphanBare, func(s *state) string { return missing(s.instances["stray-bare"] == nil, "it is not ended") })
	saw(t, orphanLeft, v1alpha1.ReasonOrphan, "the cloud has the machine stray-left, which no record tells of; it is ended, since no node "+
		"is its "+
		"and no NodePool orphan-left has machines there, with the next look in 5s")
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		err := cluster.Client.Get(ctx, client.ObjectKey{Name: "stray-left"}, &v1alpha1.KwokInstance{})
		return missing(err != nil, "that of a pool that is no more is not ended"), client.IgnoreNotFound(err)
	})
	var adopted *v1alpha1.PoolMachine
	s := await(t, orphanNode, func(s *state) string {
		for _, m := range s.machines {
			if m.Annotations[v1alpha1.AnnotationAdopted] == "kwok://orphan-node/stray-node" && m.Status.NodeName == "stray-node" {
				adopted = m
			}
		}
		if adopted == nil || s.nodes["stray-node"] == nil ||
			s.nodes["stray-node"].Annotations[v1alpha1.AnnotationHeldBy] != "default/"+orphanNode {
			return fmt.Sprintf("it is not adopted and held: %v, nodes %v", s.machines, s.nodes)
		}
		return ""
	})
	if adopted.Spec.Purpose != v1alpha1.PurposeReservation || s.instances["stray-node"].Status.TerminatingAt != nil {
		t.Errorf("it was adopted as %+v", adopted.Spec)
	}
	// What was ordered for the claim while nothing was known of its node goes again, and that stays.
	if s := hasNodes(t, orphanNode, 1); !slices.Equal(s.ready, []string{"stray-node"}) {
		t.Errorf("Ready are %v, and the member holds stray-node", s.ready)
	}
	var member v1alpha1.EnsembleMember
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: corev1.NamespaceDefault, Name: orphanNode}, &member); err != nil {
		t.Fatal(err)
	}
	cluster.Reserve(t, &member, 0)
	hasNodes(t, orphanNode, 0)
}

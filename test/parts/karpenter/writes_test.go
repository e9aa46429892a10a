package karpenter_test

import (
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	launcher "github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/karpenter"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/kills"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/karpenter"
)

// TestKillsAtWrites tells the story of package kills with machines of Karpenter, on a control plane of its own: no other provider runs
// there.
func TestKillsAtWrites(t *testing.T) {
	t.Parallel()
	binary, err := karpenter.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	plane := controlplanetest.Start(t, controlplane.Options{Parts: controlplane.Kwok})
	if err := karpenter.Install(t.Context(), plane); err != nil {
		t.Fatal(err)
	}
	if _, err := karpenter.Run(t.Context(), plane, binary); err != nil {
		t.Fatal(err)
	}
	cluster := inprocess.On(t, plane)
	if err := launcher.AddToScheme(cluster.Scheme); err != nil {
		t.Fatal(err)
	}
	var system corev1.Namespace
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: metav1.NamespaceSystem}, &system); err != nil {
		t.Fatal(err)
	}
	kind, kept, err := launcher.Cached()
	if err != nil {
		t.Fatal(err)
	}
	kills.Each(t, 3, 9, &kills.Cloud{
		Cluster: cluster, Name: "karpenter", Kinds: []client.ObjectList{&launcher.NodeClaimList{}},
		Options: manager.Options{Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{kind: kept}}},
		Machines: func(spec *v1alpha1.NodePoolSpec) {
			spec.Template.Capacity[corev1.ResourceMemory] = resource.MustParse("8Gi")
			spec.Template.Capacity[corev1.ResourcePods] = resource.MustParse("64")
			spec.Template.Allocatable = corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("3900m"), corev1.ResourceMemory: resource.MustParse("8182Mi"),
			}
			in := func(key, value string) v1alpha1.KarpenterRequirement {
				return v1alpha1.KarpenterRequirement{Key: key, Operator: "In", Values: []string{value}}
			}
			spec.Machines.Karpenter = &v1alpha1.KarpenterMachines{
				NodeClassRef: v1alpha1.KarpenterNodeClass{Group: karpenter.Group, Kind: karpenter.Kind, Name: karpenter.ClassFast},
				Requirements: []v1alpha1.KarpenterRequirement{
					in(corev1.LabelInstanceTypeStable, karpenter.InstanceType), in(corev1.LabelTopologyZone, karpenter.Zone),
					in("karpenter.sh/capacity-type", "on-demand"),
				},
			}
		},
		Launchers: func(process *inprocess.Mortal, out *launch.Launchers) error {
			made, err := launcher.New(t.Context(), process)
			if err != nil {
				return err
			}
			out.Karpenter = made
			orphans := &launcher.Orphans{Client: process.GetClient(), Live: process.GetAPIReader(), Cluster: string(system.UID)}
			return orphans.SetupWithManager(process)
		},
	})
}

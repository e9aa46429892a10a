package clusterapi

import (
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/clusterapi"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/kills"
)

// TestKillsAtWrites tells the story of package kills with Machines of Cluster API and the clones beside them, on a control plane of its
// own: no other provider runs there.
func TestKillsAtWrites(t *testing.T) {
	t.Parallel()
	plane := controlplanetest.Start(t, controlplane.Options{Parts: controlplane.Kwok})
	capi, err := Start(t.Context(), Options{Plane: plane, Nodes: plane.AdminConfig(), Namespace: Machines, Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := capi.Stop(); err != nil {
			t.Error(err)
		}
	})
	const template = "machine"
	if err := capi.makeConfigTemplate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := capi.Apply(t.Context(), template, &Template{Node: `{capacity: {cpu: "4", memory: 16Gi, pods: "110"}}`}); err != nil {
		t.Fatal(err)
	}
	kills.Each(t, 6, 11, &kills.Cloud{
		Cluster: inprocess.On(t, plane), Name: "cluster-api",
		Kinds: []client.ObjectList{
			listOf("cluster.x-k8s.io/v1beta2", "Machine"), listOf("tiny.example.com/v1", "TinyMachine"),
			listOf("tiny.example.com/v1", "TinyConfig"),
		},
		Machines: func(spec *v1alpha1.NodePoolSpec) {
			spec.Machines.ClusterAPI = machinesOf(template)
		},
		Launchers: func(process *inprocess.Mortal, out *launch.Launchers) error {
			machines, err := clusterapi.NewCluster(process.GetConfig(), []string{Machines},
				func(o *cluster.Options) { o.NewClient = process.NewClient })
			if err != nil {
				return err
			}
			out.ClusterAPI = clusterapi.New(machines, []string{Machines})
			return process.Add(machines)
		},
	})
}

func listOf(version, kind string) *unstructured.UnstructuredList {
	out := &unstructured.UnstructuredList{}
	out.SetGroupVersionKind(schema.FromAPIVersionAndKind(version, kind+"List"))
	return out
}

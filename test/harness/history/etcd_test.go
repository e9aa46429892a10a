package history_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/fluxoperator/crd"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestStartAtEtcd: the record has every version of every object, deletions included, though the API server is killed
// right after writes.
func TestStartAtEtcd(t *testing.T) {
	t.Parallel()
	plane := controlplanetest.Start(t, controlplane.Options{})
	c := connected(t, plane)
	ctx := t.Context()
	pool := pool(0)
	pool.Spec.Template.Capacity = corev1.ResourceList{"cpu": {}, "memory": {}, "pods": {}}
	pool.Spec.Machines.Kwok, pool.Spec.ProvisionTimeout = &v1alpha1.KwokMachines{}, metav1.Duration{Duration: time.Minute}
	cluster := minicluster.New()
	cluster.SetNamespace(metav1.NamespaceDefault)
	cluster.SetName("m")
	cluster.Object["spec"] = map[string]any{"size": int64(1), "containers": []any{map[string]any{"image": "i"}}}
	record := machine("x")
	record.Spec = v1alpha1.PoolMachineSpec{
		NodePool: "hpc", Purpose: v1alpha1.PurposeReservation, Order: v1alpha1.MachineOrder{ID: "floor", Size: 1},
		OrderedAt: metav1.NewMicroTime(noon), Template: pool.Spec.Template, Machines: pool.Spec.Machines,
	}
	made := instance("a")
	made.Spec.LaunchedAt, made.Spec.Template = record.Spec.OrderedAt, pool.Spec.Template
	objects := []client.Object{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, pool, record, made, cluster}
	var want []string
	stored := func(object client.Object, deleted bool) {
		version := object.GetResourceVersion()
		if deleted {
			version = "gone"
		}
		want = append(want, fmt.Sprintf("%T %s %s", object, object.GetName(), version))
	}
	for _, object := range objects {
		if err := c.Create(ctx, object); err != nil {
			t.Fatal(err)
		}
		stored(object, false)
	}
	recorder, err := history.StartAtEtcd(ctx, plane.EtcdURL())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		for _, object := range objects {
			object.SetLabels(map[string]string{"round": fmt.Sprint(i)})
			if err := c.Update(ctx, object); err != nil {
				t.Fatal(err)
			}
			stored(object, false)
		}
		if err := errors.Join(plane.StopAPIServer(), plane.StartAPIServer(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	for _, object := range objects {
		if err := c.Delete(ctx, object); err != nil {
			t.Fatal(err)
		}
		stored(object, true)
	}
	waiting, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	err = recorder.Until(waiting, func(s *history.State) string {
		if left := len(s.Nodes) + len(s.Pools) + len(s.Machines) + len(s.Instances) + len(s.MiniClusters); left > 0 {
			return fmt.Sprintf("%d objects are left", left)
		}
		return ""
	})
	if err := errors.Join(err, recorder.Stop()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, event := range recorder.Events() {
		version := event.Object.GetResourceVersion()
		if event.Deleted {
			version = "gone"
		}
		got = append(got, fmt.Sprintf("%T %s %s", event.Object, event.Object.GetName(), version))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the record is\n%q, and stored were\n%q", got, want)
	}
}

// connected is the administrator's client of a control plane that knows our kinds.
func connected(t *testing.T, plane *controlplane.ControlPlane) client.Client {
	t.Helper()
	miniClusters := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(crd.MiniClusters, miniClusters); err != nil {
		t.Fatal(err)
	}
	if _, err := envtest.InstallCRDs(plane.AdminConfig(), envtest.CRDInstallOptions{
		MaxTime: time.Minute,
		Paths:   []string{"../../../manifests/crd"}, CRDs: []*apiextensionsv1.CustomResourceDefinition{miniClusters}, ErrorIfPathMissing: true,
	}); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(plane.AdminConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

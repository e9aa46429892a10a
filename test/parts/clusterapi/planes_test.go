package clusterapi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/clusterapi"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system/systemtest"
)

func nestedString(object map[string]any, path ...string) (string, bool, error) {
	return unstructured.NestedString(object, path...)
}

func parse(text string) (*unstructured.Unstructured, error) {
	objects, err := system.Objects([]byte(text))
	if err == nil && len(objects) != 1 {
		err = errors.New("that is not one object")
	}
	if err != nil {
		return nil, err
	}
	return objects[0], nil
}

// TestTwoControlPlanes: the Machines are in a cluster of their own, where the provider has a user of its own. The control plane of the
// nodes is none that Cluster API manages, so that it leaves the Nodes of Machines that are gone: they go all the same.
func TestTwoControlPlanes(t *testing.T) {
	management := controlplanetest.Start(t, controlplane.Options{LogDir: filepath.Join(t.ArtifactDir(), "management")})
	var capi *Installation
	s, err := system.Start(t.Context(), system.Options{
		LogDir: t.ArtifactDir(), Progress: os.Stderr, AutoscalerFlags: systemtest.RestlessAutoscaler(), WithoutKwok: true,
		Prepare: func(ctx context.Context, s *system.System) ([]string, error) {
			var err error
			if capi, err = Start(ctx, Options{
				Plane: management, Nodes: s.Plane.AdminConfig(), Namespace: "elsewhere", LeaveNodes: true, Progress: os.Stderr,
			}); err != nil {
				return nil, err
			}
			path, err := user(ctx, management, capi, s)
			return []string{"--cluster-api=elsewhere", "--machines-kubeconfig=" + path}, err
		},
	})
	if capi != nil {
		t.Cleanup(func() {
			if err := capi.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	recorder, err := history.Start(t.Context(), s.Client, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := tenantOf(t, s, capi, recorder)
	p := x.pool("p", 10, Template{BootDelay: "500ms"})
	m := x.miniCluster("m", 1, p)
	x.atSize(m, 1)
	x.grant(m, "grow", 3)
	x.atSize(m, 4)
	x.machines(p, 4)
	x.grant(m, "shrink", 2)
	x.atSize(m, 2)
	x.machines(p, 2)
	x.end(m)
	if err := recorder.Stop(); err != nil {
		t.Error(err)
	}
	for _, broken := range history.Broken(recorder.Events()) {
		t.Error(broken)
	}
	// Where the nodes are there is no Cluster API, and the provider would say so.
	if _, err := clusterapi.NewCluster(s.Plane.AdminConfig(), []string{"elsewhere"}); err == nil ||
		!strings.Contains(err.Error(), "install Cluster API 1.11 or later there") {
		t.Errorf("without Cluster API: %v", err)
	}
}

// user makes the provider's user where the Machines are, and writes its kubeconfig.
func user(ctx context.Context, management *controlplane.ControlPlane, capi *Installation, s *system.System) (path string, err error) {
	namespace, account := &corev1.Namespace{}, &corev1.ServiceAccount{}
	namespace.Name, account.Name, account.Namespace = system.Namespace, "provider", system.Namespace
	if err := errors.Join(capi.Client.Create(ctx, namespace), capi.Client.Create(ctx, account), capi.Grant(ctx, s)); err != nil {
		return "", err
	}
	config, err := management.ServiceAccountConfig(ctx, system.Namespace, "provider")
	if err != nil {
		return "", err
	}
	path = filepath.Join(management.Directory(), "provider.kubeconfig")
	return path, controlplane.WriteKubeconfig(path, config)
}

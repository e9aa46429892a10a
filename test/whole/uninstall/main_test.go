package uninstall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// patience is how long anything may take. On a busy machine a step of two seconds takes many times that.
const patience = 5 * time.Minute

func until(t *testing.T, missing func(context.Context) (string, error)) {
	t.Helper()
	inprocess.UntilWithin(t, patience, 50*time.Millisecond, missing)
}

// reason is an error in words, for what is waited for until there is none.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// cluster is one that a user has, with kubectl and a kubeconfig.
type cluster struct {
	kubectl, kubeconfig string
	client              client.Client
	config              *rest.Config
}

// run calls make as a user does and returns what it says.
func (c *cluster) run(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "make", append([]string{"--no-print-directory", "-C", filepath.Join("..", "..", ".."),
		"KUBECTL=" + c.kubectl, "KUBECONFIG=" + c.kubeconfig}, arguments...)...)
	// The tests may themselves have been started by make.
	command.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=", "TIMEOUT=120")
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	err := command.Run()
	t.Logf("make %s:\n%s", strings.Join(arguments, " "), said.String())
	return said.String(), err
}

// must is run for what has to succeed.
func (c *cluster) must(t *testing.T, arguments ...string) string {
	t.Helper()
	said, err := c.run(t, arguments...)
	if err != nil {
		t.Fatalf("make %s: %v", strings.Join(arguments, " "), err)
	}
	return said
}

// addNode adds a node that is of no NodePool, for our pods and of others.
func (c *cluster) addNode(t *testing.T) {
	t.Helper()
	resources := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "plain", Labels: map[string]string{
				corev1.LabelHostname: "plain",
			}, Annotations: map[string]string{controlplane.NodeAnnotation: controlplane.NodeAnnotationValue},
		},
		Status: corev1.NodeStatus{Capacity: resources, Allocatable: resources},
	}
	if err := c.client.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// withoutContext writes a kubeconfig that has no current context and returns its path.
func (c *cluster) withoutContext(t *testing.T) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.CurrentContext = ""
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// deployed is a System with the Deployments of provider and controller in the cluster. Their pods do nothing; the processes
// do the work, and each ends with its Deployment.
type deployed struct {
	*system.System
	cluster
}

func deploy(t *testing.T) *deployed {
	t.Helper()
	s, err := system.Start(
		t.Context(), system.Options{Progress: os.Stderr, LogDir: t.ArtifactDir(), AutoscalerFlags: []string{"--scan-interval=1s"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	kubectl, err := s.Plane.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	d := &deployed{System: s, cluster: cluster{kubectl: kubectl, kubeconfig: s.Kubeconfig, client: s.Client, config: s.Plane.AdminConfig()}}
	d.addNode(t)
	for name, processes := range map[string][]*controlplane.Process{
		// Cluster Autoscaler has nobody to speak to without the provider.
		"provider": {s.Autoscaler, s.Provider}, "controller": {s.Controller},
	} {
		d.standFor(t, name, processes...)
	}
	return d
}

// process is the finalizer by which a Deployment waits for the processes that it stands for.
const process = "example.com/process"

// standFor creates a Deployment and ends the processes when it is deleted.
func (d *deployed) standFor(t *testing.T, name string, processes ...*controlplane.Process) {
	t.Helper()
	objects, err := d.ObjectsOf("manifests/" + name + "/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetKind() == "Deployment" {
			object.SetFinalizers([]string{process})
		}
	}
	if err := d.Apply(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { ended <- d.endWith(ctx, name, processes) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func (d *deployed) endWith(ctx context.Context, name string, processes []*controlplane.Process) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		var deployment appsv1.Deployment
		if err := d.Client.Get(ctx, client.ObjectKey{Namespace: system.Namespace, Name: name}, &deployment); err != nil {
			return client.IgnoreNotFound(err)
		}
		if deployment.DeletionTimestamp == nil {
			continue
		}
		for _, process := range processes {
			if err := process.Stop(time.Minute); err != nil {
				return err
			}
		}
		if controllerutil.RemoveFinalizer(&deployment, process) {
			if err := d.Client.Update(ctx, &deployment); err != nil && !apierrors.IsConflict(err) {
				return client.IgnoreNotFound(err)
			}
		}
	}
}

// passing are kinds of objects that come and go by themselves.
var passing = sets.New(
	"Event", "Lease", "ReplicaSet", "ControllerRevision", "EndpointSlice", "Endpoints", "ComponentStatus", "PodMetrics", "NodeMetrics",
)

// everything names all objects of a cluster.
func (c *cluster) everything(t *testing.T) sets.Set[string] {
	t.Helper()
	found, err := c.objects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// everythingOfNew is everything of a new cluster when that has made what it makes for itself: the last that is known of it is
// there, and for some seconds nothing has come or gone.
func (c *cluster) everythingOfNew(t *testing.T) sets.Set[string] {
	t.Helper()
	const apart = 5 * time.Second
	var found sets.Set[string]
	inprocess.UntilWithin(t, patience, apart, func(ctx context.Context) (string, error) {
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: "kube-public", Name: "kube-root-ca.crt"}, &corev1.ConfigMap{}); err != nil {
			return reason(err), client.IgnoreNotFound(err)
		}
		before := found
		var err error
		if found, err = c.objects(ctx); err != nil {
			return reason(err), nil
		}
		if !found.Equal(before) {
			return fmt.Sprintf("%d objects are there, and %d were %s ago", found.Len(), before.Len(), apart), nil
		}
		return "", nil
	})
	return found
}

func (c *cluster) objects(ctx context.Context) (sets.Set[string], error) {
	transport, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	discoverer, err := discovery.NewDiscoveryClientForConfigAndClient(c.config, transport)
	if err != nil {
		return nil, err
	}
	lists, err := discoverer.ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	found := sets.New[string]()
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for i := range list.APIResources {
			r := &list.APIResources[i]
			if passing.Has(r.Kind) || !sets.New[string](r.Verbs...).Has("list") {
				continue
			}
			items := &unstructured.UnstructuredList{}
			items.SetGroupVersionKind(version.WithKind(r.Kind + "List"))
			if err := c.client.List(ctx, items); apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
				continue
			} else if err != nil {
				return nil, fmt.Errorf("list %s: %w", r.Kind, err)
			}
			for k := range items.Items {
				found.Insert(fmt.Sprintf("%s.%s %s", r.Kind, version.Group, client.ObjectKeyFromObject(&items.Items[k])))
			}
		}
	}
	return found, nil
}

// ofOurs are the objects that have our names. Others may have our word in their labels.
func ofOurs(found sets.Set[string]) []string {
	var ours []string
	for name := range found {
		for _, part := range []string{
			"ensemble-autoscaler", "autoscaling.flux-framework.org", "ensemble.flux-framework.org", "cluster-autoscaler-provider-tls",
		} {
			if strings.Contains(name, part) {
				ours = append(ours, name)
				break
			}
		}
	}
	return ours
}

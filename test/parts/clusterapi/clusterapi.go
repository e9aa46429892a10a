// Package clusterapi runs Cluster API for tests and the demo: the real core controllers of sigs.k8s.io/cluster-api, built from a go.mod of
// their own, as a process beside an embedded control plane, and for infrastructure and bootstrap the stand-in of package tiny.
package clusterapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/clusterapi/tiny"
)

// Variable is the environment variable that names a binary of the core controllers in place of the one that is built.
const Variable = "CLUSTER_API"

// ClusterName is the Cluster that the nodes are of.
const ClusterName = "workload"

const readyWithin, readyPoll = 5 * time.Minute, 100 * time.Millisecond

// core is the program of the core controllers.
func core() controlplane.Program {
	return controlplane.Program{
		Name: "cluster-api", Module: "test/parts/clusterapi/core", Required: "sigs.k8s.io/cluster-api",
		ImportPath: "sigs.k8s.io/cluster-api/core", Variable: Variable, Usually: 3 * time.Minute,
	}
}

// Build makes the core controllers, or finds them, and returns their path.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	return controlplane.BuildProgram(ctx, progress, core())
}

// Options say what Start starts.
type Options struct {
	// Plane has the Machines.
	Plane *controlplane.ControlPlane
	// Nodes is the administrator's access to the cluster that the nodes are in.
	Nodes *rest.Config
	// Namespace is that of the Cluster and the Machines; it is made.
	Namespace string
	// LeaveNodes has a control plane that is neither of Machines nor managed externally: Cluster API then leaves the Node of a Machine
	// that is gone.
	LeaveNodes bool
	Progress   io.Writer
}

// Installation is Cluster API, running.
type Installation struct {
	// Core are the core controllers.
	Core *controlplane.Process
	// Client is the administrator's where the Machines are.
	Client    client.WithWatch
	Namespace string

	stop func() error
}

// Start installs Cluster API and a Cluster, and starts it. The context bounds the start only.
func Start(ctx context.Context, o Options) (*Installation, error) {
	path, err := Build(ctx, o.Progress)
	if err != nil {
		return nil, err
	}
	config := o.Plane.AdminConfig()
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	if err := installDefinitions(ctx, config); err != nil {
		return nil, err
	}
	i := &Installation{Namespace: o.Namespace}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register the kinds of Kubernetes: %w", err)
	}
	if i.Client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	if err := i.runTiny(ctx, config, o.Nodes, scheme); err != nil {
		return nil, err
	}
	if err := i.runCore(ctx, o.Plane, path, config); err != nil {
		return nil, errors.Join(err, i.Stop())
	}
	if err := i.makeCluster(ctx, o); err != nil {
		return nil, errors.Join(err, i.Stop())
	}
	return i, nil
}

// Stop ends the stand-in. The core controllers end with the control plane.
func (i *Installation) Stop() error { return i.stop() }

func installDefinitions(ctx context.Context, config *rest.Config) error {
	ofCore, err := controlplane.ModuleFile(ctx, core(), "core/config/crd/bases")
	if err != nil {
		return err
	}
	directory, err := os.MkdirTemp("", "definitions-")
	if err != nil {
		return err
	}
	ofTiny := filepath.Join(directory, "tiny.yaml")
	err = os.WriteFile(ofTiny, tiny.Definitions, 0o600)
	if err == nil {
		_, err = envtest.InstallCRDs(
			config, envtest.CRDInstallOptions{MaxTime: time.Minute, Paths: []string{ofCore, ofTiny}, ErrorIfPathMissing: true},
		)
	}
	if err != nil {
		err = fmt.Errorf("install the definitions of Cluster API: %w", err)
	}
	return errors.Join(err, os.RemoveAll(directory))
}

// runTiny runs the stand-in in this process.
func (i *Installation) runTiny(ctx context.Context, config, nodes *rest.Config, scheme *runtime.Scheme) error {
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme: scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return fmt.Errorf("run the stand-in of an infrastructure provider: %w", err)
	}
	nodes = rest.CopyConfig(nodes)
	nodes.QPS = -1
	where, err := client.New(nodes, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("connect to the API server of the nodes: %w", err)
	}
	if err := (&tiny.Machines{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Nodes: where}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("run the stand-in of an infrastructure provider: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	i.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	return nil
}

// runCore runs the core controllers, with the flags that they need here: no webhook of theirs is installed, and no old version is stored.
func (i *Installation) runCore(ctx context.Context, plane *controlplane.ControlPlane, path string, config *rest.Config) error {
	directory := filepath.Join(plane.Directory(), "cluster-api")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	certificate, key := filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key")
	if err := plane.WriteServerCertificate(certificate, key, filepath.Join(directory, "ca.crt")); err != nil {
		return err
	}
	kubeconfig := filepath.Join(directory, "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, config); err != nil {
		return err
	}
	var ports [3]int
	for p := range ports {
		var err error
		if ports[p], err = plane.Port(); err != nil {
			return err
		}
	}
	var err error
	i.Core, err = plane.Run("cluster-api", exec.CommandContext(context.WithoutCancel(ctx), path,
		"--kubeconfig="+kubeconfig, "--webhook-cert-dir="+directory, fmt.Sprintf("--webhook-port=%d", ports[0]),
		fmt.Sprintf("--health-addr=127.0.0.1:%d", ports[1]),
		fmt.Sprintf("--diagnostics-address=127.0.0.1:%d", ports[2]), "--insecure-diagnostics",
		"--skip-crd-migration-phases=StorageVersionMigration,CleanupManagedFields",
		"--additional-sync-machine-labels="+strings.ReplaceAll(v1alpha1.Group, ".", `\.`)+"/.*", "--v=0"))
	return err
}

// makeCluster makes the Cluster, and waits until Cluster API has got to know it.
func (i *Installation) makeCluster(ctx context.Context, o Options) error {
	kubeconfig := filepath.Join(o.Plane.Directory(), "workload.kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, o.Nodes); err != nil {
		return err
	}
	content, err := os.ReadFile(kubeconfig)
	if err != nil {
		return err
	}
	labels := map[string]string{"cluster.x-k8s.io/cluster-name": ClusterName}
	secret := &corev1.Secret{Type: "cluster.x-k8s.io/secret", Data: map[string][]byte{"value": content}}
	secret.Name, secret.Namespace, secret.Labels = ClusterName+"-kubeconfig", o.Namespace, labels
	namespace := &corev1.Namespace{}
	namespace.Name = o.Namespace
	objects := []client.Object{namespace, secret}
	for text := range strings.SplitSeq(fmt.Sprintf(`
apiVersion: tiny.example.com/v1
kind: TinyCluster
metadata: {name: workload}
spec: {controlPlaneEndpoint: {host: 127.0.0.1, port: 6443}}
status: {initialization: {provisioned: true}}
---
apiVersion: tiny.example.com/v1
kind: TinyControlPlane
metadata: {name: workload}
spec: {}
status: {initialization: {controlPlaneInitialized: true}, externalManagedControlPlane: %t}
---
apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata: {name: workload}
spec:
  infrastructureRef: {apiGroup: tiny.example.com, kind: TinyCluster, name: workload}
  controlPlaneRef: {apiGroup: tiny.example.com, kind: TinyControlPlane, name: workload}
`, !o.LeaveNodes), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
			return fmt.Errorf("parse an object of the Cluster: %w", err)
		}
		object.SetNamespace(o.Namespace)
		objects = append(objects, object)
	}
	for _, object := range objects {
		if err := i.Client.Create(ctx, object); err != nil {
			return fmt.Errorf("create %T %s: %w", object, object.GetName(), err)
		}
	}
	return i.clusterReady(ctx, objects[len(objects)-1])
}

func (i *Installation) clusterReady(ctx context.Context, cluster client.Object) error {
	now, ok := cluster.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("the Cluster is a %T", cluster)
	}
	var last error
	err := wait.PollUntilContextTimeout(ctx, readyPoll, readyWithin, true, func(ctx context.Context) (bool, error) {
		last = i.Client.Get(ctx, client.ObjectKeyFromObject(cluster), now)
		is, _, _ := unstructured.NestedBool(now.Object, "status", "initialization", "controlPlaneInitialized")
		return is && last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("cluster API has not taken up the Cluster within %s: %w", readyWithin, errors.Join(err, last))
	}
	return nil
}

// Machines is the namespace that Machines are in by default, here and in manifests/components/cluster-api.
const Machines = "machines"

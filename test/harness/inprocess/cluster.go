// Package inprocess is what tests share that run parts of the product in their own process, on a real API server:
// the cluster, clients that die after so many writes, and waiting.
package inprocess

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/fluxoperator/crd"
)

// Cluster is a control plane that has our definitions and that of the MiniCluster.
type Cluster struct {
	Config *rest.Config
	Scheme *runtime.Scheme
	// Client is the administrator's.
	Client client.WithWatch
	// Port is a port of 127.0.0.1 that no control plane of this machine uses while the tests run.
	Port func() (int, error)
	// Plane is the control plane itself, for programs that run beside it.
	Plane *controlplane.ControlPlane
}

// Main is for a TestMain: it starts a control plane, fills in the cluster, runs the tests, looks for goroutines that
// they have left, and exits.
func Main(m *testing.M, cluster *Cluster, parts controlplane.Parts) {
	code, err := withCluster(cluster, parts, m.Run)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withCluster(cluster *Cluster, parts controlplane.Parts, run func() int) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	plane, err := controlplane.Start(ctx, controlplane.Options{Parts: parts, Progress: os.Stderr})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	disconnect, err := cluster.connect(plane)
	if err != nil {
		return 1, err
	}
	defer disconnect()
	return run(), nil
}

// On is the cluster of a control plane that a test has of its own, until the test ends.
func On(t testing.TB, plane *controlplane.ControlPlane) *Cluster {
	t.Helper()
	c := &Cluster{}
	disconnect, err := c.connect(plane)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(disconnect)
	return c
}

// connect fills in the cluster of a control plane, and installs the definitions there.
func (c *Cluster) connect(plane *controlplane.ControlPlane) (disconnect func(), err error) {
	c.Config = plane.AdminConfig()
	c.Config.QPS = -1
	c.Port, c.Plane = plane.Port, plane
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(crd.MiniClusters, definition); err != nil {
		return nil, fmt.Errorf("parse the definition of the MiniCluster: %w", err)
	}
	definitions, err := definitions()
	if err != nil {
		return nil, err
	}
	if _, err := envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{
		MaxTime: time.Minute,
		Paths:   []string{definitions}, ErrorIfPathMissing: true,
		CRDs: []*apiextensionsv1.CustomResourceDefinition{definition},
	}); err != nil {
		return nil, fmt.Errorf("install the definitions: %w", err)
	}
	c.Scheme = runtime.NewScheme()
	if err := errors.Join(
		clientgoscheme.AddToScheme(c.Scheme), v1alpha1.AddToScheme(c.Scheme), ensemblev1alpha1.AddToScheme(c.Scheme),
	); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	transport, err := rest.HTTPClientFor(c.Config)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	if c.Client, err = client.NewWithWatch(c.Config, client.Options{Scheme: c.Scheme, HTTPClient: transport}); err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return transport.CloseIdleConnections, nil
}

// definitions is the directory of our definitions, in the repository above the directory of the tests.
func definitions() (string, error) {
	working, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for directory := working; ; directory = filepath.Dir(directory) {
		path := filepath.Join(directory, "manifests", "crd")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if directory == filepath.Dir(directory) {
			return "", fmt.Errorf("find the repository: %s is not in it", working)
		}
	}
}

// Patience is how long anything may take on a busy machine. TEST_PATIENCE makes it shorter, for looking into a failure.
var Patience = patience()

func patience() time.Duration {
	if given, err := time.ParseDuration(os.Getenv("TEST_PATIENCE")); err == nil {
		return given
	}
	return 5 * time.Minute
}

// Until waits until nothing is missing, and says what is when it has waited long enough.
func Until(t testing.TB, missing func(context.Context) (string, error)) {
	t.Helper()
	UntilWithin(t, Patience, 20*time.Millisecond, missing)
}

// UntilWithin is Until with a patience and a time between two questions of its own.
func UntilWithin(t testing.TB, patience, poll time.Duration, missing func(context.Context) (string, error)) {
	t.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(t.Context(), poll, patience, true, func(ctx context.Context) (bool, error) {
		now, err := missing(ctx)
		if err != nil {
			return false, err // What was missing before says more than that the time is over.
		}
		last = now
		return last == "", nil
	})
	if err != nil {
		t.Fatalf("%v: %s", err, last)
	}
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/fluxoperator/crd"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// The programs, which are called so in cmd and in manifests too.
const (
	provider   = "provider"
	controller = "controller"
)

// bench is a control plane and what it holds.
type bench struct {
	*options
	progress  io.Writer
	root      string
	programs  map[string]string // paths, by name
	plane     *controlplane.ControlPlane
	client    client.Client
	transport *http.Client
	// nodes are the names of all nodes, jobs the UIDs of the Jobs.
	nodes []string
	jobs  []types.UID
}

func (b *bench) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", arguments...) // Progress that nobody reads is no error.
}

func (b *bench) stop() error {
	err := b.plane.Stop()
	if b.transport != nil {
		b.transport.CloseIdleConnections()
	}
	return err
}

// connect makes the administrator's client.
func (b *bench) connect(context.Context) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("register kinds: %w", err)
	}
	config := b.plane.AdminConfig()
	config.QPS = -1
	var err error
	if b.transport, err = rest.HTTPClientFor(config); err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	if b.client, err = client.New(config, client.Options{Scheme: scheme, HTTPClient: b.transport}); err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	return nil
}

// install installs the definitions, and the rights of the programs.
func (b *bench) install(ctx context.Context) error {
	miniClusters := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(crd.MiniClusters, miniClusters); err != nil {
		return fmt.Errorf("parse the definition of the MiniCluster: %w", err)
	}
	_, err := envtest.InstallCRDs(b.plane.AdminConfig(), envtest.CRDInstallOptions{
		MaxTime: time.Minute,
		Paths: []string{
			filepath.Join(b.root, "manifests", "crd"),
		}, CRDs: []*apiextensionsv1.CustomResourceDefinition{miniClusters}, ErrorIfPathMissing: true,
	})
	if err != nil {
		return fmt.Errorf("install the definitions: %w", err)
	}
	for _, path := range []string{
		"manifests/namespace/namespace.yaml", "manifests/provider/rbac.yaml", "manifests/components/kwok/rbac.yaml",
		"manifests/controller/rbac.yaml",
	} {
		objects, err := b.manifest(path)
		if err != nil {
			return err
		}
		for _, object := range objects {
			if err := b.client.Create(ctx, object); err != nil {
				return fmt.Errorf("create %s %s: %w", object.GetObjectKind().GroupVersionKind().Kind, object.GetName(), err)
			}
		}
	}
	return nil
}

func (b *bench) manifest(path string) ([]client.Object, error) {
	text, err := os.ReadFile(filepath.Join(b.root, filepath.FromSlash(path)))
	if err != nil {
		return nil, err
	}
	objects, err := system.Objects(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := make([]client.Object, len(objects))
	for i := range objects {
		out[i] = objects[i]
	}
	return out, nil
}

// container is what manifests run a program with.
func (b *bench) container(program string) (*corev1.Container, error) {
	path := "manifests/" + program + "/deployment.yaml"
	objects, err := b.manifest(path)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if object.GetObjectKind().GroupVersionKind().Kind != "Deployment" {
			continue
		}
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		deployment := &appsv1.Deployment{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, deployment); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if containers := deployment.Spec.Template.Spec.Containers; len(containers) == 1 {
			return &containers[0], nil
		}
	}
	return nil, fmt.Errorf("%s has no Deployment with one container", path)
}

// file is a path in the control plane's directory, which goes away with it.
func (b *bench) file(name string) string { return filepath.Join(b.plane.Directory(), name) }

func (b *bench) freeAddress() (string, error) {
	port, err := b.plane.Port()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", port), nil
}

// certificates writes those that the programs and the proxy show. In a cluster the programs issue theirs themselves.
func (b *bench) certificates(context.Context) error {
	return b.plane.WriteServerCertificate(b.file("server.crt"), b.file("server.key"), b.file("tls-ca.crt"))
}

// program is one that runs.
type program struct {
	*controlplane.Process
	health string
}

// start starts a program as manifests do, with an API server at a URL, but for the addresses that it listens at and where its certificate
// comes from.
func (b *bench) start(ctx context.Context, name, apiServer string) (*program, error) {
	container, err := b.container(name)
	if err != nil {
		return nil, err
	}
	config, err := b.plane.ServiceAccountConfig(ctx, system.Namespace, name)
	if err != nil {
		return nil, err
	}
	if apiServer != "" {
		authority, err := os.ReadFile(b.file("tls-ca.crt"))
		if err != nil {
			return nil, err
		}
		config.Host, config.CAData = apiServer, authority
	}
	kubeconfig := b.file(name + ".kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, config); err != nil {
		return nil, err
	}
	addresses := make([]string, 4)
	for i := range addresses {
		if addresses[i], err = b.freeAddress(); err != nil {
			return nil, err
		}
	}
	arguments := append(slices.Clone(container.Args), "--kubeconfig="+kubeconfig, "--leader-election-namespace="+system.Namespace,
		"--grpc-address="+addresses[0], "--health-address="+addresses[1], "--metrics-address="+addresses[2],
		"--tls-cert-file="+b.file("server.crt"), "--tls-key-file="+b.file("server.key"), "--namespace="+system.Namespace)
	switch name {
	case provider:
		// The component kwok of manifests adds the first of these.
		arguments = append(arguments, "--kwok", "--expander-address="+addresses[3], "--client-ca-file="+b.file("tls-ca.crt"))
	case controller:
		arguments = append(arguments, "--webhook-address="+addresses[3])
	}
	command := exec.CommandContext(ctx, b.programs[name], arguments...)
	command.Env = os.Environ()
	for _, variable := range container.Env {
		command.Env = append(command.Env, variable.Name+"="+variable.Value)
	}
	process, err := b.plane.Run(name, command)
	if err != nil {
		return nil, err
	}
	return &program{process, addresses[1]}, nil
}

// ready waits until a program is.
func (p *program) ready(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.Done():
			cancel(errors.New("it has ended"))
		case <-ctx.Done():
		}
	}()
	if err := harness.Poll(ctx, poll, readyWithin, func() string { return p.unready(ctx) }); err != nil {
		return fmt.Errorf(
			"wait for the %s, whose last words are %q: %w", p.Name(), harness.LastLine(p.LogFile()), cmp.Or(context.Cause(ctx), err),
		)
	}
	return nil
}

// unready says why a program is not ready, empty when it is.
func (p *program) unready(ctx context.Context) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.health+"/readyz", http.NoBody)
	if err != nil {
		return err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return p.Name() + " is not ready: " + response.Status
	}
	return ""
}

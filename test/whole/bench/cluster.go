package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	holds "github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/estate"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// cluster is a control plane that holds so much, with a provider.
type cluster struct {
	*bench
	size      size
	plane     *controlplane.ControlPlane
	client    client.Client
	transport *http.Client
	provider  *controlplane.Process
	address   string // of the provider
	expander  string // its address
}

// startCluster starts etcd, kube-apiserver and the provider, and returns when the provider is at rest.
func (b *bench) startCluster(ctx context.Context, s size) (*cluster, error) {
	b.say("%s: starting etcd and kube-apiserver", s)
	plane, err := controlplane.Start(ctx, controlplane.Options{Binaries: b.binaries, Progress: b.progress})
	if err != nil {
		return nil, err
	}
	c := &cluster{bench: b, size: s, plane: plane}
	for _, step := range []func(context.Context) error{c.connect, c.install, c.fill, c.startProvider, c.settle} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	return c, nil
}

func (c *cluster) stop() error {
	err := c.plane.Stop()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
	return err
}

// connect makes the administrator's client.
func (c *cluster) connect(context.Context) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("register kinds: %w", err)
	}
	config := c.plane.AdminConfig()
	var err error
	if c.transport, err = rest.HTTPClientFor(config); err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	if c.client, err = client.New(config, client.Options{Scheme: scheme, HTTPClient: c.transport}); err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	return nil
}

// fill puts the estate into the cluster.
func (c *cluster) fill(ctx context.Context) error {
	return (&holds.Filler{Client: c.client, Progress: c.progress}).Fill(ctx, c.size)
}

// install installs the definitions and the rights of the provider's ServiceAccount.
func (c *cluster) install(ctx context.Context) error {
	_, err := envtest.InstallCRDs(c.plane.AdminConfig(), envtest.CRDInstallOptions{
		MaxTime: time.Minute,
		Paths:   []string{filepath.Join(c.root, "manifests", "crd")}, ErrorIfPathMissing: true,
	})
	if err != nil {
		return fmt.Errorf("install the definitions: %w", err)
	}
	for _, path := range []string{
		"manifests/namespace/namespace.yaml", "manifests/provider/rbac.yaml", "manifests/components/kwok/rbac.yaml",
	} {
		text, err := os.ReadFile(filepath.Join(c.root, filepath.FromSlash(path)))
		if err != nil {
			return err
		}
		objects, err := system.Objects(text)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, object := range objects {
			if err := c.client.Create(ctx, object); err != nil {
				return fmt.Errorf("create %s %s: %w", object.GetKind(), object.GetName(), err)
			}
		}
	}
	return nil
}

// file is a path in the control plane's directory, which goes away with it.
func (c *cluster) file(name string) string { return filepath.Join(c.plane.Directory(), name) }

func (c *cluster) serverFiles() files {
	return files{Certificate: c.file("provider.crt"), Key: c.file("provider.key"), Authority: c.file("tls-ca.crt")}
}

func (c *cluster) clientFiles() files {
	return files{Certificate: c.file("autoscaler.crt"), Key: c.file("autoscaler.key"), Authority: c.file("tls-ca.crt")}
}

// startProvider starts the provider with its own rights, and with mutual TLS.
func (c *cluster) startProvider(ctx context.Context) (err error) {
	server, autoscaler := c.serverFiles(), c.clientFiles()
	if err := c.plane.WriteServerCertificate(server.Certificate, server.Key, server.Authority); err != nil {
		return err
	}
	if err := c.plane.WriteClientCertificate("cluster-autoscaler", autoscaler.Certificate, autoscaler.Key, autoscaler.Authority); err != nil {
		return err
	}
	config, err := c.plane.ServiceAccountConfig(ctx, system.Namespace, "provider")
	if err != nil {
		return err
	}
	if err := controlplane.WriteKubeconfig(c.file("provider.kubeconfig"), config); err != nil {
		return err
	}
	if c.address, err = c.freeAddress(); err != nil {
		return err
	}
	if c.expander, err = c.freeAddress(); err != nil {
		return err
	}
	c.provider, err = c.plane.Run("provider", exec.CommandContext(ctx, c.bench.provider,
		"--kubeconfig="+c.file("provider.kubeconfig"), "--grpc-address="+c.address, "--expander-address="+c.expander,
		"--metrics-address=0", "--health-address=0", "--leader-elect=false", "--max-requests-per-second=0", "--kwok",
		"--tls-cert-file="+server.Certificate, "--tls-key-file="+server.Key, "--client-ca-file="+server.Authority))
	return err
}

func (c *cluster) freeAddress() (string, error) {
	port, err := c.plane.Port()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", port), nil
}

// startConstant starts the server that answers constants and returns its address.
func (c *cluster) startConstant(ctx context.Context) (string, error) {
	address, err := c.freeAddress()
	if err != nil {
		return "", err
	}
	order := c.file("constant.json")
	err = writeJSON(order, &constantOrder{
		Address: address, Server: c.serverFiles(), Client: c.clientFiles(), Provider: c.address, Size: c.size,
	})
	if err != nil {
		return "", err
	}
	_, err = c.plane.Run("constant", exec.CommandContext(ctx, c.options.program, constantRole, order))
	return address, err
}

// ask lets a client in a process of its own do something, and returns what it found.
func (c *cluster) ask(ctx context.Context, order *clientOrder) (*clientAnswer, error) {
	order.Client, order.Provider, order.Expander, order.Size, order.Effort = c.clientFiles(), c.address, c.expander, c.size, c.options.effort
	path := c.file("client.json")
	if err := writeJSON(path, order); err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, c.options.program, clientRole, path)
	command.Stderr = c.progress
	command.WaitDelay = time.Second
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("the client (log of the provider: %s): %w", harness.LastLine(c.provider.LogFile()), err)
	}
	answer := &clientAnswer{}
	return answer, readJSON(output, answer)
}

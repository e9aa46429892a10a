// Package jobset runs the real controller of JobSets, with its webhooks, beside an embedded control plane. It is built from a go.mod of its
// own, whose versions of the modules of Kubernetes are those that the control plane is built from.
package jobset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

// Variable is the environment variable that names a binary of the controller in the place of the one that is built.
const Variable = "JOBSET"

func program() controlplane.Program {
	return controlplane.Program{
		Name: "jobset", Module: "test/harness/jobset/program", ImportPath: "sigs.k8s.io/jobset", Required: "sigs.k8s.io/jobset",
		Variable: Variable, Usually: 30 * time.Second,
	}
}

// Build makes the controller, or finds it where it was built before, and returns its path.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	return controlplane.BuildProgram(ctx, progress, program())
}

// Options say what Start starts.
type Options struct {
	// Elastic switches the feature gate ElasticJobSet on, by which the sizes of the Jobs of a JobSet can change. It is off by default, here as
	// there.
	Elastic bool
	// Progress receives what is being built.
	Progress io.Writer
}

// Controller is the controller, running.
type Controller struct {
	*controlplane.Process

	configuration, health string
	content               configuration
}

// configuration is what the controller is told, as its file has it.
type configuration struct {
	metav1.TypeMeta `json:",inline"`

	Webhook                webhook           `json:"webhook"`
	Health                 map[string]string `json:"health"`
	Metrics                map[string]string `json:"metrics"`
	LeaderElection         map[string]bool   `json:"leaderElection"`
	InternalCertManagement map[string]bool   `json:"internalCertManagement"`
	FeatureGates           map[string]bool   `json:"featureGates"`
}

// webhook is where the controller serves its webhooks.
type webhook struct {
	Host    string `json:"host"`
	Port    int    `json:"port"`
	CertDir string `json:"certDir"`
}

// Start installs the definition of JobSets and the webhooks, starts the controller and waits until it is ready. It ends with the control
// plane at the latest.
func Start(ctx context.Context, plane *controlplane.ControlPlane, o Options) (*Controller, error) {
	path, err := Build(ctx, o.Progress)
	if err != nil {
		return nil, err
	}
	if err := InstallDefinition(ctx, plane); err != nil {
		return nil, err
	}
	directory := filepath.Join(plane.Directory(), "jobset")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	authority := filepath.Join(directory, "ca.crt")
	if err := plane.WriteServerCertificate(filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key"), authority); err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(directory, "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, plane.AdminConfig()); err != nil {
		return nil, err
	}
	port, health, err := ports(plane)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		configuration: filepath.Join(directory, "configuration.yaml"), health: fmt.Sprintf("http://127.0.0.1:%d/readyz", health),
		content: configuration{
			TypeMeta:               metav1.TypeMeta{APIVersion: "config.jobset.x-k8s.io/v1alpha1", Kind: "Configuration"},
			Webhook:                webhook{Host: "127.0.0.1", Port: port, CertDir: directory},
			Health:                 map[string]string{"healthProbeBindAddress": fmt.Sprintf("127.0.0.1:%d", health)},
			Metrics:                map[string]string{"bindAddress": "0"},
			LeaderElection:         map[string]bool{"leaderElect": false},
			InternalCertManagement: map[string]bool{"enable": false},
		},
	}
	if err := c.write(o.Elastic); err != nil {
		return nil, err
	}
	c.Process, err = plane.Run("jobset", exec.CommandContext(
		context.WithoutCancel(ctx), path, "--kubeconfig="+kubeconfig, "--config="+c.configuration, "--zap-log-level=info",
	))
	if err != nil {
		return nil, err
	}
	if err := c.Answers(ctx, c.health); err != nil {
		return nil, err
	}
	return c, installWebhooks(ctx, plane, authority, port)
}

// Restart kills the controller, as a crash would, and starts it again with the feature gate ElasticJobSet on or off.
func (c *Controller) Restart(ctx context.Context, elastic bool) error {
	if err := c.write(elastic); err != nil {
		return err
	}
	if err := c.Process.Restart(); err != nil {
		return err
	}
	return c.Answers(ctx, c.health)
}

// write writes the file that the controller reads when it starts.
func (c *Controller) write(elastic bool) error {
	c.content.FeatureGates = map[string]bool{"ElasticJobSet": elastic}
	text, err := yaml.Marshal(c.content)
	if err != nil {
		return fmt.Errorf("encode the configuration of JobSet: %w", err)
	}
	return os.WriteFile(c.configuration, text, 0o600)
}

// ports are those of the webhooks and of the health checks.
func ports(plane *controlplane.ControlPlane) (webhooks, health int, err error) {
	if webhooks, err = plane.Port(); err != nil {
		return 0, 0, err
	}
	health, err = plane.Port()
	return webhooks, health, err
}

// Definition is the directory of the file that defines JobSets. It is in the module: nothing is built for that.
func Definition(ctx context.Context) (string, error) {
	return controlplane.ModuleFile(ctx, program(), "config/components/crd/bases")
}

// InstallDefinition installs the definition of JobSets.
func InstallDefinition(ctx context.Context, plane *controlplane.ControlPlane) error {
	path, err := Definition(ctx)
	if err != nil {
		return err
	}
	if _, err := envtest.InstallCRDs(
		plane.AdminConfig(), envtest.CRDInstallOptions{MaxTime: time.Minute, Paths: []string{path}, ErrorIfPathMissing: true},
	); err != nil {
		return fmt.Errorf("install the definition of JobSets: %w", err)
	}
	return nil
}

// installWebhooks has the API server ask the controller what it asks it in a cluster, at a port of this machine. Of pods that is asked of
// those of JobSets alone, as the patches of the controller's own manifests have it.
func installWebhooks(ctx context.Context, plane *controlplane.ControlPlane, authority string, port int) error {
	trusted, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	path, err := controlplane.ModuleFile(ctx, program(), "config/components/webhook/manifests.yaml")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	mutating, validating, err := parseWebhooks(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	direct := func(config *admissionregistrationv1.WebhookClientConfig) {
		if service := config.Service; service != nil && service.Path != nil {
			config.URL, config.Service, config.CABundle = new(fmt.Sprintf("https://127.0.0.1:%d%s", port, *service.Path)), nil, trusted
		}
	}
	for i := range mutating.Webhooks {
		direct(&mutating.Webhooks[i].ClientConfig)
		mutating.Webhooks[i].ObjectSelector = selectorOf(mutating.Webhooks[i].Rules)
	}
	for i := range validating.Webhooks {
		direct(&validating.Webhooks[i].ClientConfig)
		validating.Webhooks[i].ObjectSelector = selectorOf(validating.Webhooks[i].Rules)
	}
	mutating.Name, validating.Name = "jobset-"+mutating.Name, "jobset-"+validating.Name
	admin, err := client.New(plane.AdminConfig(), client.Options{})
	if err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	return errors.Join(admin.Create(ctx, mutating), admin.Create(ctx, validating))
}

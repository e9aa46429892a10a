// Package system runs everything together on an embedded control plane: the provider and the controller as
// their real binaries, each with the rights of its ServiceAccount in manifests/, mutual TLS between Cluster
// Autoscaler and the provider, and Cluster Autoscaler and the Flux Operator, real or stand-ins.
package system

import (
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

// Namespace is where provider and controller belong.
const Namespace = "ensemble-autoscaler-system"

const (
	// readyWithin bounds the start of a program.
	readyWithin = 5 * time.Minute
	readyPoll   = 50 * time.Millisecond
)

// Options say how a System runs.
type Options struct {
	// LogDir is where each process has its log. The default is in the control plane's directory.
	LogDir string
	// Progress receives what is being built or waited for.
	Progress io.Writer
	// AutoscalerFlags are flags of Cluster Autoscaler besides those that it needs to run here.
	AutoscalerFlags []string
	// ProviderFlags are flags of the provider besides those that it needs to run here.
	ProviderFlags []string
	// ControllerFlags are flags of the controller besides those that it needs to run here.
	ControllerFlags []string
	// LeaderElection lets provider and controller elect a leader among their replicas. One that is killed then
	// keeps its lease for a while.
	LeaderElection bool
	// APIServerArguments are further flags of kube-apiserver.
	APIServerArguments []string
	// PodsAtOnce is how many pods start at a time: controlplane.Options.PodsAtOnce.
	PodsAtOnce int
	// ProviderOnly leaves out the scheduler, the controllers, Cluster Autoscaler and the Flux Operator: the test
	// plays their parts.
	ProviderOnly bool
	// WithoutPods leaves out the same, but not the controller: pods are objects that somebody writes.
	WithoutPods bool
	// PodWebhook has the webhook of manifests/overlays/pod-webhook give pods their gate in place of the policy, as on Kubernetes
	// before 1.36.
	PodWebhook bool
	// WithoutRaces runs provider and controller without the race detector, in whose company they take several times the memory.
	WithoutRaces bool
	// WithoutKwok leaves out the simulated cloud, its flag of the provider and its rights: machines come from another backend.
	WithoutKwok bool
	// Install takes the place of what installs definitions, rights, webhooks and policies, that of the MiniCluster among them. When it
	// returns they are there.
	Install func(ctx context.Context, s *System) error
	// Prepare installs what else programs need, when the definitions and rights are installed and nothing runs. It returns further flags of
	// the provider.
	Prepare func(ctx context.Context, s *System) (providerFlags []string, err error)
}

// System is everything, running.
type System struct {
	// Plane is the control plane that everything runs on.
	Plane *controlplane.ControlPlane
	// Client is the administrator's.
	Client client.WithWatch
	// Provider, Controller, Autoscaler and Operator are the processes.
	Provider, Controller, Autoscaler, Operator *controlplane.Process
	// EndpointAddress is where ensemble members are served, ProviderAddress where Cluster Autoscaler is, and ExpanderAddress
	// where it asks which group to expand.
	EndpointAddress, ProviderAddress, ExpanderAddress string

	// ProviderMetrics and ControllerMetrics are the addresses that serve /metrics, WebhookAddress is where the API server asks.
	ProviderMetrics, ControllerMetrics, WebhookAddress string
	// ProviderProbes and ControllerProbes are the addresses that the kubelet would ask whether the programs live and are ready.
	ProviderProbes, ControllerProbes string
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string

	programs  programs
	options   Options
	root      string
	progress  io.Writer
	transport *http.Client
}

// Start starts everything and returns when provider and controller are ready. The context bounds the start
// only; the system runs until Stop.
func Start(ctx context.Context, options Options) (*System, error) {
	if options.Progress == nil {
		options.Progress = io.Discard
	}
	s := &System{progress: options.Progress, options: options}
	var err error
	if s.root, err = moduleRoot(); err != nil {
		return nil, err
	}
	if s.programs, err = buildPrograms(ctx, s.root, raceDetector && !options.WithoutRaces, options.Progress); err != nil {
		return nil, err
	}
	binaries, err := controlplane.Build(ctx, options.Progress)
	if err != nil {
		return nil, err
	}
	parts, nodeLease := controlplane.All, time.Duration(0)
	if options.ProviderOnly || options.WithoutPods {
		// No controller looks whether the nodes renew their leases; thousands that do so cost more than what is looked at.
		parts, nodeLease = controlplane.Kwok, time.Hour
	}
	s.say("starting the control plane")
	s.Plane, err = controlplane.Start(ctx, controlplane.Options{
		Parts: parts, LogDir: options.LogDir, Binaries: binaries, Progress: options.Progress,
		APIServerArguments: options.APIServerArguments, NodeLease: nodeLease, PodsAtOnce: options.PodsAtOnce,
	})
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *System) start(ctx context.Context) error {
	install := s.install
	if s.options.Install != nil {
		install = func(ctx context.Context) error { return s.options.Install(ctx, s) }
	}
	for _, step := range []func(context.Context) error{s.connect, install} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if s.options.Prepare != nil {
		flags, err := s.options.Prepare(ctx, s)
		if err != nil {
			return err
		}
		s.options.ProviderFlags = slices.Concat(s.options.ProviderFlags, flags)
	}
	if s.options.ProviderOnly {
		s.say("starting provider")
		if err := s.startProvider(ctx); err != nil {
			return err
		}
		if err := s.ready(ctx, "provider", s.ProviderProbes); err != nil {
			return err
		}
		return s.mountClientSecret(ctx)
	}
	if s.options.WithoutPods {
		s.say("starting provider and controller")
		if err := errors.Join(s.startProvider(ctx), s.startController(ctx)); err != nil {
			return err
		}
		if err := errors.Join(s.ready(ctx, "provider", s.ProviderProbes), s.ready(ctx, "controller", s.ControllerProbes)); err != nil {
			return err
		}
		return errors.Join(s.mountClientSecret(ctx), s.admits(ctx))
	}
	s.say("starting provider, controller, %s and %s", nameOf(s.programs.clusterAutoscaler), nameOf(s.programs.fluxOperator))
	if err := s.startProvider(ctx); err != nil {
		return err
	}
	if err := s.startController(ctx); err != nil {
		return err
	}
	if err := s.startOperator(); err != nil {
		return err
	}
	for name, address := range map[string]string{"provider": s.ProviderProbes, "controller": s.ControllerProbes} {
		if err := s.ready(ctx, name, address); err != nil {
			return err
		}
	}
	if err := s.admits(ctx); err != nil {
		return err
	}
	return s.startAutoscaler(ctx)
}

func nameOf(program string) string { return filepath.Base(program) }

func (s *System) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(s.progress, format+"\n", arguments...) // Progress that nobody reads is no error.
}

// connect makes the administrator's client.
func (s *System) connect(context.Context) error {
	config := s.Plane.AdminConfig()
	// What users are warned of is a matter of tests of their own.
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register the kinds of Kubernetes: %w", err)
	}
	if err := errors.Join(v1alpha1.AddToScheme(scheme), ensemblev1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("register our kinds: %w", err)
	}
	var err error
	if s.transport, err = rest.HTTPClientFor(config); err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	if s.Client, err = client.NewWithWatch(config, client.Options{Scheme: scheme, HTTPClient: s.transport}); err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	s.Kubeconfig = filepath.Join(s.Plane.Directory(), "admin.kubeconfig")
	return controlplane.WriteKubeconfig(s.Kubeconfig, config)
}

// install installs the definitions, and of the manifests what the binaries need when they run beside the
// cluster: the namespace, the rights of their ServiceAccounts, who may write a NodePool's target, which Secrets the
// provider may create, and what the controller looks at before it is stored. Those of a program of an older release may be
// of that release.
func (s *System) install(ctx context.Context) error {
	definition := crd.MiniClusters
	if path := os.Getenv(FluxOperatorCRDVariable); path != "" {
		var err error
		if definition, err = os.ReadFile(path); err != nil {
			return fmt.Errorf("%s: %w", FluxOperatorCRDVariable, err)
		}
	}
	miniClusters := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(definition, miniClusters); err != nil {
		return fmt.Errorf("parse the definition of the MiniCluster: %w", err)
	}
	_, err := envtest.InstallCRDs(s.Plane.AdminConfig(), envtest.CRDInstallOptions{
		MaxTime:            time.Minute,
		Paths:              []string{filepath.Join(s.root, "manifests", "crd")},
		CRDs:               []*apiextensionsv1.CustomResourceDefinition{miniClusters},
		ErrorIfPathMissing: true,
	})
	if err != nil {
		return fmt.Errorf("install the definitions: %w", err)
	}
	for _, path := range []string{
		"manifests/namespace/namespace.yaml", "manifests/certificates/rbac.yaml", "manifests/certificates/admission.yaml",
		"examples/cluster-autoscaler/rbac.yaml",
	} {
		if err := s.applyPart(ctx, path); err != nil {
			return err
		}
	}
	files := map[string][]string{"provider": {"rbac.yaml", "admission.yaml"}, "controller": {"rbac.yaml"}}
	if !s.options.ProviderOnly {
		// The API server waits for the controller before it takes a NodePool.
		files["controller"] = append(files["controller"], "admission.yaml", "gates.yaml")
	}
	for program, names := range files {
		for _, file := range names {
			path := filepath.Join(manifests(s.root, program), program, file)
			var kinds []string
			if s.options.PodWebhook && file == "gates.yaml" {
				kinds = []string{"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
			}
			// A controller from before there were gates does not take any away.
			if err := s.applyPart(ctx, path, kinds...); err != nil && (file != "gates.yaml" || !errors.Is(err, os.ErrNotExist)) {
				return err
			}
		}
	}
	if s.simulates() {
		// A version from before there was a policy has the rights alone.
		policy := filepath.Join(filepath.Dir(simulated(s.root)), "admission.yaml")
		if err := s.applyPart(ctx, policy); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := s.applyPart(ctx, simulated(s.root)); err != nil {
			return err
		}
	}
	if s.options.PodWebhook {
		return s.applyPart(ctx, "manifests/overlays/pod-webhook/webhook.yaml")
	}
	return nil
}

// file is a path in the control plane's directory, which goes away with it.
func (s *System) file(name string) string { return filepath.Join(s.Plane.Directory(), name) }

// serviceAccount writes a kubeconfig with the rights of a ServiceAccount.
func (s *System) serviceAccount(ctx context.Context, namespace, name string) (path string, err error) {
	return s.serviceAccountAt(ctx, namespace, name, name, "")
}

// serviceAccountAt is serviceAccount for a program that reaches the API server at a URL of its own, unless that is
// empty.
func (s *System) serviceAccountAt(ctx context.Context, namespace, name, program, apiServer string) (path string, err error) {
	config, err := s.Plane.ServiceAccountConfig(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	if apiServer != "" {
		config.Host = apiServer
	}
	path = s.file(program + ".kubeconfig")
	return path, controlplane.WriteKubeconfig(path, config)
}

// address reserves an address of 127.0.0.1.
func (s *System) address() (string, error) {
	port, err := s.Plane.Port()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", port), nil
}

func (s *System) startProvider(ctx context.Context) (err error) {
	if s.ProviderAddress, err = s.address(); err != nil {
		return err
	}
	if s.ProviderProbes, err = s.address(); err != nil {
		return err
	}
	if s.ProviderMetrics, err = s.address(); err != nil {
		return err
	}
	if s.ExpanderAddress, err = s.address(); err != nil {
		return err
	}
	s.Provider, err = s.runProvider(ctx, "provider", "", s.ProviderAddress, s.ExpanderAddress, s.ProviderProbes, s.ProviderMetrics)
	return err
}

func (s *System) runProvider(
	ctx context.Context, name, apiServer, address, expander, health, metrics string,
) (*controlplane.Process, error) {
	kubeconfig, err := s.serviceAccountAt(ctx, Namespace, "provider", name, apiServer)
	if err != nil {
		return nil, err
	}
	flags := append(s.commonFlags(kubeconfig, address, health, metrics),
		"--expander-address="+expander, "--namespace="+Namespace, "--tls-extra-names=127.0.0.1")
	if s.simulates() {
		flags = append(flags, "--kwok")
	}
	return s.Plane.Run(name, exec.Command(s.programs.provider, append(flags, s.options.ProviderFlags...)...))
}

// simulated is the file with the rights that the provider needs for simulated machines. A release from before they were apart has none.
func simulated(root string) string {
	return filepath.Join(manifests(root, "provider"), "components", "kwok", "rbac.yaml")
}

// simulates reports whether the provider has the flag of the simulated cloud.
func (s *System) simulates() bool {
	_, err := os.Stat(simulated(s.root))
	return !s.options.WithoutKwok && err == nil
}

// commonFlags are those of both binaries.
func (s *System) commonFlags(kubeconfig, address, health, metrics string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig, "--grpc-address=" + address, "--metrics-address=" + metrics, "--health-address=" + health, "--verbosity=1",
		fmt.Sprintf("--leader-elect=%t", s.options.LeaderElection), "--leader-election-namespace=" + Namespace,
	}
}

func (s *System) startOperator() (err error) {
	s.Operator, err = s.Plane.Run("flux-operator", exec.Command(s.programs.fluxOperator,
		"--kubeconfig="+s.Kubeconfig, "--metrics-bind-address=0", "--health-probe-bind-address=0", "--leader-elect=false"))
	return err
}

func (s *System) startAutoscaler(ctx context.Context) (err error) {
	kubeconfig, err := s.serviceAccount(ctx, Namespace, "cluster-autoscaler")
	if err != nil {
		return err
	}
	if err := s.mountClientSecret(ctx); err != nil {
		return err
	}
	config, err := yaml.Marshal(map[string]string{
		"address": s.ProviderAddress,
		"cert":    s.file("autoscaler.crt"), "key": s.file("autoscaler.key"), "cacert": s.file("tls-ca.crt"),
	})
	if err != nil {
		return fmt.Errorf("write the cloud config of Cluster Autoscaler: %w", err)
	}
	if err := os.WriteFile(s.file("cloud-config.yaml"), config, 0o600); err != nil {
		return fmt.Errorf("write the cloud config of Cluster Autoscaler: %w", err)
	}
	own, err := s.address()
	if err != nil {
		return err
	}
	s.Autoscaler, err = s.Plane.Run("cluster-autoscaler", exec.Command(s.programs.clusterAutoscaler, append([]string{
		"--kubeconfig=" + kubeconfig, "--cloud-provider=externalgrpc", "--cloud-config=" + s.file("cloud-config.yaml"),
		"--namespace=" + Namespace, "--enforce-node-group-min-size=true", "--leader-elect=false", "--address=" + own,
		"--expander=grpc,least-waste", "--grpc-expander-url=" + s.ExpanderAddress, "--grpc-expander-cert=" + s.file("tls-ca.crt"),
	}, s.options.AutoscalerFlags...)...))
	return err
}

// RestartProvider kills the provider as a crash would and starts it again.
func (s *System) RestartProvider(ctx context.Context) error {
	if err := s.Provider.Restart(); err != nil {
		return err
	}
	return s.ready(ctx, "provider", s.ProviderProbes)
}

// RestartController kills the controller as a crash would and starts it again.
func (s *System) RestartController(ctx context.Context) error {
	if err := s.Controller.Restart(); err != nil {
		return err
	}
	if err := s.ready(ctx, "controller", s.ControllerProbes); err != nil {
		return err
	}
	return s.admits(ctx)
}

// RestartAutoscaler kills Cluster Autoscaler as a crash would and starts it again. Nobody waits for its first loop: it
// is a client of the provider, and has all the time that it takes.
func (s *System) RestartAutoscaler(context.Context) error { return s.Autoscaler.Restart() }

// ready waits until a program says that it is ready.
func (s *System) ready(ctx context.Context, name, address string) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, readyPoll, readyWithin, true, func(ctx context.Context) (bool, error) {
		last = probe(ctx, address)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%s was not ready within %s (%w); its log is %s", name, readyWithin, last, filepath.Join(s.Plane.LogDir(), name+".log"))
	}
	return nil
}

// Metrics is what a program tells Prometheus.
func (s *System) Metrics(ctx context.Context, address string) (string, error) {
	return fetch(ctx, "http://"+address+"/metrics")
}

// Stop ends everything.
func (s *System) Stop() error {
	err := s.Plane.Stop()
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	return err
}

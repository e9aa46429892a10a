package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/certificates"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/mutualtls"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// TLSConfig says which certificate the controller shows: to the API server, which calls its webhooks, and to those who
// speak TLS with the ensemble endpoint. Members speak none.
type TLSConfig struct {
	// Off is to have no certificate: TLS is not offered, and there are no webhooks.
	Off bool
	// CertFile and KeyFile are both given, or none.
	CertFile, KeyFile string
	// Namespace is where the Services and the Secret are; empty for that of the pod.
	Namespace string
	// Secret is a name in Namespace.
	Secret string
	// Services are names of Services in Namespace, ExtraNames further DNS names or IP addresses.
	Services, ExtraNames []string
	Lifetimes            certificates.Lifetimes
}

const day = 24 * time.Hour

func (c *TLSConfig) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(
		&c.Off, "disable-tls", false,
		"have no certificate: the ensemble endpoint does not offer TLS, and there are no webhooks (leave out "+
			"manifests/controller/admission.yaml, which has the API server wait for them)",
	)
	flags.StringVar(
		&c.CertFile, "tls-cert-file", "",
		"certificate of the endpoint and of the webhooks, PEM; with it certificates come from files, which are read again when they change, "+
			"and none are issued",
	)
	flags.StringVar(&c.KeyFile, "tls-key-file", "", "private key of the certificate, PEM")
	flags.StringVar(&c.Namespace, "namespace", "", "namespace of the controller's Services and Secret; without it that of the pod")
	flags.StringVar(
		&c.Secret, "tls-secret", "ensemble-autoscaler-controller-tls",
		"Secret for the certificates of the authority and of the controller, with their keys",
	)
	flags.StringSliceVar(
		&c.Services, "tls-services", []string{"ensemble-autoscaler", "webhook"}, "Services in the namespace that the certificate is for",
	)
	flags.StringSliceVar(&c.ExtraNames, "tls-extra-names", nil, "further DNS names and IP addresses that the certificate is for")
	flags.DurationVar(&c.Lifetimes.Certificate, "certificate-lifetime", 365*day, "life of a certificate that is issued")
	flags.DurationVar(&c.Lifetimes.RenewBefore, "certificate-renew-before", 90*day, "how long before its end a certificate is replaced")
	flags.DurationVar(&c.Lifetimes.Authority, "authority-lifetime", 10*365*day, "life of the authority that issues")
}

func (c *TLSConfig) validate(given func(flag string) bool) error {
	for _, flag := range []string{
		"tls-secret", "tls-services", "tls-extra-names", "certificate-lifetime", "certificate-renew-before", "authority-lifetime",
	} {
		if (c.Off || c.CertFile != "") && given(flag) {
			return fmt.Errorf(
				"--%s is about certificates that the controller issues, which it does neither with --disable-tls nor with "+
					"--tls-cert-file: leave it out",
				flag,
			)
		}
	}
	l := c.Lifetimes
	switch {
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("--tls-cert-file and --tls-key-file are needed together (without both the controller issues a certificate itself)")
	case c.Off && c.CertFile != "":
		return errors.New("--disable-tls and --tls-cert-file contradict each other: give the one or the other")
	case len(c.Services)+len(c.ExtraNames) == 0:
		return errors.New("--tls-services and --tls-extra-names are both empty; the certificate must be for a name")
	case c.Secret == "" || strings.Contains(c.Secret, "/"):
		return fmt.Errorf("--tls-secret is %q; it must be the name of a Secret in the controller's namespace", c.Secret)
	case l.RenewBefore <= 0 || l.Certificate <= l.RenewBefore:
		return fmt.Errorf(
			"--certificate-renew-before is %s; it must be positive and shorter than --certificate-lifetime, %s", l.RenewBefore, l.Certificate,
		)
	case l.Authority < 2*l.Certificate:
		return fmt.Errorf("--authority-lifetime is %s; it must be at least twice --certificate-lifetime, %s", l.Authority, l.Certificate)
	}
	return nil
}

// filesEvery is how often certificate files are read. The kubelet takes up to a minute to bring a Secret that has
// changed to a pod.
const filesEvery = 10 * time.Second

// webhookConfigurations are the names of the ValidatingWebhookConfigurations and MutatingWebhookConfigurations that are told whom
// to trust: those of manifests/controller, that of manifests/overlays/pod-webhook, and those of manifests/components for each kind that is
// managed beside MiniClusters, such as kind-job.
func webhookConfigurations(managed member.Kinds) []string {
	names := []string{"ensemble-autoscaler", "ensemble-autoscaler-gates"}
	for _, kind := range managed {
		if words := kind.Words(); words.Prefix != "" {
			names = append(names, "ensemble-autoscaler-kind-"+strings.ToLower(words.Kind))
		}
	}
	return names
}

// secure has a certificate come from where the flags say. It is nil where there is to be none.
func secure(mgr manager.Manager, c *TLSConfig, managed member.Kinds, log logr.Logger) (*mutualtls.Security, error) {
	if c.Off {
		return nil, nil
	}
	security, err := mutualtls.New(nil, metrics.Registry, clock.RealClock{}, log.WithName("tls"))
	if err != nil {
		return nil, err
	}
	if err := mgr.AddReadyzCheck("certificate", security.Check); err != nil {
		return nil, fmt.Errorf("add the readiness probe of the certificate: %w", err)
	}
	if c.CertFile != "" {
		files := &mutualtls.Files{
			CertificateFile: c.CertFile, KeyFile: c.KeyFile, Security: security, Every: filesEvery, Clock: clock.RealClock{},
			Log: log.WithName("tls"),
		}
		// A wrong path is told at once, not by a pod that never becomes ready.
		if err := files.Load(); err != nil {
			return nil, fmt.Errorf("use --tls-cert-file and --tls-key-file: %w", err)
		}
		return security, mgr.Add(files)
	}
	namespace, err := process.Namespace(c.Namespace)
	if err != nil {
		return nil, err
	}
	return security, certificates.AddToManager(mgr, certificates.Options{
		ServerSecret: types.NamespacedName{Namespace: namespace, Name: c.Secret},
		ServerNames:  certificates.Names(namespace, c.Services, c.ExtraNames), Lifetimes: c.Lifetimes, Webhooks: webhookConfigurations(managed),
		Security: security, Client: mgr.GetClient(), Events: mgr.GetEventRecorder(name), Clock: clock.RealClock{},
	})
}

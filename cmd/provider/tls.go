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
)

// TLSConfig says how the connection with Cluster Autoscaler is secured: with certificates of our own, which is the
// default, with certificates from files, or not at all.
type TLSConfig struct {
	// Insecure is to serve without TLS.
	Insecure bool
	// CertFile, KeyFile and ClientCAFile are all given, or none.
	CertFile, KeyFile, ClientCAFile string
	// ClientNames are whom the server answers; the first is issued to.
	ClientNames []string
	// Namespace is where the Services and Secrets are; empty for that of the pod.
	Namespace string
	// ServerSecret is a name in Namespace, ClientSecret that or namespace/name.
	ServerSecret, ClientSecret string
	// Services are names of Services in Namespace, ExtraNames further DNS names or IP addresses.
	Services, ExtraNames []string
	Lifetimes            certificates.Lifetimes
}

const day = 24 * time.Hour

func (c *TLSConfig) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&c.Insecure, "insecure", false, "serve without TLS: a stranger at the port may order and delete machines")
	flags.StringSliceVar(&c.ClientNames, "client-names", []string{"cluster-autoscaler"},
		"names of the clients that are answered: the common name, or any DNS name or URI, of a client's certificate; the first is that of the "+
			"certificate that is issued")

	flags.StringVar(
		&c.CertFile, "tls-cert-file", "",
		"certificate of the server, PEM; with it certificates come from files, which are read again when they change, and none are issued",
	)
	flags.StringVar(&c.KeyFile, "tls-key-file", "", "private key of the server, PEM")
	flags.StringVar(
		&c.ClientCAFile, "client-ca-file", "", "certificates, PEM, one of which has to have signed the certificate of Cluster Autoscaler",
	)

	flags.StringVar(&c.Namespace, "namespace", "", "namespace of the provider's Services and Secrets; without it that of the pod")
	flags.StringVar(
		&c.ServerSecret, "server-secret", "ensemble-autoscaler-provider-tls",
		"Secret for the certificates of the authority and of the server, with their keys",
	)
	flags.StringVar(&c.ClientSecret, "client-secret", "cluster-autoscaler-provider-tls",
		"Secret for the certificate of Cluster Autoscaler, its key, and the authorities that it is to trust; NAME, or NAMESPACE/NAME where it "+
			"is in another namespace")
	flags.StringSliceVar(
		&c.Services, "tls-services", []string{"provider", "expander"}, "Services in the namespace that the certificate of the server is for",
	)
	flags.StringSliceVar(&c.ExtraNames, "tls-extra-names", nil, "further DNS names and IP addresses that the certificate of the server is for")
	flags.DurationVar(&c.Lifetimes.Certificate, "certificate-lifetime", 365*day, "life of a certificate that is issued")
	flags.DurationVar(&c.Lifetimes.RenewBefore, "certificate-renew-before", 90*day,
		"how long before its end a certificate is replaced; Cluster Autoscaler reads its own at its start only, and has to be restarted within "+
			"that time")
	flags.DurationVar(&c.Lifetimes.Authority, "authority-lifetime", 10*365*day, "life of the authority that issues")
}

// issuing are the flags that say which certificates are issued.
func issuing() []string {
	return []string{
		"server-secret", "client-secret", "tls-services", "tls-extra-names", "certificate-lifetime", "certificate-renew-before",
		"authority-lifetime",
	}
}

// validate finds values that cannot be meant. given reports whether a flag was given.
func (c *TLSConfig) validate(given func(flag string) bool) error {
	files := 0
	for _, file := range []string{c.CertFile, c.KeyFile, c.ClientCAFile} {
		if file != "" {
			files++
		}
	}
	for _, flag := range issuing() {
		if (c.Insecure || files > 0) && given(flag) {
			return fmt.Errorf(
				"--%s is about certificates that the provider issues, which it does neither with --insecure nor with --tls-cert-file: leave it out",
				flag,
			)
		}
	}
	l := c.Lifetimes
	switch {
	case c.Insecure && files > 0:
		return errors.New("--insecure and --tls-cert-file, --tls-key-file or --client-ca-file contradict each other: give the one or the others")
	case files == 1 || files == 2:
		return errors.New(
			"--tls-cert-file, --tls-key-file and --client-ca-file are needed together (without all three the provider issues certificates itself)",
		)
	case len(c.ClientNames) == 0:
		return errors.New(
			"--client-names is empty; it must have the name of Cluster Autoscaler's certificate, as in --client-names=cluster-autoscaler",
		)
	case len(c.Services)+len(c.ExtraNames) == 0:
		return errors.New("--tls-services and --tls-extra-names are both empty; the certificate of the server must be for a name")
	case c.ServerSecret == "" || strings.Contains(c.ServerSecret, "/"):
		return fmt.Errorf("--server-secret is %q; it must be the name of a Secret in the provider's namespace", c.ServerSecret)
	case strings.Trim(c.ClientSecret, "/") != c.ClientSecret || c.ClientSecret == "" || strings.Count(c.ClientSecret, "/") > 1:
		return fmt.Errorf("--client-secret is %q; it must be NAME or NAMESPACE/NAME", c.ClientSecret)
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

// secure returns what secures the servers, whose upkeep it adds to the manager; nil is for no TLS.
func secure(mgr manager.Manager, config *Config, log logr.Logger) (*mutualtls.Security, error) {
	c := &config.TLS
	if c.Insecure {
		log.Info("WARNING: serving without TLS: a stranger at the port may order and delete machines", "address", config.GRPCAddress)
		return nil, nil
	}
	security, err := mutualtls.New(c.ClientNames, metrics.Registry, clock.RealClock{}, log.WithName("tls"))
	if err != nil {
		return nil, err
	}
	if err := mgr.AddReadyzCheck("certificate", security.Check); err != nil {
		return nil, fmt.Errorf("add the readiness probe of the certificate: %w", err)
	}
	if c.CertFile != "" {
		files := &mutualtls.Files{
			CertificateFile: c.CertFile, KeyFile: c.KeyFile, AuthoritiesFile: c.ClientCAFile,
			Security: security, Every: filesEvery, Clock: clock.RealClock{}, Log: log.WithName("tls"),
		}
		// A wrong path is told at once, not by a pod that never becomes ready.
		if err := files.Load(); err != nil {
			return nil, fmt.Errorf("use --tls-cert-file, --tls-key-file and --client-ca-file: %w", err)
		}
		if err := mgr.Add(files); err != nil {
			return nil, fmt.Errorf("watch the certificate files: %w", err)
		}
		return security, nil
	}
	namespace, err := process.Namespace(c.Namespace)
	if err != nil {
		return nil, err
	}
	serverSecret := types.NamespacedName{Namespace: namespace, Name: c.ServerSecret}
	clientSecret := types.NamespacedName{Namespace: namespace, Name: c.ClientSecret}
	if other, rest, elsewhere := strings.Cut(c.ClientSecret, "/"); elsewhere {
		clientSecret = types.NamespacedName{Namespace: other, Name: rest}
	}
	if clientSecret == serverSecret {
		return nil, fmt.Errorf(
			"--client-secret and --server-secret are both %s; the key of the authority must not reach the client", serverSecret,
		)
	}
	err = certificates.AddToManager(mgr, certificates.Options{
		ServerSecret: serverSecret, ClientSecret: clientSecret,
		ServerNames: certificates.Names(namespace, c.Services, c.ExtraNames), ClientName: c.ClientNames[0], Lifetimes: c.Lifetimes,
		Security: security, Client: mgr.GetClient(), Events: mgr.GetEventRecorder(name), Clock: clock.RealClock{},
	})
	if err != nil {
		return nil, err
	}
	return security, nil
}

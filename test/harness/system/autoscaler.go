package system

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// ClientSecret is where the provider puts the certificate of Cluster Autoscaler.
const ClientSecret = "cluster-autoscaler-provider-tls"

// mountClientSecret waits for the certificate of Cluster Autoscaler, as its pod would, and writes it to files.
func (s *System) mountClientSecret(ctx context.Context) error {
	var secret corev1.Secret
	var last error
	err := wait.PollUntilContextTimeout(ctx, readyPoll, readyWithin, true, func(ctx context.Context) (bool, error) {
		last = s.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: ClientSecret}, &secret)
		return last == nil, client.IgnoreNotFound(last)
	})
	if err != nil {
		return fmt.Errorf("wait for Secret %s: %w", ClientSecret, errors.Join(err, last))
	}
	for key, file := range map[string]string{
		corev1.TLSCertKey: "autoscaler.crt", corev1.TLSPrivateKeyKey: "autoscaler.key", "ca.crt": "tls-ca.crt",
	} {
		if err := os.WriteFile(s.file(file), secret.Data[key], 0o600); err != nil {
			return fmt.Errorf("write Secret %s to files: %w", ClientSecret, err)
		}
	}
	return nil
}

// AsAutoscaler speaks to the provider as Cluster Autoscaler does, with its certificate.
func (s *System) AsAutoscaler(ctx context.Context, ask func(context.Context, externalgrpc.CloudProviderClient) error) error {
	return s.AsAutoscalerAt(ctx, s.ProviderAddress, ask)
}

// AsAutoscalerAt is AsAutoscaler for the replica at an address.
func (s *System) AsAutoscalerAt(
	ctx context.Context, address string, ask func(context.Context, externalgrpc.CloudProviderClient) error,
) error {
	config, err := s.AutoscalerTLS()
	if err != nil {
		return err
	}
	return askProvider(ctx, address, credentials.NewTLS(config), ask)
}

// AutoscalerTLS trusts the provider's certificate and shows that of Cluster Autoscaler.
func (s *System) AutoscalerTLS() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.file("autoscaler.crt"), s.file("autoscaler.key"))
	if err != nil {
		return nil, fmt.Errorf("read the certificate of Cluster Autoscaler: %w", err)
	}
	config, err := s.TLS()
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// TLS trusts the provider's certificate and shows none.
func (s *System) TLS() (*tls.Config, error) {
	pem, err := os.ReadFile(s.file("tls-ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("read the authority's certificate: there is none in its file")
	}
	return config, nil
}

// AskProvider speaks to the provider over any transport.
func (s *System) AskProvider(
	ctx context.Context, transport credentials.TransportCredentials, ask func(context.Context, externalgrpc.CloudProviderClient) error,
) error {
	return askProvider(ctx, s.ProviderAddress, transport, ask)
}

func askProvider(
	ctx context.Context, address string, transport credentials.TransportCredentials,
	ask func(context.Context, externalgrpc.CloudProviderClient) error,
) (err error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return fmt.Errorf("connect to the provider: %w", err)
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	return ask(ctx, externalgrpc.NewCloudProviderClient(connection))
}

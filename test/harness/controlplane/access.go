package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// tokenLifetime is how long a ServiceAccount's token is valid: longer than a test run or a demo on hold.
const tokenLifetime = 24 * time.Hour

// URL is the address of the API server. It stays the same when the API server is restarted.
func (c *ControlPlane) URL() string { return fmt.Sprintf("https://127.0.0.1:%d", c.ports.apiServer) }

// AdminConfig is the way to the API server as an administrator (group system:masters, which RBAC lets do
// everything), without a client-side rate limit.
func (c *ControlPlane) AdminConfig() *rest.Config { return rest.CopyConfig(c.admin) }

// UserConfig is the way to the API server as the user in the groups, known by a client certificate. The user
// may do what RBAC allows it, so nothing to begin with.
func (c *ControlPlane) UserConfig(user string, groups ...string) (*rest.Config, error) {
	pair, err := c.authority.client(user, groups...)
	if err != nil {
		return nil, err
	}
	config := c.anonymousConfig()
	config.CertData, config.KeyData = pair.certificate, pair.key
	return config, nil
}

// ServiceAccountConfig is the way to the API server as a ServiceAccount, which must exist, by a token that
// outlives the control plane.
func (c *ControlPlane) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, error) {
	clients, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return nil, fmt.Errorf("token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	seconds := int64(tokenLifetime.Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := clients.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	config := c.anonymousConfig()
	config.BearerToken = answer.Status.Token
	return config, nil
}

func (c *ControlPlane) anonymousConfig() *rest.Config {
	return &rest.Config{
		Host:            c.URL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.authority.pem},
		// No client-side limit: priority and fairness in the API server does that job.
		QPS: -1,
	}
}

// WriteKubeconfig writes the configuration to the path as a kubeconfig file that needs no other file. Only
// its owner may read it.
func WriteKubeconfig(path string, config *rest.Config) error {
	const name = "control-plane"
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   config.Host,
		CertificateAuthorityData: config.CAData,
		CertificateAuthority:     config.CAFile,
		TLSServerName:            config.ServerName,
		InsecureSkipTLSVerify:    config.Insecure,
	}
	kubeconfig.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData,
		ClientCertificate:     config.CertFile,
		ClientKeyData:         config.KeyData,
		ClientKey:             config.KeyFile,
		Token:                 config.BearerToken,
		TokenFile:             config.BearerTokenFile,
	}
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: metav1.NamespaceDefault}
	kubeconfig.CurrentContext = name

	content, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return nil
}

// Port is a port of 127.0.0.1 that no other control plane of this machine uses until Stop, for a program of Run.
func (c *ControlPlane) Port() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return 0, errors.New("reserve a port: the control plane was stopped")
	}
	return c.addresses.port()
}

// WriteServerCertificate writes, PEM-encoded, a serving certificate for 127.0.0.1 with its key, and the
// certificate of the authority that signed it.
func (c *ControlPlane) WriteServerCertificate(certificateFile, keyFile, authorityFile string) error {
	pair, err := c.authority.server("server", nil)
	if err != nil {
		return err
	}
	return c.writeCertificate(pair, certificateFile, keyFile, authorityFile)
}

// WriteClientCertificate writes the certificate of a client with its key, and the certificate of the
// authority that signed it, which is the same as that of WriteServerCertificate.
func (c *ControlPlane) WriteClientCertificate(user, certificateFile, keyFile, authorityFile string) error {
	pair, err := c.authority.client(user)
	if err != nil {
		return err
	}
	return c.writeCertificate(pair, certificateFile, keyFile, authorityFile)
}

func (c *ControlPlane) writeCertificate(pair keyPair, certificateFile, keyFile, authorityFile string) error {
	if err := pair.write(certificateFile, keyFile); err != nil {
		return fmt.Errorf("write a certificate: %w", err)
	}
	if err := os.WriteFile(authorityFile, c.authority.pem, 0o644); err != nil {
		return fmt.Errorf("write a certificate: %w", err)
	}
	return nil
}

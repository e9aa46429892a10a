package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"time"
)

// certificateLifetime is longer than any test run and short enough that a forgotten key is worth nothing.
const certificateLifetime = 48 * time.Hour

// authority signs the certificates of one control plane. It lives in memory; only the certificate is written
// to disk.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte // the certificate
}

// keyPair is a certificate with its private key, both PEM-encoded.
type keyPair struct {
	certificate, key []byte
}

func newAuthority() (*authority, error) {
	template := certificateTemplate(pkix.Name{CommonName: "ensemble-autoscaler test control plane"})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the certificate authority: %w", err)
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(encoded)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority: %w", err)
	}
	return &authority{certificate: certificate, key: key, pem: encodePEM("CERTIFICATE", encoded)}, nil
}

// client makes the certificate by which the API server knows a user and the groups that it is in.
func (a *authority) client(user string, groups ...string) (keyPair, error) {
	template := certificateTemplate(pkix.Name{CommonName: user, Organization: groups})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(template)
}

// server makes the serving certificate of a component on 127.0.0.1.
func (a *authority) server(name string, otherNames []string, otherAddresses ...net.IP) (keyPair, error) {
	template := certificateTemplate(pkix.Name{CommonName: name})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = append([]string{"localhost"}, otherNames...)
	template.IPAddresses = append([]net.IP{net.IPv4(127, 0, 0, 1)}, otherAddresses...)
	return a.sign(template)
}

func (a *authority) sign(template *x509.Certificate) (keyPair, error) {
	subject := template.Subject.CommonName
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("make the key of %s: %w", subject, err)
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return keyPair{}, fmt.Errorf("make the certificate of %s: %w", subject, err)
	}
	encodedKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, fmt.Errorf("encode the key of %s: %w", subject, err)
	}
	return keyPair{certificate: encodePEM("CERTIFICATE", encoded), key: encodePEM("PRIVATE KEY", encodedKey)}, nil
}

func certificateTemplate(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(mathrand.Int64()),
		Subject:      subject,
		NotBefore:    now.Add(-time.Minute),
		NotAfter:     now.Add(certificateLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// serviceAccountKeys makes the key pair with which tokens of ServiceAccounts are signed and checked.
func serviceAccountKeys() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the service account key: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the service account key: %w", err)
	}
	encodedPublic, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("encode the public service account key: %w", err)
	}
	return encodePEM("PRIVATE KEY", encoded), encodePEM("PUBLIC KEY", encodedPublic), nil
}

// write puts the pair into the two files, the key readable by the owner only.
func (k keyPair) write(certificateFile, keyFile string) error {
	if err := os.WriteFile(certificateFile, k.certificate, 0o644); err != nil {
		return err
	}
	return os.WriteFile(keyFile, k.key, 0o600)
}

func encodePEM(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}

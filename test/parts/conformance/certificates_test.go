package conformance_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// keyPair names the PEM files of a certificate, of its key, and of the authority that signs those of the other side.
type keyPair struct {
	certificate, key, authority string
}

// mutual makes an authority and signs a certificate for a server on 127.0.0.1 and one for its client.
func mutual(t testing.TB) (server, client keyPair) {
	t.Helper()
	directory := t.TempDir()
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "conformance"}, NotBefore: now.Add(-time.Minute),
		NotAfter: now.Add(time.Hour),
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootKey := newKey(t)
	authority := sign(t, root, root, rootKey, rootKey)
	authorityFile := filepath.Join(directory, "ca.crt")
	writePEM(t, authorityFile, "CERTIFICATE", authority.Raw)

	issue := func(serial int64, name string, usage x509.ExtKeyUsage) keyPair {
		key := newKey(t)
		issued := sign(t, &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}, authority, key, rootKey)
		encoded, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		pair := keyPair{certificate: filepath.Join(directory, name+".crt"), key: filepath.Join(directory, name+".key"), authority: authorityFile}
		writePEM(t, pair.certificate, "CERTIFICATE", issued.Raw)
		writePEM(t, pair.key, "PRIVATE KEY", encoded)
		return pair
	}
	return issue(2, "server", x509.ExtKeyUsageServerAuth), issue(3, "client", x509.ExtKeyUsageClientAuth)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	encoded, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func writePEM(t testing.TB, file, kind string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
		t.Fatal(err)
	}
}

package certificates

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// Lifetimes say how long certificates are good for.
type Lifetimes struct {
	// Certificate is the life of a certificate.
	Certificate time.Duration
	// RenewBefore is how long before its end a certificate is replaced.
	RenewBefore time.Duration
	// Authority is the life of the authority. It is replaced as soon as it would not outlive a certificate that is
	// issued now, so every certificate is good to its own end.
	Authority time.Duration
}

const (
	// skew is how far apart two clocks may be, of the replica that issues, of another one, of a client. What is issued begins so long ago.
	skew = 24 * time.Hour
	// grace is how long after its end, by our clock, an authority stays trusted, so that a replica whose clock is ahead does not take
	// from others what holds for them. It is more than skew, as that does no harm: whoever checks a certificate looks at its end too.
	grace = 2 * skew
)

// organization is in the subject of all certificates that are issued here.
const organization = "ensemble-autoscaler"

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	// trusted are the certificate and, after it, those of the authorities before, until some time after their ends.
	trusted []*x509.Certificate
	// links are certificates for the keys of authorities that the authorities before have signed. Whoever trusts only
	// an earlier one, for example because it read its file a year ago, trusts through them what this one signs.
	links []*x509.Certificate
}

// newAuthority makes an authority that signs itself.
func newAuthority(now time.Time, lifetimes Lifetimes) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		// Two authorities are told apart by eye by when they began.
		Subject: pkix.Name{
			CommonName: "ensemble-autoscaler authority of " + now.UTC().Format(time.RFC3339), Organization: []string{organization},
		},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(lifetimes.Authority),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	certificate, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: certificate, key: key, trusted: []*x509.Certificate{certificate}}, nil
}

// follow makes it the successor of another one, which may be without a key: what that one trusted is trusted, and
// where it has its key it vouches for its successor until its own end.
func (a *authority) follow(before *authority) error {
	a.trusted = append(a.trusted, before.trusted...)
	a.links = slices.Clone(before.links)
	if before.key == nil {
		return nil
	}
	template := &x509.Certificate{
		Subject: a.certificate.Subject, SubjectKeyId: a.certificate.SubjectKeyId,
		NotBefore: a.certificate.NotBefore, NotAfter: before.certificate.NotAfter,
		KeyUsage: a.certificate.KeyUsage, BasicConstraintsValid: true, IsCA: true,
	}
	link, err := sign(template, before.certificate, a.key.Public(), before.key)
	if err != nil {
		return err
	}
	a.links = append([]*x509.Certificate{link}, a.links...)
	return nil
}

// leaf is what a certificate is to be for.
type leaf struct {
	commonName string
	// names are DNS names and IP addresses.
	names []string
	usage x509.ExtKeyUsage
}

// issue makes a certificate with its key, both PEM. The certificate is followed by the links.
func (a *authority) issue(l leaf, now time.Time, lifetimes Lifetimes) (certificatePEM, keyPEM []byte, end time.Time, err error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, end, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: l.commonName, Organization: []string{organization}},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(lifetimes.Certificate),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{l.usage},
	}
	for _, name := range l.names {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	certificate, err := sign(template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, nil, end, err
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, end, err
	}
	certificatePEM, err = encode(append([]*x509.Certificate{certificate}, a.links...)...)
	return certificatePEM, keyPEM, certificate.NotAfter, err
}

// check reads a certificate with its key and returns its end, or what is wrong with it.
func (a *authority) check(certificatePEM, keyPEM []byte, l leaf, now time.Time) (end time.Time, err error) {
	if len(certificatePEM) == 0 {
		return end, errors.New("it has no certificate")
	}
	pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return end, fmt.Errorf("its certificate and key cannot be used: %w", err)
	}
	if err := a.verify(pair.Leaf, l.usage, now); err != nil {
		return end, fmt.Errorf("its certificate does not hold: %w", err)
	}
	if pair.Leaf.Subject.CommonName != l.commonName {
		return end, fmt.Errorf("its certificate is of %q and not of %q", pair.Leaf.Subject.CommonName, l.commonName)
	}
	for _, name := range l.names {
		if pair.Leaf.VerifyHostname(name) != nil {
			return end, fmt.Errorf("its certificate is not for %q", name)
		}
	}
	return pair.Leaf.NotAfter, nil
}

// verify checks that a certificate holds, now or as soon as all that vouches for it is valid: a clock that is behind is no reason to
// replace what is good.
func (a *authority) verify(c *x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	// Links are left out: what is trusted here has every authority itself.
	options := x509.VerifyOptions{Roots: pool(a.trusted), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
	_, problem := c.Verify(options)
	for _, later := range append([]*x509.Certificate{c}, a.trusted...) {
		if problem == nil {
			break
		}
		if options.CurrentTime = later.NotBefore; now.Before(later.NotBefore) {
			if _, err := c.Verify(options); err == nil {
				problem = nil
			}
		}
	}
	return problem //nolint:wrapcheck // Who calls says of what.
}

// readAuthority reads an authority. Where the error says why it cannot sign, it may still hold certificates to trust. One that is not
// valid yet signs all the same: it is the clock that is behind.
func readAuthority(trustedPEM, keyPEM, linksPEM []byte, now time.Time) (*authority, error) {
	if len(trustedPEM) == 0 && len(keyPEM) == 0 {
		return &authority{}, errors.New("there is no authority")
	}
	all, err := cert.ParseCertsPEM(trustedPEM)
	if err != nil {
		return &authority{}, fmt.Errorf("%s cannot be read: %w", keyTrusted, err)
	}
	ended := func(c *x509.Certificate) bool { return !trustable(c, now) }
	a := &authority{certificate: all[0], trusted: slices.DeleteFunc(slices.Clone(all), ended)}
	if len(linksPEM) > 0 {
		links, err := cert.ParseCertsPEM(linksPEM)
		if err == nil {
			a.links = slices.DeleteFunc(links, ended)
		}
		// Without links, clients that know only an earlier authority have to be restarted; that is no reason to
		// make another one.
	}
	if !trustable(all[0], now) {
		return a, fmt.Errorf("the first certificate of %s is not that of an authority, or has ended: it is of %q and valid from %s to %s",
			keyTrusted, all[0].Subject.CommonName, all[0].NotBefore.UTC().Format(time.RFC3339), all[0].NotAfter.UTC().Format(time.RFC3339))
	}
	parsed, err := keyutil.ParsePrivateKeyPEM(keyPEM)
	if err != nil {
		return a, fmt.Errorf("%s cannot be read: %w", keyAuthorityKey, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return a, fmt.Errorf("%s is a %T, which cannot sign", keyAuthorityKey, parsed)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(all[0].PublicKey) {
		return a, fmt.Errorf("%s is not the key of the first certificate of %s", keyAuthorityKey, keyTrusted)
	}
	a.key = key
	return a, nil
}

// trustable reports whether a certificate is one of an authority that has not ended long ago.
func trustable(c *x509.Certificate, now time.Time) bool {
	return c.IsCA && now.Before(c.NotAfter.Add(grace))
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a private key: %w", err)
	}
	return key, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	encoded, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate of %q: %w", template.Subject.CommonName, err)
	}
	certificate, err := x509.ParseCertificate(encoded)
	if err != nil {
		return nil, fmt.Errorf("read a certificate that was just signed: %w", err)
	}
	return certificate, nil
}

func pool(certificates []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certificates {
		p.AddCert(c)
	}
	return p
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	text, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return text, nil
}

// encode is the certificates as PEM; of none it is empty.
func encode(certificates ...*x509.Certificate) ([]byte, error) {
	if len(certificates) == 0 {
		return nil, nil
	}
	text, err := cert.EncodeCertificates(certificates...)
	if err != nil {
		return nil, fmt.Errorf("encode certificates: %w", err)
	}
	return text, nil
}

// same reports whether PEM holds just these certificates, in this order.
func same(text []byte, certificates []*x509.Certificate) bool {
	if len(certificates) == 0 {
		return len(text) == 0
	}
	held, err := cert.ParseCertsPEM(text)
	return err == nil && slices.EqualFunc(held, certificates, func(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) })
}

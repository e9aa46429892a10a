package certificates

import (
	"crypto/x509"
	"fmt"
	"maps"
	"strings"
	"time"

	"k8s.io/client-go/util/cert"
)

// The keys of the Secrets. Those of the client's are the usual ones of a Secret with a client certificate; that of the
// server has the authority besides.
const (
	keyCertificate = "tls.crt"
	keyKey         = "tls.key"
	// keyTrusted are the authorities: first the one that signs, then those before it until their ends.
	keyTrusted      = "ca.crt"
	keyAuthorityKey = "ca.key"
	// keyLinks are certificates of later authorities that earlier ones have signed.
	keyLinks = "ca-links.crt"
)

// renewal is what is to become of a Secret.
type renewal struct {
	data map[string][]byte
	// why says what was changed and for what reason; it is empty where nothing is.
	why []string
	// replaced is set when there is another authority than before.
	replaced bool
	// due is when to look again.
	due time.Time
	// early says of which certificates our clock is behind the beginning. They are kept.
	early []string
}

func (r *renewal) changed() bool  { return len(r.why) > 0 }
func (r *renewal) reason() string { return strings.Join(r.why, "; ") }
func (r *renewal) because(format string, arguments ...any) {
	r.why = append(r.why, fmt.Sprintf(format, arguments...))
}

func (r *renewal) soon(when time.Time) {
	if r.due.IsZero() || when.Before(r.due) {
		r.due = when
	}
}

// await looks again when certificates are valid that are not valid yet by our clock, and has that told.
func (r *renewal) await(now time.Time, certificates ...*x509.Certificate) {
	for _, c := range certificates {
		if now.Before(c.NotBefore) {
			r.soon(c.NotBefore)
			r.early = append(
				r.early, fmt.Sprintf("the certificate of %q is valid from %s on", c.Subject.CommonName, c.NotBefore.UTC().Format(time.RFC3339)),
			)
		}
	}
}

// renewServer brings the server's Secret in order: the authority, then the certificate. Both are in one object so
// that they change in one write.
func renewServer(data map[string][]byte, names []string, now time.Time, lifetimes Lifetimes) (*renewal, *authority, error) {
	r := &renewal{data: maps.Clone(data)}
	if r.data == nil {
		r.data = map[string][]byte{}
	}
	a, problem := readAuthority(data[keyTrusted], data[keyAuthorityKey], data[keyLinks], now)
	if problem == nil && a.certificate.NotAfter.Sub(now) <= lifetimes.Certificate {
		problem = fmt.Errorf(
			"the authority ends on %s, no later than a certificate that is issued now", a.certificate.NotAfter.UTC().Format(time.RFC3339),
		)
	}
	if problem != nil {
		next, err := newAuthority(now, lifetimes)
		if err != nil {
			return nil, nil, err
		}
		if err := next.follow(a); err != nil {
			return nil, nil, err
		}
		a = next
		r.replaced = true
		r.because("a new authority, which ends on %s: %v", a.certificate.NotAfter.UTC().Format(time.RFC3339), problem)
		if r.data[keyAuthorityKey], err = encodeKey(a.key); err != nil {
			return nil, nil, err
		}
	}
	if err := r.set(keyTrusted, a.trusted); err != nil {
		return nil, nil, err
	}
	if err := r.set(keyLinks, a.links); err != nil {
		return nil, nil, err
	}
	r.soon(a.certificate.NotAfter.Add(-lifetimes.Certificate))
	for _, c := range append(a.trusted, a.links...) {
		r.soon(c.NotAfter.Add(grace))
	}
	r.await(now, a.trusted...)
	return r, a, r.renewLeaf(a, leaf{commonName: names[0], names: names, usage: x509.ExtKeyUsageServerAuth}, now, lifetimes)
}

// renewClient brings the client's Secret in order.
func renewClient(data map[string][]byte, a *authority, name string, now time.Time, lifetimes Lifetimes) (*renewal, error) {
	r := &renewal{data: maps.Clone(data)}
	if r.data == nil {
		r.data = map[string][]byte{}
	}
	if err := r.set(keyTrusted, a.trusted); err != nil {
		return nil, err
	}
	return r, r.renewLeaf(a, leaf{commonName: name, usage: x509.ExtKeyUsageClientAuth}, now, lifetimes)
}

// renewLeaf replaces the certificate when it is not usable or due. One that an authority before has signed is good
// until it is due: whoever trusts only that one goes on.
func (r *renewal) renewLeaf(a *authority, l leaf, now time.Time, lifetimes Lifetimes) error {
	end, problem := a.check(r.data[keyCertificate], r.data[keyKey], l, now)
	if problem == nil && !now.Before(end.Add(-lifetimes.RenewBefore)) {
		problem = fmt.Errorf("the one before ends on %s", end.UTC().Format(time.RFC3339))
	}
	if problem != nil {
		certificate, key, renewed, err := a.issue(l, now, lifetimes)
		if err != nil {
			return err
		}
		r.data[keyCertificate], r.data[keyKey] = certificate, key
		end = renewed
		r.because("a certificate of %s, which ends on %s: %v", l.commonName, end.UTC().Format(time.RFC3339), problem)
	}
	r.soon(end.Add(-lifetimes.RenewBefore))
	if chain, err := cert.ParseCertsPEM(r.data[keyCertificate]); err == nil {
		r.await(now, chain[0])
	}
	return nil
}

// set stores certificates, unless they are there.
func (r *renewal) set(key string, certificates []*x509.Certificate) error {
	if same(r.data[key], certificates) {
		return nil
	}
	text, err := encode(certificates...)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		delete(r.data, key)
	} else {
		r.data[key] = text
	}
	r.because("%s holds %d certificates", key, len(certificates))
	return nil
}

// Names are the DNS names of Services in a namespace, as clients in it, in others and with the domain of the cluster
// say them, and further names. A cluster of another domain than cluster.local needs its own among the further ones.
func Names(namespace string, services, further []string) []string {
	var names []string
	for _, service := range services {
		names = append(names, service, service+"."+namespace, service+"."+namespace+".svc", service+"."+namespace+".svc.cluster.local")
	}
	return append(names, further...)
}

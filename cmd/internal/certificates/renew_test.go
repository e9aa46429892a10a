package certificates

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/util/cert"
)

var lifetimes = Lifetimes{Certificate: 365 * 24 * time.Hour, RenewBefore: 90 * 24 * time.Hour, Authority: 10 * 365 * 24 * time.Hour}

var serverNames = Names("system", []string{"provider", "expander"}, []string{"127.0.0.1"})

const clientName = "cluster-autoscaler"

// secrets are the two Secrets of a story, at a time.
type secrets struct {
	server, client map[string][]byte
	now            time.Time
}

func begin(t *testing.T) *secrets {
	t.Helper()
	s := &secrets{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	s.pass(t)
	return s
}

// pass brings both in order and returns why each was changed.
func (s *secrets) pass(t *testing.T) (server, client string) {
	t.Helper()
	r, a, err := renewServer(s.server, serverNames, s.now, lifetimes)
	if err != nil {
		t.Fatal(err)
	}
	c, err := renewClient(s.client, a, clientName, s.now, lifetimes)
	if err != nil {
		t.Fatal(err)
	}
	s.server, s.client = r.data, c.data
	if !r.due.After(s.now) || !c.due.After(s.now) {
		t.Errorf("at %s the next look is due at %s and %s, which is no later", s.now, r.due, c.due)
	}
	again, _, err := renewServer(s.server, serverNames, s.now, lifetimes)
	if err != nil || again.changed() {
		t.Errorf("a second pass is not idle: %v %v", again.why, err)
	}
	return r.reason(), c.reason()
}

func parse(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	all, err := cert.ParseCertsPEM(text)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// trusts reports whether a peer that trusts some authorities accepts a chain at a time, for a usage and a name.
func trusts(authorities, chain []byte, usage x509.ExtKeyUsage, name string, at time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities)
	certificates, err := cert.ParseCertsPEM(chain)
	if err != nil {
		return err
	}
	for _, c := range certificates[1:] {
		intermediates.AddCert(c)
	}
	_, err = certificates[0].Verify(
		x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}, DNSName: name},
	)
	return err
}

// works checks that a server with the server's Secret and a client with what it once read accept each other.
func (s *secrets) works(t *testing.T, client map[string][]byte) {
	t.Helper()
	if err := trusts(client[keyTrusted], s.server[keyCertificate], x509.ExtKeyUsageServerAuth, "provider.system.svc", s.now); err != nil {
		t.Errorf("on %s the client does not trust the server: %v", s.now.Format(time.DateOnly), err)
	}
	if err := trusts(s.server[keyTrusted], client[keyCertificate], x509.ExtKeyUsageClientAuth, "", s.now); err != nil {
		t.Errorf("on %s the server does not trust the client: %v", s.now.Format(time.DateOnly), err)
	}
}

// TestFirst: what is issued holds for all names, can be loaded, and gives the client no key but its own.
func TestFirst(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.works(t, s.client)
	for _, name := range []string{
		"provider", "provider.system", "provider.system.svc", "provider.system.svc.cluster.local", "expander.system.svc", "127.0.0.1",
	} {
		if err := trusts(s.client[keyTrusted], s.server[keyCertificate], x509.ExtKeyUsageServerAuth, name, s.now); err != nil {
			t.Error(err)
		}
	}
	if err := trusts(s.client[keyTrusted], s.server[keyCertificate], x509.ExtKeyUsageServerAuth, "provider.other.svc", s.now); err == nil {
		t.Error("the server's certificate is for a name of another namespace")
	}
	if err := trusts(s.client[keyTrusted], s.server[keyCertificate], x509.ExtKeyUsageClientAuth, "", s.now); err == nil {
		t.Error("the server's certificate can be used by a client")
	}
	for _, data := range []map[string][]byte{s.server, s.client} {
		if _, err := tls.X509KeyPair(data[keyCertificate], data[keyKey]); err != nil {
			t.Error(err)
		}
	}
	if client := parse(t, s.client[keyCertificate])[0]; client.Subject.CommonName != clientName {
		t.Errorf("the client's certificate is of %s", client.Subject)
	}
	if len(s.client) != 3 {
		t.Errorf("the client's Secret has more than tls.crt, tls.key and ca.crt: %d keys", len(s.client))
	}
	for key, value := range s.client {
		if bytes.Contains(value, s.server[keyAuthorityKey]) || (key != keyKey && bytes.Contains(value, []byte("PRIVATE"))) {
			t.Errorf("%s holds a key", key)
		}
	}
}

// TestFifteenYears: at all times a client that is restarted only when its own certificate is about to end connects,
// before and after the authority was replaced; each certificate is replaced when it is due and not before.
func TestFifteenYears(t *testing.T) {
	t.Parallel()
	s := begin(t)
	inMemory := s.client // what the client read when it was started
	authorities, servers, clients, restarts := 1, 1, 1, 0
	const step = 10 * 24 * time.Hour
	for day := range 15 * 365 / 10 {
		s.now = s.now.Add(step)
		server, client := s.pass(t)
		if strings.Contains(server, "a new authority") {
			authorities++
			if left := parse(t, s.server[keyTrusted])[1].NotAfter.Sub(s.now); left > lifetimes.Certificate || left < lifetimes.Certificate-step {
				t.Errorf("step %d: the authority was replaced %s before its end", day, left)
			}
		}
		if strings.Contains(server, "a certificate of") {
			servers++
		}
		if strings.Contains(client, "a certificate of") {
			clients++
		}
		// As late as can be.
		if end := parse(t, inMemory[keyCertificate])[0].NotAfter; end.Sub(s.now) <= step {
			inMemory = s.client
			restarts++
		}
		s.works(t, inMemory)
		if t.Failed() {
			t.Fatalf("step %d: %s; %s", day, server, client)
		}
	}
	if trusted := parse(t, s.server[keyTrusted]); authorities != 2 || len(trusted) != 1 {
		t.Errorf("there were %d authorities, not 2; %d are trusted in the end, not 1", authorities, len(trusted))
	}
	if _, linked := s.server[keyLinks]; linked {
		t.Error("the link to the authority that has ended is still there")
	}
	// 15 years of 365 days, of which each certificate is used for 275.
	if servers != 20 || clients != 20 || restarts < 14 {
		t.Errorf(
			"%d certificates of the server and %d of the client were issued, not 20; the client was restarted %d times", servers, clients,
			restarts,
		)
	}
}

// TestAuthoritiesInQuickSuccession: a client that knows only the first of three authorities still trusts the server.
func TestAuthoritiesInQuickSuccession(t *testing.T) {
	t.Parallel()
	s := begin(t)
	first := s.client
	for range 2 {
		// The authority before has a year left, within which the next one is replaced too.
		a, problem := readAuthority(s.server[keyTrusted], s.server[keyAuthorityKey], s.server[keyLinks], s.now)
		if problem != nil {
			t.Fatal(problem)
		}
		next, err := newAuthority(s.now, lifetimes)
		if err != nil {
			t.Fatal(err)
		}
		if err := next.follow(a); err != nil {
			t.Fatal(err)
		}
		r := &renewal{data: map[string][]byte{}}
		if r.data[keyAuthorityKey], err = encodeKey(next.key); err != nil {
			t.Fatal(err)
		}
		if err := r.set(keyTrusted, next.trusted); err != nil {
			t.Fatal(err)
		}
		if err := r.set(keyLinks, next.links); err != nil {
			t.Fatal(err)
		}
		// Without a certificate, so that the newest authority has to sign one.
		s.server = r.data
		s.now = s.now.Add(time.Hour)
		s.pass(t)
	}
	if links := parse(t, s.server[keyLinks]); len(links) != 2 {
		t.Errorf("%d links lead back to the first authority, not 2", len(links))
	}
	s.works(t, first)
	s.works(t, s.client)
}

// TestBroken: whatever a user does to the Secrets, the next pass repairs it, says why, and replaces no more than it has to.
func TestBroken(t *testing.T) {
	t.Parallel()
	foreign := begin(t)
	for name, row := range map[string]struct {
		damage         func(*secrets)
		server, client string // what is said; empty where nothing is to change
		goesOn         bool   // whether a client that runs still trusts the server, and is trusted
	}{
		"nothing":                     {func(*secrets) {}, "", "", true},
		"the client's Secret is gone": {func(s *secrets) { s.client = nil }, "", "it has no certificate", true},
		"the client's key is another": {
			func(s *secrets) { s.client[keyKey] = foreign.client[keyKey] }, "", "private key does not match public key", true,
		},
		"the client's authorities": {func(s *secrets) { delete(s.client, keyTrusted) }, "", "ca.crt holds 1 certificates", true},
		"the client is of another authority": {
			func(s *secrets) { s.client = foreign.client }, "", "its certificate does not hold: x509: certificate signed by unknown authority",
			true,
		},
		"the server's Secret is gone": {func(s *secrets) { s.server = nil }, "there is no authority", "signed by unknown authority", false},
		"the server's key is rubbish": {
			func(s *secrets) { s.server[keyKey] = []byte("rubbish") }, "its certificate and key cannot be used", "", true,
		},
		"the server is the client": {func(s *secrets) {
			s.server[keyCertificate], s.server[keyKey] = s.client[keyCertificate], s.client[keyKey]
		}, "incompatible key usage", "", true},
		"the authority's key is gone": {
			func(s *secrets) { delete(s.server, keyAuthorityKey) }, "ca.key cannot be read", "ca.crt holds 2 certificates", true,
		},
		"the authority's key is another": {func(s *secrets) { s.server[keyAuthorityKey] = foreign.server[keyAuthorityKey] },
			"ca.key is not the key of the first certificate of ca.crt", "ca.crt holds 2 certificates", true},
		"the authority is rubbish": {
			func(s *secrets) { s.server[keyTrusted] = []byte("rubbish") }, "ca.crt cannot be read", "signed by unknown authority", false,
		},
		"the authority is a certificate": {func(s *secrets) { s.server[keyTrusted] = s.server[keyCertificate] },
			"the first certificate of ca.crt is not that of an authority", "signed by unknown authority", false},
		"an authority of the user's own": {func(s *secrets) {
			s.server[keyTrusted], s.server[keyAuthorityKey] = foreign.server[keyTrusted], foreign.server[keyAuthorityKey]
		}, "its certificate does not hold", "ca.crt holds 1 certificates", false},
		"one more authority to trust": {func(s *secrets) {
			s.server[keyTrusted] = slices.Concat(s.server[keyTrusted], foreign.server[keyTrusted])
		},
			"", "ca.crt holds 2 certificates", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t)
			running := map[string][]byte{keyCertificate: s.client[keyCertificate], keyKey: s.client[keyKey], keyTrusted: s.client[keyTrusted]}
			row.damage(s)
			s.now = s.now.Add(time.Minute)
			server, client := s.pass(t)
			for _, said := range [][2]string{{server, row.server}, {client, row.client}} {
				if !strings.Contains(said[0], said[1]) || (said[1] == "") != (said[0] == "") {
					t.Errorf("it says %q, not %q", said[0], said[1])
				}
				if len(said[0]) > 1000 || strings.Contains(said[0], "PRIVATE") {
					t.Errorf("%q is no text of an event", said[0])
				}
			}
			s.works(t, s.client)
			if row.goesOn {
				s.works(t, running)
			}
		})
	}
}

// TestNames: when the Services are others, the server's certificate is issued again.
func TestNames(t *testing.T) {
	t.Parallel()
	s := begin(t)
	r, _, err := renewServer(s.server, append(slices.Clone(serverNames), "provider.example.com"), s.now, lifetimes)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.reason(), `its certificate is not for "provider.example.com"`) || r.replaced {
		t.Errorf("it says %q; the authority was replaced: %t", r.reason(), r.replaced)
	}
	c, err := renewClient(s.client, mustRead(t, r.data, s.now), "other", s.now, lifetimes)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.reason(), `its certificate is of "cluster-autoscaler" and not of "other"`) {
		t.Errorf("it says %q", c.reason())
	}
}

func mustRead(t *testing.T, data map[string][]byte, now time.Time) *authority {
	t.Helper()
	a, err := readAuthority(data[keyTrusted], data[keyAuthorityKey], data[keyLinks], now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestDownForYears: what has expired while nobody was there to renew it is issued again, and what has not is kept.
func TestDownForYears(t *testing.T) {
	t.Parallel()
	for years, row := range map[int]struct{ server, client string }{
		2:  {"certificate has expired", "certificate has expired"},
		20: {"the first certificate of ca.crt is not that of an authority, or has ended", "certificate has expired"},
	} {
		s := begin(t)
		authority := string(s.server[keyTrusted])
		s.now = s.now.AddDate(years, 0, 0)
		server, client := s.pass(t)
		if !strings.Contains(server, row.server) || !strings.Contains(client, row.client) {
			t.Errorf("after %d years: %q; %q", years, server, client)
		}
		if trusted := parse(t, s.server[keyTrusted]); len(trusted) != 1 || (string(s.server[keyTrusted]) == authority) != (years < 10) {
			t.Errorf("after %d years %d authorities are trusted, the first of which is %s", years, len(trusted), trusted[0].Subject)
		}
		s.works(t, s.client)
	}
}

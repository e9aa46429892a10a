package certificates

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// clocks are how wrong the clocks of leaders are, and peers how wrong those of the servers and clients that check a certificate: no two
// of a leader and a peer are further apart than skew.
var (
	clocks = []time.Duration{-6 * time.Minute, -6 * time.Hour, 0, 6 * time.Hour, 23 * time.Hour}
	peers  = []time.Duration{-6 * time.Minute, 0, 6 * time.Hour}
)

// passWith brings both Secrets in order by a clock that is wrong by so much.
func (s *secrets) passWith(t *testing.T, wrong time.Duration) (server, client string) {
	t.Helper()
	right := s.now
	s.now = right.Add(wrong)
	server, client = s.pass(t)
	s.now = right
	return server, client
}

// connects checks that a server with the server's Secret and a client with what it once read accept each other, whatever their clocks.
func (s *secrets) connects(t *testing.T, client map[string][]byte) {
	t.Helper()
	for _, wrong := range peers {
		at := s.now.Add(wrong)
		if err := trusts(client[keyTrusted], s.server[keyCertificate], x509.ExtKeyUsageServerAuth, "provider.system.svc", at); err != nil {
			t.Errorf("a client whose clock is wrong by %s does not trust the server: %v", wrong, err)
		}
		if err := trusts(s.server[keyTrusted], client[keyCertificate], x509.ExtKeyUsageClientAuth, "", at); err != nil {
			t.Errorf("a server whose clock is wrong by %s does not trust the client: %v", wrong, err)
		}
	}
}

// TestClockBehind: a leader whose clock is behind that of the one before keeps what there is, whether it is six minutes or three days,
// and says so where that is not valid yet.
func TestClockBehind(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{-6 * time.Minute, -6 * time.Hour, -23 * time.Hour, -72 * time.Hour} {
		s := begin(t)
		running := s.client
		if server, client := s.passWith(t, wrong); server != "" || client != "" {
			t.Errorf("%s: it says %q and %q", wrong, server, client)
		}
		s.connects(t, running)
		r, a, err := renewServer(s.server, serverNames, s.now.Add(wrong), lifetimes)
		if err != nil {
			t.Fatal(err)
		}
		c, err := renewClient(s.client, a, clientName, s.now.Add(wrong), lifetimes)
		if err != nil {
			t.Fatal(err)
		}
		early := strings.Join(append(r.early, c.early...), "; ")
		const says = `the certificate of "cluster-autoscaler" is valid from 2026-11-22T12:00:00Z on`
		if strings.Contains(early, says) != (wrong < -24*time.Hour) || early != "" && wrong > -24*time.Hour {
			t.Errorf("%s: it says %q", wrong, early)
		}
		if early != "" && r.due.After(s.now.Add(-skew)) {
			t.Errorf("%s: the next look is due at %s, after what is there is valid", wrong, r.due)
		}
	}
}

// TestClocksOfLeaders: for fifteen years leaders with clocks that are wrong by hours take turns, from pass to pass. A client that is
// restarted only when its own certificate is about to end connects all the time, also where its clock, or that of the replica that it
// meets, is wrong.
func TestClocksOfLeaders(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := begin(t)
		inMemory := s.client
		authorities := 1
		const step = 10 * 24 * time.Hour
		for range 15 * 365 / 10 {
			s.now = s.now.Add(step)
			var said string
			for range 2 {
				server, client := s.passWith(t, clocks[random.IntN(len(clocks))])
				said += fmt.Sprintf("%s; %s; ", server, client)
				authorities += strings.Count(server, "a new authority")
			}
			if end := parse(t, inMemory[keyCertificate])[0].NotAfter; end.Sub(s.now) <= step+skew {
				inMemory = s.client
			}
			s.connects(t, inMemory)
			if t.Failed() {
				t.Fatalf("seed %d, %s: %s", seed, s.now, said)
			}
		}
		if authorities != 2 {
			t.Errorf("seed %d: there were %d authorities, not 2", seed, authorities)
		}
	}
}

// TestClockAheadAtTheEnd: a leader whose clock is ahead does not drop an authority that others still trust, nor the link to it, though
// both have ended by its clock; and it is dropped in the end.
func TestClockAheadAtTheEnd(t *testing.T) {
	t.Parallel()
	s := begin(t)
	old := s.client[keyTrusted]
	end := parse(t, old)[0].NotAfter
	s.now = end.Add(-lifetimes.Certificate)
	if server, _ := s.pass(t); !strings.Contains(server, "a new authority") {
		t.Fatalf("the authority is not replaced: %s", server)
	}
	// The certificate of the server is renewed last while the old authority is about to end.
	for s.now = s.now.Add(24 * time.Hour); s.now.Before(end.Add(-time.Hour)); s.now = s.now.Add(24 * time.Hour) {
		s.pass(t)
	}
	s.now = end.Add(-time.Hour)
	s.server[keyCertificate] = nil
	s.passWith(t, 23*time.Hour)
	if trusted := parse(t, s.server[keyTrusted]); len(trusted) != 2 {
		t.Errorf("%d authorities are trusted an hour before the end of the old one, not 2", len(trusted))
	}
	if err := trusts(old, s.server[keyCertificate], x509.ExtKeyUsageServerAuth, "provider.system.svc", s.now); err != nil {
		t.Errorf("a client that knows the old authority alone does not trust the server an hour before its end: %v", err)
	}
	s.now = end.Add(grace)
	s.pass(t)
	if trusted := parse(t, s.server[keyTrusted]); len(trusted) != 1 {
		t.Errorf("%d authorities are trusted long after the end of the old one, not 1", len(trusted))
	}
}

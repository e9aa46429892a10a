package serving

import (
	"context"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
)

// trustPoll is how often it is asked whether answers can be trusted.
const trustPoll = time.Second

// watchTrust ends connections while answers cannot be trusted. A client keeps its connection for as long as it works, and
// Cluster Autoscaler has one: without this it would be refused by a replica that has lost the API server while another one
// beside it answers. A readiness probe alone sends only new connections elsewhere.
//
// Where no replica can reach the API server, clients are no worse off than with connections that stay: each request would be
// refused on them too, and every connection lives long enough for that refusal, which says why.
func (s *Server) watchTrust(ctx context.Context, conns *inbound.Listener) (ended <-chan struct{}) {
	done := make(chan struct{})
	if s.Trusted == nil {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		ticker := time.NewTicker(trustPoll)
		defer ticker.Stop()
		var since time.Time // since when they cannot be trusted; zero while they can
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			err := s.Trusted()
			switch {
			case err == nil:
				since = time.Time{}
			case since.IsZero():
				since = time.Now()
			case time.Since(since) >= s.UntrustedFor:
				conns.EndOlder(s.UntrustedFor, inbound.Untrusted)
			}
		}
	}()
	return done
}

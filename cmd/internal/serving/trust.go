package serving

import (
	"context"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/trust"
)

// watchTrust ends connections while answers cannot be trusted. A client keeps its connection for as long as it works, and
// Cluster Autoscaler has one: without this it would be refused by a replica that has lost the API server while another one
// beside it answers. Every connection lives long enough for that refusal, which says why.
func (s *Server) watchTrust(ctx context.Context, conns *inbound.Listener) (ended <-chan struct{}) {
	done := make(chan struct{})
	if s.Trusted == nil {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		trust.Watch(ctx, s.Trusted, s.UntrustedFor, func(lost bool) {
			if lost {
				conns.EndOlder(s.UntrustedFor, inbound.Untrusted)
			}
		})
	}()
	return done
}

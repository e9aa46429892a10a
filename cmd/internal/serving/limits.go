package serving

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"github.com/spf13/pflag"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"k8s.io/utils/lru"
)

// Limits are what one peer, and all of them together, may ask of a server.
type Limits struct {
	// RequestsPerSecond is how many requests one peer may make in the long run, Burst how many at once. A peer is a
	// client certificate, or an IP address where there is none. 0 requests a second means no limit.
	RequestsPerSecond float64
	Burst             int
	// RequestBytes is the size of the largest request.
	RequestBytes int
	// Streams is the number of requests that one connection may have under way. More wait on the client's side.
	Streams int
	// Connections is the number of connections that there may be; 0 means no limit. More wait until one has ended, which an
	// idle one does after a minute. It is for servers whose requests are so large that some at once would be too many.
	Connections int
}

// AddFlags declares the flags. The values that the limits have are the defaults.
func (l *Limits) AddFlags(flags *pflag.FlagSet) {
	flags.Float64Var(&l.RequestsPerSecond, "max-requests-per-second", l.RequestsPerSecond,
		"gRPC requests that one peer, a client certificate or an IP address, may make in a second; 0 for no limit")
	flags.IntVar(&l.Burst, "max-request-burst", l.Burst, "gRPC requests that one peer may make at once")
	flags.IntVar(&l.RequestBytes, "max-request-bytes", l.RequestBytes, "size of the largest gRPC request")
	flags.IntVar(&l.Streams, "max-concurrent-requests", l.Streams, "gRPC requests that one connection may have under way")
}

// Validate names the flag that cannot be.
func (l *Limits) Validate() error {
	switch {
	case l.RequestsPerSecond < 0:
		return fmt.Errorf("--max-requests-per-second is %g; it must not be negative", l.RequestsPerSecond)
	case l.RequestsPerSecond > 0 && l.Burst < 1:
		return fmt.Errorf("--max-request-burst is %d; it must be at least 1", l.Burst)
	case l.RequestBytes < 1024:
		return fmt.Errorf("--max-request-bytes is %d; it must be at least 1024", l.RequestBytes)
	case l.Streams < 1 || l.Streams > 1<<20:
		return fmt.Errorf("--max-concurrent-requests is %d; it must be from 1 to %d", l.Streams, 1<<20)
	}
	return nil
}

const (
	// handshakeWithin is how long a connection may take until it can be used.
	handshakeWithin = 10 * time.Second
	// headerBytes is the size of the largest header list. Neither Cluster Autoscaler nor members send any of their own.
	headerBytes = 16 << 10
	// pingAfter is after how long a connection without traffic is asked whether it is still there, deadAfter how long the
	// answer may take.
	pingAfter, deadAfter = time.Minute, 20 * time.Second
	// pingsAtMost is how often a client may ask the same.
	pingsAtMost = 10 * time.Second
)

// options make a server keep the limits.
func (l *Limits) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(l.RequestBytes),
		grpc.MaxConcurrentStreams(uint32(l.Streams)), //nolint:gosec // Validate has seen it.
		grpc.MaxHeaderListSize(headerBytes),
		grpc.ConnectionTimeout(handshakeWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: deadAfter, MaxConnectionIdle: l.idle()}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsAtMost, PermitWithoutStream: true}),
	}
}

// idle is how long a connection may be there without a request, 0 for as long as it likes.
func (l *Limits) idle() time.Duration {
	if l.Connections == 0 {
		return 0
	}
	return time.Minute
}

// interceptors refuse what is too often. Probes always get through: a server that is asked too much is not ill.
func (l *Limits) interceptors() (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	limiter := newPeerLimiter(l.RequestsPerSecond, l.Burst)
	limited := selector.MatchFunc(func(_ context.Context, call interceptors.CallMeta) bool {
		return l.RequestsPerSecond > 0 && call.Service != healthv1.Health_ServiceDesc.ServiceName
	})
	return selector.UnaryServerInterceptor(ratelimit.UnaryServerInterceptor(limiter), limited),
		selector.StreamServerInterceptor(ratelimit.StreamServerInterceptor(limiter), limited)
}

// rememberedPeers is how many peers have a rate of their own. When there are more, the one that has not been heard of
// for longest is forgotten, and begins anew.
const rememberedPeers = 4096

// peerLimiter gives each peer a rate of its own, so that one which floods does not slow another.
type peerLimiter struct {
	limit rate.Limit
	burst int

	mu    sync.Mutex
	peers *lru.Cache
}

var _ ratelimit.Limiter = (*peerLimiter)(nil)

func newPeerLimiter(perSecond float64, burst int) *peerLimiter {
	return &peerLimiter{limit: rate.Limit(perSecond), burst: burst, peers: lru.New(rememberedPeers)}
}

// Limit implements ratelimit.Limiter.
func (p *peerLimiter) Limit(ctx context.Context) error {
	name := peerName(ctx)
	if !p.of(name).Allow() {
		return fmt.Errorf("%s makes more than %g requests a second (--max-requests-per-second, --max-request-burst)", name, float64(p.limit))
	}
	return nil
}

func (p *peerLimiter) of(name string) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.peers.Get(name); ok {
		if limiter, ok := known.(*rate.Limiter); ok {
			return limiter
		}
	}
	limiter := rate.NewLimiter(p.limit, p.burst)
	p.peers.Add(name, limiter)
	return limiter
}

// peerName is the subject of the client certificate, or the IP address of a peer that has shown none.
func peerName(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "an unknown peer"
	}
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
		return "the client " + info.State.VerifiedChains[0][0].Subject.String()
	}
	address := p.Addr.String()
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	return "the address " + strings.TrimPrefix(address, "::ffff:")
}

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

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
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
	// Connections and ConnectionsPerAddress are the numbers of connections, in all and from one address; 0 means no limit. Of
	// too many the newest is let in and the one that has been silent for longest ends, that of the address that has most.
	Connections, ConnectionsPerAddress int
	// UntilAnswered has a request count as unfinished until it was answered, and not until its message has come.
	UntilAnswered bool
	// Unfinished is the number of requests in all whose message has not come whole; 0 means no limit. Each may occupy RequestBytes,
	// before it is known from whom it is.
	Unfinished int
	// HandshakeWithin is how long a connection may take until it can be used, ReadWithin how long a request's message may take to
	// come whole. A connection that takes longer ends.
	HandshakeWithin, ReadWithin time.Duration
	// Idle is how long a connection may be there without a request, Age how long at all; 0 means for ever. A connection that ends
	// of age is told so, and its client connects again for its next request: to another replica, perhaps, and with whatever
	// certificate it has then.
	Idle, Age time.Duration
}

// AddFlags declares the flags. The values that the limits have are the defaults.
func (l *Limits) AddFlags(flags *pflag.FlagSet) {
	flags.Float64Var(&l.RequestsPerSecond, "max-requests-per-second", l.RequestsPerSecond,
		"gRPC requests that one peer, a client certificate or an IP address, may make in a second; 0 for no limit")
	flags.IntVar(&l.Burst, "max-request-burst", l.Burst, "gRPC requests that one peer may make at once")
	flags.IntVar(&l.RequestBytes, "max-request-bytes", l.RequestBytes, "size of the largest gRPC request in bytes")
	flags.IntVar(&l.Streams, "max-concurrent-requests", l.Streams, "gRPC requests that one connection may have under way")
	flags.IntVar(&l.Connections, connectionsFlag, l.Connections,
		"gRPC connections in all; of too many the newest stays and the quietest ends; 0 for no limit")
	flags.IntVar(&l.ConnectionsPerAddress, perAddressFlag, l.ConnectionsPerAddress,
		"gRPC connections from one IP address, or from one IPv6 network of 64 bits; 0 for no limit")
	flags.IntVar(&l.Unfinished, "max-unfinished-requests", l.Unfinished,
		"gRPC requests in all whose message has not come whole; of too many the connection of the slowest ends; 0 for no limit")
	flags.DurationVar(&l.HandshakeWithin, "connection-handshake-timeout", l.HandshakeWithin,
		"how long a gRPC connection may take until it can be used")
	flags.DurationVar(&l.ReadWithin, "request-read-timeout", l.ReadWithin,
		"how long the message of a gRPC request may take to come whole; its connection ends then")
	flags.DurationVar(&l.Idle, "connection-idle-timeout", l.Idle, "how long a gRPC connection may be open without a request; 0 for ever")
	flags.DurationVar(&l.Age, "connection-max-age", l.Age,
		"how long a gRPC connection lives, after which its client is told to connect again, to any replica; 0 for ever")
}

const connectionsFlag, perAddressFlag = "max-connections", "max-connections-per-address"

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
	case l.Unfinished < 0:
		return fmt.Errorf("--max-unfinished-requests is %d; it must be a number of requests, or 0 for no limit", l.Unfinished)
	case l.HandshakeWithin < time.Second:
		return fmt.Errorf("--connection-handshake-timeout is %s; it must be at least 1s", l.HandshakeWithin)
	case l.ReadWithin < time.Second:
		return fmt.Errorf("--request-read-timeout is %s; it must be at least 1s", l.ReadWithin)
	case l.Idle != 0 && l.Idle < time.Second:
		return fmt.Errorf("--connection-idle-timeout is %s; it must be at least 1s, or 0 for ever", l.Idle)
	case l.Age != 0 && l.Age < time.Second:
		return fmt.Errorf("--connection-max-age is %s; it must be at least 1s, or 0 for ever", l.Age)
	}
	return l.inbound().Validate(connectionsFlag, perAddressFlag)
}

// inbound are the limits of the listener.
func (l *Limits) inbound() *inbound.Limits {
	return &inbound.Limits{Connections: l.Connections, PerAddress: l.ConnectionsPerAddress, Handshake: l.HandshakeWithin}
}

const (
	// headerBytes is the size of the largest header list. Neither Cluster Autoscaler nor members send any of their own.
	headerBytes = 16 << 10
	// pingAfter is after how long a connection without traffic is asked whether it is still there, deadAfter how long the
	// answer may take.
	pingAfter, deadAfter = time.Minute, 20 * time.Second
	// pingsAtMost is how often a client may ask the same.
	pingsAtMost = 10 * time.Second
	// ageGrace is how long requests under way may still take on a connection that has ended of age.
	ageGrace = 30 * time.Second
	// bufferBytes are those for reading and for writing of a connection; gRPC's default is 32 KiB each. The one for writing is
	// there only while something is written.
	bufferBytes = 4 << 10
	// smallRequest is the size up to which all that a request may have sent ahead is within HTTP/2's first window of 64 KiB. For larger
	// ones gRPC widens it up to 16 MiB, as the network allows.
	smallRequest, window = 64 << 10, 64<<10 - 1
)

// options make a server keep the limits.
func (l *Limits) options() []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(l.RequestBytes),
		grpc.MaxConcurrentStreams(uint32(l.Streams)), //nolint:gosec // Validate has seen it.
		grpc.MaxHeaderListSize(headerBytes),
		// The listener's limit comes first, and counts.
		grpc.ConnectionTimeout(l.HandshakeWithin + time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingAfter, Timeout: deadAfter, MaxConnectionIdle: l.Idle, MaxConnectionAge: l.Age, MaxConnectionAgeGrace: ageGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsAtMost, PermitWithoutStream: true}),
	}
	if l.RequestBytes <= smallRequest {
		options = append(options, grpc.ReadBufferSize(bufferBytes), grpc.WriteBufferSize(bufferBytes),
			grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window))
	}
	return options
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
// for longest is forgotten, and begins again.
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
	if _, _, err := net.SplitHostPort(address); err == nil {
		address = budget.Source(address)
	}
	return "the address " + strings.TrimPrefix(address, "::ffff:")
}

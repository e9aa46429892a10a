package serving

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
)

// oversized counts requests whose message is larger than the limit. gRPC refuses them before any interceptor.
type oversized struct{ turned *inbound.Turned }

var _ stats.Handler = (*oversized)(nil)

type arrivedKey struct{}

// TagRPC implements stats.Handler.
func (*oversized) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, arrivedKey{}, &atomic.Bool{})
}

// HandleRPC implements stats.Handler. What ends for want of resources before a message has come was refused for its size.
func (o *oversized) HandleRPC(ctx context.Context, what stats.RPCStats) {
	arrived, is := ctx.Value(arrivedKey{}).(*atomic.Bool)
	if !is {
		return
	}
	switch what := what.(type) {
	case *stats.InPayload:
		arrived.Store(true)
	case *stats.End:
		if !arrived.Load() && status.Code(what.Error) == codes.ResourceExhausted {
			o.turned.Count(inbound.RequestBytes)
		}
	}
}

// TagConn implements stats.Handler.
func (*oversized) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*oversized) HandleConn(context.Context, stats.ConnStats) {}

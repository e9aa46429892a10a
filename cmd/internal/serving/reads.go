package serving

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
)

// reads are the requests whose message has not come whole. No interceptor has seen them: gRPC reads the message of a request
// first, and waits for it as long as the client likes, in memory that the client fills. Here they are bounded in number and time.
// A request counts from its headers on until its message was read, or its stream has ended.
type reads struct {
	// most is their number in all, 0 for no limit; within is how long a message may take, 0 for ever.
	most   int
	within time.Duration
	// untilAnswered has a request count until it was answered: its message is in memory for as long.
	untilAnswered bool

	mu   sync.Mutex
	open map[*read]struct{}
	// of are how many each source has.
	of map[netip.Prefix]int
}

// read is one request.
type read struct {
	reads *reads
	conn  *inbound.Conn
	timer *time.Timer
	// whole is set when the message has come. Of such a request nothing more is waited for, and it ends soon by itself.
	whole bool
	// stop ends the wait for the end of the stream.
	stop func() bool
	once sync.Once
}

func newReads(most int, within time.Duration, untilAnswered bool) *reads {
	return &reads{most: most, within: within, untilAnswered: untilAnswered, open: map[*read]struct{}{}, of: map[netip.Prefix]int{}}
}

type readKey struct{}

// begin is a tap.ServerInHandle: gRPC calls it with the headers of each request. It refuses none, and ends a connection where there
// are too many: a refusal there leaves the context of a request with a deadline, and its timer, to gRPC 1.85, which forgets them.
func (r *reads) begin(ctx context.Context, _ *tap.Info) (context.Context, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ctx, nil
	}
	conn := inbound.Of(p.Addr)
	if conn == nil {
		return ctx, nil
	}
	one := &read{reads: r, conn: conn}
	victim := r.add(one)
	if r.within > 0 {
		one.timer = time.AfterFunc(r.within, func() { conn.End(inbound.RequestRead) })
	}
	one.stop = context.AfterFunc(ctx, one.end)
	if victim != nil {
		victim.End(inbound.UnfinishedRequests)
	}
	return context.WithValue(ctx, readKey{}, one), nil
}

// add counts a request, and returns the connection that has to end for it.
func (r *reads) add(one *read) (victim *inbound.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.most > 0 && len(r.open) >= r.most {
		if loses := r.slowest(); loses != nil {
			victim = loses.conn
			for other := range r.open {
				if other.conn == victim {
					r.remove(other)
				}
			}
		}
	}
	r.open[one] = struct{}{}
	r.of[one.conn.Source()]++
	return victim
}

// slowest is the request of which nothing has come for longest, of the source that has most; one that has come whole only where all have.
// The lock is held.
func (r *reads) slowest() (found *read) {
	for one := range r.open {
		if found == nil || (found.whole && !one.whole) {
			found = one
			continue
		}
		if one.whole && !found.whole {
			continue
		}
		mine, theirs := r.of[one.conn.Source()], r.of[found.conn.Source()]
		if mine > theirs || (mine == theirs && one.conn.Quieter(found.conn)) {
			found = one
		}
	}
	return found
}

// remove takes a request out of the books; the lock is held.
func (r *reads) remove(one *read) {
	if _, there := r.open[one]; !there {
		return
	}
	delete(r.open, one)
	if r.of[one.conn.Source()]--; r.of[one.conn.Source()] <= 0 {
		delete(r.of, one.conn.Source())
	}
}

// end is when the message was read, or never will be.
func (o *read) end() {
	o.once.Do(func() {
		if o.timer != nil {
			o.timer.Stop()
		}
		o.reads.mu.Lock()
		defer o.reads.mu.Unlock()
		o.reads.remove(o)
	})
}

// come is when the message was read, of a request that counts until it was answered.
func (o *read) come() {
	if o.timer != nil {
		o.timer.Stop()
	}
	o.reads.mu.Lock()
	defer o.reads.mu.Unlock()
	o.whole = true
}

// whole says that the message of a request has come.
func whole(ctx context.Context) {
	one, ok := ctx.Value(readKey{}).(*read)
	switch {
	case !ok:
	case one.reads.untilAnswered:
		one.come()
	default:
		one.stop()
		one.end()
	}
}

// readUnary is the first interceptor: a unary message has been read when it is called.
func readUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	whole(ctx)
	return next(ctx, request)
}

// readStream is the same for streams, whose first message is read by their handler.
func readStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return next(server, &readingStream{stream})
}

type readingStream struct{ grpc.ServerStream }

// RecvMsg implements grpc.ServerStream.
func (s *readingStream) RecvMsg(message any) error {
	err := s.ServerStream.RecvMsg(message)
	whole(s.Context())
	return err //nolint:wrapcheck // It is a status, or io.EOF itself.
}

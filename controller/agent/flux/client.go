package flux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// lead is the rank whose broker runs the services of the instance: jobs, resources, groups.
const lead uint32 = 0

// Client calls the services of a Flux instance. It may be used by many goroutines at once. Close ends it.
type Client struct {
	options Options
	dialer  dialer
	// slots has a value for each call that is under way.
	slots chan struct{}
	// ending ends when the Client is closed.
	ending context.Context //nolint:containedctx // The life of the Client, which no call hands in.
	end    context.CancelFunc

	// connecting is held by whoever makes the connection. It is a channel so that waiting for it can end with a context.
	connecting chan struct{}
	// mu guards current.
	mu      sync.Mutex
	current *calls
	readers sync.WaitGroup
}

// New makes a Client. It does not connect: the first call does.
func New(options Options) (*Client, error) {
	complete, path, err := options.complete()
	if err != nil {
		return nil, err
	}
	ending, end := context.WithCancel(context.Background())
	return &Client{
		options:    complete,
		dialer:     dialer{path: path, options: complete},
		slots:      make(chan struct{}, complete.MaxOutstanding),
		ending:     ending,
		end:        end,
		connecting: make(chan struct{}, 1),
	}, nil
}

// Path is that of the broker's socket.
func (c *Client) Path() string { return c.dialer.path }

// Close ends the connection and all calls that are under way, which get ErrClosed or a LostError. Streams and Subscriptions are not
// ended: they have a Close of their own. It may be called more than once.
func (c *Client) Close() error {
	c.end()
	c.mu.Lock()
	current := c.current
	c.mu.Unlock()
	if current != nil {
		current.fail(ErrClosed)
	}
	c.readers.Wait()
	return nil
}

// Call sends a request to a service and decodes its response. request is encoded as JSON, nil for none; response is a pointer that
// JSON is decoded into, nil where the service answers with nothing. rank is the broker asked: AnyRank for the nearest that has the
// service. The methods of Client with names of their own are made of it.
func (c *Client) Call(ctx context.Context, rank uint32, topic string, request, response any) error {
	ctx, cancel := c.withDeadline(ctx)
	defer cancel()
	return c.await(ctx, rank, topic, request, response)
}

// await is Call without a deadline of its own.
func (c *Client) await(ctx context.Context, rank uint32, topic string, request, response any) error {
	payload, err := wire.JSON(request)
	if err != nil {
		return fmt.Errorf("flux %s: %w", topic, err)
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ended(ctx, topic, fmt.Sprintf("waiting for one of %d calls under way", c.options.MaxOutstanding), nil)
	}
	reply, err := c.exchange(ctx, &wire.Message{
		Type: wire.Request, UserID: wire.UnknownUser, NodeID: rank, Topic: topic, Payload: payload,
	})
	if err != nil {
		return err
	}
	return decodeReply(topic, reply, response)
}

// withDeadline gives a call a deadline where its caller gave none, and ends it when the Client is closed.
func (c *Client) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	cancelTimeout := context.CancelFunc(func() {})
	if _, has := ctx.Deadline(); !has {
		ctx, cancelTimeout = context.WithTimeout(ctx, c.options.CallTimeout)
	}
	ctx, cancel := c.untilClosed(ctx)
	return ctx, func() {
		cancel()
		cancelTimeout()
	}
}

// untilClosed ends a call when the Client is closed.
func (c *Client) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ending, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// ended is the error of a call whose context ended. before is what went wrong before that, nil for nothing.
func ended(ctx context.Context, topic, doing string, before error) error {
	if before != nil {
		return fmt.Errorf("flux %s: %w while %s, after the connection was lost: %w", topic, context.Cause(ctx), doing, before)
	}
	return fmt.Errorf("flux %s: %w while %s", topic, context.Cause(ctx), doing)
}

// exchange sends a request and waits for its response. A connection that turns out to be lost before any of the request was written is
// replaced: a broker that was started again between two calls is no error of the second.
func (c *Client) exchange(ctx context.Context, request *wire.Message) (*wire.Message, error) {
	var before error
	for pause := c.options.MinBackoff; ; pause = min(2*pause, c.options.MaxBackoff) {
		connection, err := c.connection(ctx)
		if err != nil {
			return nil, err
		}
		reply, sent, err := connection.exchange(ctx, request)
		if err == nil {
			return reply, nil
		}
		if _, unsendable := errors.AsType[*unsendableError](err); unsendable {
			return nil, fmt.Errorf("flux %s: %w", request.Topic, err)
		}
		if ctx.Err() != nil {
			return nil, ended(ctx, request.Topic, "waiting for the answer", before)
		}
		if sent {
			return nil, &LostError{Topic: request.Topic, Err: err}
		}
		connection.fail(err)
		before = err
		sleep(ctx, pause)
	}
}

// connection is the one that calls share, made where there is none.
func (c *Client) connection(ctx context.Context) (*calls, error) {
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, &ConnectError{Path: c.dialer.path, Err: errors.New("another call was connecting"), Cause: context.Cause(ctx)}
	}
	if current := c.live(); current != nil {
		return current, nil
	}
	s, err := c.dialer.dial(ctx)
	if err != nil {
		return nil, err
	}
	made := newCalls(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending.Err() != nil {
		return nil, errors.Join(ErrClosed, s.close())
	}
	c.current = made
	c.readers.Go(made.read)
	return made, nil
}

func (c *Client) live() *calls {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && c.current.broken() == nil {
		return c.current
	}
	return nil
}

// calls is the connection that calls share.
type calls struct {
	socket *socket
	// writing is held by the call that writes. It is a channel so that waiting for it can end with a context.
	writing chan struct{}

	mu sync.Mutex
	// waiting has a channel for each call that is under way, by the tag of its request.
	waiting map[uint32]chan *wire.Message
	lastTag uint32
	// err is set once the connection is of no use; lost is closed then.
	err  error
	lost chan struct{}
}

func newCalls(s *socket) *calls {
	return &calls{
		socket: s, writing: make(chan struct{}, 1), waiting: map[uint32]chan *wire.Message{}, lost: make(chan struct{}),
	}
}

// exchange sends a request and waits for its response. sent says, with an error, whether the request may have reached the broker.
func (c *calls) exchange(ctx context.Context, request *wire.Message) (reply *wire.Message, sent bool, err error) {
	tag, answer, err := c.register()
	if err != nil {
		return nil, false, err
	}
	defer c.forget(tag)
	tagged := *request
	tagged.Tag = tag
	if sent, err := c.send(ctx, &tagged); err != nil {
		return nil, sent, err
	}
	select {
	case reply := <-answer:
		return reply, true, nil
	case <-ctx.Done():
		return nil, true, context.Cause(ctx)
	case <-c.lost:
		// The answer may have come just before.
		select {
		case reply := <-answer:
			return reply, true, nil
		default:
			return nil, true, c.broken()
		}
	}
}

func (c *calls) send(ctx context.Context, m *wire.Message) (sent bool, err error) {
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-c.lost:
		return false, c.broken()
	}
	sent, err = c.socket.send(ctx, m)
	if err != nil && sent {
		// Half a message is on the way, and nothing can follow it.
		c.fail(err)
	}
	return sent, err
}

// register chooses a tag. One that is in use, by a call that has waited for four thousand million others, is passed over.
func (c *calls) register() (uint32, chan *wire.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	for {
		c.lastTag++
		if _, used := c.waiting[c.lastTag]; c.lastTag != 0 && !used {
			answer := make(chan *wire.Message, 1)
			c.waiting[c.lastTag] = answer
			return c.lastTag, answer, nil
		}
	}
}

func (c *calls) forget(tag uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, tag)
}

// read hands each response to the call that waits for it, until the connection is lost. One that nobody waits for is dropped: its call
// has ended.
func (c *calls) read() {
	for {
		m, err := c.socket.messages.Next()
		if err != nil {
			c.fail(err)
			return
		}
		if m.Type != wire.Response {
			continue
		}
		c.mu.Lock()
		answer := c.waiting[m.Tag]
		// Responses after the first are not for anybody: calls have one.
		delete(c.waiting, m.Tag)
		c.mu.Unlock()
		if answer != nil {
			answer <- m
		}
	}
}

// broken is why the connection is of no use, nil where it is of use.
func (c *calls) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail gives the connection up.
func (c *calls) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if errors.Is(err, io.EOF) {
		err = errBrokerGone
	}
	c.err = err
	close(c.lost)
	// What it could say is that it is closed.
	_ = c.socket.close()
}

// errBrokerGone is what the end of a connection means.
var errBrokerGone = errors.New("the broker closed it")

// decodeReply makes of a response what the caller asked for, or the error that it brings.
func decodeReply(topic string, reply *wire.Message, response any) error {
	if reply.Errno != 0 {
		return answered(topic, reply)
	}
	if response == nil {
		return nil
	}
	if err := decodeJSON(reply.Payload, response); err != nil {
		return &ReplyError{Topic: topic, Err: err}
	}
	return nil
}

func answered(topic string, reply *wire.Message) error {
	return &Error{Topic: topic, Errno: syscall.Errno(reply.Errno), Text: string(wire.Unterminated(reply.Payload))}
}

package flux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// Stream is the responses to one request. Its methods are for one goroutine, Close apart, which any may call.
type Stream[T any] struct {
	topic  string
	socket *socket
	decode func(payload []byte) (T, error)
	// over is why there is nothing more to come.
	over error
}

// openStream asks for a stream of responses on a connection of its own.
func openStream[T any](
	ctx context.Context, c *Client, rank uint32, topic string, request any, decode func(payload []byte) (T, error),
) (*Stream[T], error) {
	ctx, cancel := c.withDeadline(ctx)
	defer cancel()
	payload, err := wire.JSON(request)
	if err != nil {
		return nil, fmt.Errorf("flux %s: %w", topic, err)
	}
	s, err := c.dialer.dial(ctx)
	if err != nil {
		return nil, err
	}
	_, err = s.send(ctx, &wire.Message{
		Type: wire.Request, Flags: wire.Streaming, UserID: wire.UnknownUser, NodeID: rank, Tag: 1, Topic: topic, Payload: payload,
	})
	if _, unsendable := errors.AsType[*unsendableError](err); unsendable {
		return nil, errors.Join(fmt.Errorf("flux %s: %w", topic, err), s.close())
	}
	if err != nil {
		return nil, errors.Join(&LostError{Topic: topic, Err: err}, s.close())
	}
	return &Stream[T]{topic: topic, socket: s, decode: decode}, nil
}

// Next waits for the next response. Its errors:
//
//	io.EOF       the service has ended the stream
//	*Error       it ended it with an error, such as ENOSYS for a service that is not there
//	*LostError   the connection is lost
//	*ReplyError  the response is not understood. The one after it may be
//	ErrClosed    the Stream was closed
//
// or that of the context, after which Next can be called again. After the first three, and ErrClosed, the same error is all that follows.
func (s *Stream[T]) Next(ctx context.Context) (T, error) {
	var none T
	for s.over == nil {
		m, err := s.socket.receive(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return none, fmt.Errorf("flux %s: %w while waiting for the next response", s.topic, context.Cause(ctx))
		case err != nil:
			s.over = lostWhile(s.topic, err)
		case m.Type != wire.Response || m.Tag != 1:
			// Nothing else was asked for on this connection.
		case m.Errno == uint32(syscall.ENODATA):
			s.over = io.EOF
		case m.Errno != 0:
			s.over = answered(s.topic, m)
		default:
			if m.Flags&wire.Streaming == 0 {
				// RFC 6: a response without the flag is the last.
				s.over = io.EOF
			}
			value, err := s.decode(m.Payload)
			if err != nil {
				return none, &ReplyError{Topic: s.topic, Err: err}
			}
			return value, nil
		}
	}
	return none, s.over
}

// lostWhile is the error of a connection that was lost, or closed by us.
func lostWhile(topic string, err error) error {
	if isClosed(err) {
		return fmt.Errorf("flux %s: %w", topic, ErrClosed)
	}
	if errors.Is(err, io.EOF) {
		err = errBrokerGone
	}
	return &LostError{Topic: topic, Err: err}
}

// Close ends the stream: the broker tells the service that nobody listens. A Next that waits ends with ErrClosed.
func (s *Stream[T]) Close() error {
	if err := s.socket.close(); err != nil && !isClosed(err) {
		return fmt.Errorf("close stream of flux %s: %w", s.topic, err)
	}
	return nil
}

// Follow reads streams, one after the other: it opens one, hands each of its responses to Each, and opens the next when that one has
// ended, after a pause that grows from Options.MinBackoff to MaxBackoff while nothing comes.
//
// It returns when the context ends, or with an error that waiting does not change: one of Each or Opened, or one that is not Temporary.
func Follow[T any](
	ctx context.Context, c *Client, open func(context.Context) (*Stream[T], error), f Follower[T],
) error {
	pause := c.options.MinBackoff
	for {
		came, err := f.once(ctx, open)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if fatal, is := errors.AsType[*followerError](err); is {
			return fatal.err
		}
		if !errors.Is(err, io.EOF) && !Temporary(err) {
			return err
		}
		if f.Ended != nil {
			f.Ended(err)
		}
		if came {
			pause = c.options.MinBackoff
		}
		if !sleep(ctx, pause) {
			return context.Cause(ctx)
		}
		pause = min(2*pause, c.options.MaxBackoff)
	}
}

// Follower is what Follow tells. All but Each may be nil.
type Follower[T any] struct {
	// Opened is called when a stream was asked for, before its first response. What it says begins again, as after a restart of the
	// broker: what is kept of the stream before has to be forgotten.
	Opened func() error
	// Each is called with each response.
	Each func(T) error
	// Ended is called with why a stream ended. Another one is asked for after that.
	Ended func(error)
	// Misread is called with the *ReplyError of a response that is not understood, and the next one is read after it. Where it is nil,
	// Follow returns that error: the next stream would most likely begin with the same response.
	Misread func(error)
}

// followerError is an error of a Follower, which ends Follow.
type followerError struct{ err error }

func (e *followerError) Error() string { return e.err.Error() }

// once reads one stream to its end. came says whether a response did.
func (f *Follower[T]) once(ctx context.Context, open func(context.Context) (*Stream[T], error)) (came bool, err error) {
	stream, err := open(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		if closeErr := stream.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	if f.Opened != nil {
		if err := f.Opened(); err != nil {
			return false, &followerError{err}
		}
	}
	for {
		value, err := stream.Next(ctx)
		if _, misread := errors.AsType[*ReplyError](err); misread && f.Misread != nil {
			f.Misread(err)
			continue
		}
		if err != nil {
			return came, err
		}
		came = true
		if err := f.Each(value); err != nil {
			return came, &followerError{err}
		}
	}
}

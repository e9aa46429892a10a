package flux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// socket is one connection to a broker, after its handshake. One goroutine at a time may send, and one may receive.
type socket struct {
	conn     *net.UnixConn
	messages *wire.Reader
	limit    int
}

// dialer makes sockets.
type dialer struct {
	path    string
	options Options
}

// dial connects, again and with growing pauses until the broker takes the connection or the context ends. A broker that refuses this user
// ends it at once.
func (d *dialer) dial(ctx context.Context) (*socket, error) {
	var last error
	for pause := d.options.MinBackoff; ; pause = min(2*pause, d.options.MaxBackoff) {
		s, err := d.attempt(ctx)
		if err == nil {
			return s, nil
		}
		if _, refused := errors.AsType[*RefusedError](err); refused {
			return nil, err
		}
		// An attempt that its time ended says less than one that failed before it.
		if last == nil || !outOfTime(ctx, err) {
			last = err
		}
		// A part of the pause is random, so that many that lost the same broker do not come back at once.
		if !sleep(ctx, pause/2+rand.N(pause/2+1)) { //nolint:gosec // Pauses need no secret randomness.
			return nil, &ConnectError{Path: d.path, Err: last, Cause: context.Cause(ctx)}
		}
	}
}

// outOfTime says whether an attempt failed because the context ended, of which the attempt may know first.
func outOfTime(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// sleep waits, and says whether the context let it.
func sleep(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt connects once. The broker sends one byte: 0, or the number of the error for which it refuses.
func (d *dialer) attempt(ctx context.Context) (*socket, error) {
	var plain net.Dialer
	conn, err := plain.DialContext(ctx, "unix", d.path)
	if err != nil {
		return nil, err
	}
	unix, is := conn.(*net.UnixConn)
	if !is {
		return nil, errors.Join(fmt.Errorf("a connection to %s is a %T", d.path, conn), conn.Close())
	}
	s := &socket{conn: unix, messages: wire.NewReader(unix, d.options.MaxMessage), limit: d.options.MaxMessage}
	if err := s.handshake(ctx, d.path); err != nil {
		return nil, errors.Join(err, unix.Close())
	}
	return s, nil
}

func (s *socket) handshake(ctx context.Context, path string) error {
	release, err := s.interruptReads(ctx)
	if err != nil {
		return err
	}
	defer release()
	var verdict [1]byte
	if _, err := io.ReadFull(s.conn, verdict[:]); err != nil {
		return fmt.Errorf("the broker at %s said nothing to the connection: %w", path, err)
	}
	if verdict[0] != 0 {
		return &RefusedError{Path: path, UserID: os.Getuid(), Errno: syscall.Errno(verdict[0])}
	}
	return nil
}

// longAgo is a deadline that is over.
func longAgo() time.Time { return time.Unix(1, 0) }

// interruptReads ends the reads of a socket when the context does, until release is called.
func (s *socket) interruptReads(ctx context.Context) (release func(), err error) {
	return interrupt(ctx, s.conn.SetReadDeadline)
}

func (s *socket) interruptWrites(ctx context.Context) (release func(), err error) {
	return interrupt(ctx, s.conn.SetWriteDeadline)
}

// interrupt sets a deadline that is over as soon as the context ends. Before that there is none.
func interrupt(ctx context.Context, setDeadline func(time.Time) error) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := setDeadline(time.Time{}); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		// A socket that is closed has no deadline, and needs none.
		_ = setDeadline(longAgo())
	})
	return func() {
		if !stop() {
			// It has begun: it must not reach into what is done with the socket next.
			<-done
		}
	}, nil
}

// unsendableError says that a message cannot be sent, on whatever connection.
type unsendableError struct{ err error }

func (e *unsendableError) Error() string { return e.err.Error() }

func (e *unsendableError) Unwrap() error { return e.err }

// send writes a message. sent says whether any of it was: then the socket is of no use after an error.
func (s *socket) send(ctx context.Context, m *wire.Message) (sent bool, err error) {
	framed, err := wire.AppendFramed(nil, m)
	if err != nil {
		return false, &unsendableError{err}
	}
	if len(framed) > s.limit {
		return false, &unsendableError{&wire.TooLongError{Size: int64(len(framed)), Limit: int64(s.limit)}}
	}
	release, err := s.interruptWrites(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	written, err := s.conn.Write(framed)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w while writing to the broker", context.Cause(ctx))
	}
	return written > 0, err
}

// receive reads the next message. A message that came in part when the context ended is not lost: the next receive goes on with it.
func (s *socket) receive(ctx context.Context) (*wire.Message, error) {
	release, err := s.interruptReads(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := s.messages.Next()
	if err != nil && ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	return m, err
}

func (s *socket) close() error { return s.conn.Close() }

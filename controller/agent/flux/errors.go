package flux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// Error is the answer of a service that did not do what it was asked. errors.Is finds its Errno.
type Error struct {
	// Topic is what was called.
	Topic string
	// Errno is the number of the error on Linux, such as syscall.ENOENT for a job that is not known. ENOSYS says that there is no
	// such service: this flux-core does not have it, or the broker has not loaded it yet.
	Errno syscall.Errno
	// Text is what the service says of it, or "".
	Text string
}

// Error has the text of the service, or that of the errno where there is none.
func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("flux %s: %s", e.Topic, e.Errno.Error())
	}
	return fmt.Sprintf("flux %s: %s (%s)", e.Topic, shorten(e.Text), e.Errno.Error())
}

// Unwrap is the errno.
func (e *Error) Unwrap() error { return e.Errno }

// LostError says that the connection was lost while the answer was awaited. What was asked may have been done, or be done yet.
type LostError struct {
	// Topic is what was called.
	Topic string
	// Err is what happened to the connection.
	Err error
}

// Error says what was lost and how.
func (e *LostError) Error() string {
	return fmt.Sprintf("flux %s: connection to the broker lost before the answer, so it may or may not have been done: %v", e.Topic, e.Err)
}

// Unwrap is what happened to the connection.
func (e *LostError) Unwrap() error { return e.Err }

// RefusedError says that the broker does not take connections of this user. Waiting does not change that.
type RefusedError struct {
	// Path is that of the socket.
	Path string
	// UserID is the user that asked.
	UserID int
	// Errno is the reason that the broker gave.
	Errno syscall.Errno
}

// Error says who was refused and what would be right.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the Flux broker at %s refuses user %d (%s): it takes its own user, and root where its configuration has "+
		"access.allow-root-owner", e.Path, e.UserID, e.Errno.Error())
}

// Unwrap is the reason.
func (e *RefusedError) Unwrap() error { return e.Errno }

// ReplyError says that a reply is not what this package knows of its topic: another release of flux-core, most likely.
type ReplyError struct {
	// Topic is what was called.
	Topic string
	// Err says which field is wrong.
	Err error
}

// Error says what is wrong.
func (e *ReplyError) Error() string {
	return fmt.Sprintf("flux %s: reply not understood: %v", e.Topic, e.Err)
}

// Unwrap is what is wrong.
func (e *ReplyError) Unwrap() error { return e.Err }

// ConnectError says that there was no connection to a broker before the time was over.
type ConnectError struct {
	// Path is that of the socket.
	Path string
	// Err is the failure of the last attempt.
	Err error
	// Cause is why no further attempt was made: the context's error.
	Cause error
}

// Error says what the last attempt met.
func (e *ConnectError) Error() string {
	return fmt.Sprintf("no Flux broker at %s (%v): %v", e.Path, e.Cause, e.Err)
}

// Unwrap is both errors.
func (e *ConnectError) Unwrap() []error { return []error{e.Cause, e.Err} }

// ErrClosed is the error of a Client, Stream or Subscription that was closed.
var ErrClosed = errors.New("flux: closed")

// Temporary says whether an error may go away by waiting: no broker, a lost connection, a service that is not loaded yet, a peer in the
// overlay network that is away, an answer that did not come in time. A message that is longer than Options.MaxMessage does not go away.
// It says nothing about whether what was asked has been done.
func Temporary(err error) bool {
	if _, is := errors.AsType[*wire.TooLongError](err); is {
		return false
	}
	if _, is := errors.AsType[*LostError](err); is {
		return true
	}
	if _, is := errors.AsType[*ConnectError](err); is {
		return true
	}
	if refused, is := errors.AsType[*Error](err); is {
		switch refused.Errno {
		case syscall.ENOSYS, syscall.EHOSTUNREACH, syscall.EAGAIN, syscall.ETIMEDOUT, syscall.ECONNRESET, syscall.EHOSTDOWN:
			return true
		default:
			return false
		}
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// isClosed says whether an error is that of a connection which we closed.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

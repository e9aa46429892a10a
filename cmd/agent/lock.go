package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/go-logr/logr"
)

// lockInterval is between two attempts to get a lock that another process has.
const lockInterval = 200 * time.Millisecond

// lock takes the lock of a file, which is made where it is not there, and waits while another process has it: two agents on the same rules
// would both submit the jobs. The kernel gives it back when the process ends, however it does.
func lock(ctx context.Context, log logr.Logger, path string) (unlock func() error, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		// As with what is kept there: a folder that cannot be written is no reason not to run the rules.
		log.Error(err, "It is not known whether another agent runs these rules")
		return func() error { return nil }, nil
	}
	said := false
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return file.Close, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		case !said:
			said = true
			log.Info("Another agent runs these rules; it is waited for", "lock", path)
		}
		timer := time.NewTimer(lockInterval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(context.Cause(ctx), file.Close())
		}
	}
}

// supervisorFile is the file by which a child knows that its supervisor lives: the first after the standard ones.
const supervisorFile = 3

// errAlone is that the supervisor of this process has ended.
var errAlone = errors.New("the program that started this one has ended")

// whileSupervised is a context that ends when the supervisor does: the other end of a pipe is closed then. The caller ends it too.
func whileSupervised(ctx context.Context) (context.Context, func() error) {
	// The programs of custom actions do not have it.
	syscall.CloseOnExec(supervisorFile)
	pipe := os.NewFile(supervisorFile, "supervisor")
	ctx, end := context.WithCancelCause(ctx)
	go func() {
		// Nothing is written.
		_, err := pipe.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrClosed) {
			end(errAlone)
		}
	}()
	return ctx, func() error {
		end(nil)
		return pipe.Close()
	}
}

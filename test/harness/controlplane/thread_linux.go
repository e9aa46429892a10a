package controlplane

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// thread starts processes from one operating system thread that lives until close.
//
// The kernel sends a child its parent-death signal when the *thread* that started it ends, not the process
// (prctl(2), PR_SET_PDEATHSIG), and Go may end a thread at any time that a locked goroutine returns.
type thread struct {
	requests chan startRequest
	ended    chan struct{}
	once     sync.Once
}

type startRequest struct {
	command *exec.Cmd
	result  chan<- error
}

func newThread() *thread {
	t := &thread{requests: make(chan startRequest), ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for request := range t.requests {
			request.result <- request.command.Start()
		}
	}()
	return t
}

// start starts the command such that the kernel kills it when this program dies. It must not be called
// after close.
func (t *thread) start(command *exec.Cmd) error {
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	result := make(chan error, 1)
	t.requests <- startRequest{command: command, result: result}
	return <-result
}

// close ends the thread. Every process that it started must have ended.
func (t *thread) close() {
	t.once.Do(func() { close(t.requests) })
	<-t.ended
}

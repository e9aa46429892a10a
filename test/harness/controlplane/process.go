package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs under the guard of a ControlPlane: it ends with the control plane or with
// the program that started it, together with all processes of its process group. It can be ended and started
// again as often as a test needs; its output is appended to one log file.
type Process struct {
	name    string
	logFile string
	command *exec.Cmd // the template of every start
	// adjust changes the command for one start. Nil changes nothing.
	adjust func(*exec.Cmd) error
	guard  *guard
	thread *thread

	mu     sync.Mutex
	latest *execution
	closed bool
}

// execution is one start of a Process.
type execution struct {
	pid  int
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; to be read when done is closed
}

func (e *execution) running() bool {
	select {
	case <-e.done:
		return false
	default:
		return true
	}
}

// newProcess checks the command and returns the Process for it, not yet started.
func newProcess(name, logFile string, command *exec.Cmd, guard *guard, thread *thread) (*Process, error) {
	switch {
	case command.Err != nil:
		return nil, fmt.Errorf("process %s: %w", name, command.Err)
	case command.Process != nil:
		return nil, fmt.Errorf("process %s: its command was started before; pass a fresh one", name)
	case command.Stdout != nil || command.Stderr != nil:
		return nil, fmt.Errorf("process %s: its output goes to %s; leave Stdout and Stderr of the command nil", name, logFile)
	}
	return &Process{name: name, logFile: logFile, command: command, guard: guard, thread: thread}, nil
}

// Name is the name that the process was given; its log file is called after it.
func (p *Process) Name() string { return p.name }

// LogFile is the path of the file that holds the standard output and error of all starts of the process.
func (p *Process) LogFile() string { return p.logFile }

// Start starts the process, again after it has ended. It is an error while the process runs.
func (p *Process) Start() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("start %s: the control plane was stopped", p.name)
	}
	if p.latest != nil && p.latest.running() {
		return fmt.Errorf("start %s: it runs already as process %d", p.name, p.latest.pid)
	}

	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	// The process has its own copy of the descriptor. A file and no pipe: there is nothing to copy, and the
	// last words of a process are kept even when we die with it.
	defer func() { err = errors.Join(err, log.Close()) }()

	command := p.freshCommand(log)
	if p.adjust != nil {
		if err := p.adjust(command); err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
	}
	if err := p.thread.start(command); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	current := &execution{pid: command.Process.Pid, done: make(chan struct{})}
	p.latest = current
	holdErr := p.guard.hold(current.pid)
	go func() {
		err := command.Wait()
		// What the process left behind in its group ends with it.
		if killErr := killGroup(current.pid); killErr != nil {
			err = errors.Join(err, killErr)
		}
		if releaseErr := p.guard.release(current.pid); releaseErr != nil {
			err = errors.Join(err, releaseErr)
		}
		current.err = err
		close(current.done)
	}()
	if holdErr != nil {
		// Without its guard the process could outlive us.
		return errors.Join(fmt.Errorf("start %s: %w", p.name, holdErr), killGroup(current.pid))
	}
	return nil
}

func (p *Process) freshCommand(log *os.File) *exec.Cmd {
	command := &exec.Cmd{
		Path:       p.command.Path,
		Args:       slices.Clone(p.command.Args),
		Env:        slices.Clone(p.command.Env),
		Dir:        p.command.Dir,
		Stdin:      p.command.Stdin,
		Stdout:     log,
		Stderr:     log,
		ExtraFiles: p.command.ExtraFiles,
	}
	attributes := syscall.SysProcAttr{}
	if p.command.SysProcAttr != nil {
		attributes = *p.command.SysProcAttr
	}
	attributes.Setpgid, attributes.Pgid = true, 0
	command.SysProcAttr = &attributes
	return command
}

// Pid is the process number of the latest start; 0 before the first.
func (p *Process) Pid() int {
	if current := p.current(); current != nil {
		return current.pid
	}
	return 0
}

// Running tells whether the process has been started and has not ended.
func (p *Process) Running() bool {
	current := p.current()
	return current != nil && current.running()
}

// Done is closed when the latest start has ended. It is closed already before the first start.
func (p *Process) Done() <-chan struct{} {
	if current := p.current(); current != nil {
		return current.done
	}
	done := make(chan struct{})
	close(done)
	return done
}

// Wait waits until the latest start has ended and returns how: nil after exit status 0, else an error that
// wraps *exec.ExitError, and the error of ctx when that ends first.
func (p *Process) Wait(ctx context.Context) error {
	current := p.current()
	if current == nil {
		return nil
	}
	select {
	case <-current.done:
		return current.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.name, ctx.Err())
	}
}

// Kill ends the process and its whole group with SIGKILL and waits until it is gone, as a crash would. To
// kill what does not run is no error.
func (p *Process) Kill() error {
	current := p.current()
	if current == nil || !current.running() {
		return nil
	}
	if err := killGroup(current.pid); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-current.done
	return nil
}

// Stop asks the process to end with SIGTERM and waits for it. After the bound it kills it, and reports that.
// To stop what does not run is no error.
func (p *Process) Stop(bound time.Duration) error {
	current := p.current()
	if current == nil || !current.running() {
		return nil
	}
	if err := syscall.Kill(current.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-current.done:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("stop %s: it did not end within %s of SIGTERM and was killed", p.name, bound), p.Kill())
	}
}

// Restart kills the process and starts it again.
func (p *Process) Restart() error {
	if err := p.Kill(); err != nil {
		return err
	}
	return p.Start()
}

// retire ends the process for good.
func (p *Process) retire(end func() error) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	return end()
}

func (p *Process) current() *execution {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latest
}

// killGroup kills every process of the group. A group that is gone is no error.
func killGroup(group int) error {
	if err := syscall.Kill(-group, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", group, err)
	}
	return nil
}

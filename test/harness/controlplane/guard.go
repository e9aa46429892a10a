package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// guard is this program's end of the pipe to the guard process, which kills the process groups named to it
// and removes the directories once the pipe closes.
type guard struct {
	command *exec.Cmd
	said    bytes.Buffer // what the guard process wrote; to be read after Wait

	mu   sync.Mutex
	pipe io.WriteCloser
}

// startGuard starts the guard process from the binary. It removes the directories at the end.
func startGuard(binary string, directories ...string) (*guard, error) {
	g := &guard{command: exec.Command(binary, directories...)}
	g.command.Stdout, g.command.Stderr = &g.said, &g.said
	// A session of its own: Ctrl-C and a closing terminal reach this program, not its guard.
	g.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := g.command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	g.pipe = pipe
	if err := g.command.Start(); err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	return g, nil
}

// hold puts a process group under guard.
func (g *guard) hold(group int) error { return g.write("+%d\n", group) }

// release takes a process group that has ended out of guard, so that a later process of the same number is
// not taken for it.
func (g *guard) release(group int) error { return g.write("-%d\n", group) }

func (g *guard) write(format string, group int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := fmt.Fprintf(g.pipe, format, group); err != nil {
		return fmt.Errorf("tell guard about process group %d: %w", group, err)
	}
	return nil
}

// close lets the guard do its work and waits until it is done.
func (g *guard) close() error {
	g.mu.Lock()
	closeErr := g.pipe.Close()
	g.mu.Unlock()
	if err := g.command.Wait(); err != nil {
		return errors.Join(closeErr, fmt.Errorf("guard: %w: %s", err, bytes.TrimSpace(g.said.Bytes())))
	}
	return closeErr
}

package program

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// DefaultDeadline is how long a program may run where nothing else is said.
const DefaultDeadline = time.Minute

// maxOutput bounds what is read of the output of a program.
const maxOutput = 64 << 10

// afterKill is how long what a program has started may keep its output open after its end.
const afterKill = time.Second

// Runner runs programs.
type Runner struct {
	// Python is the text that defines the functions which labels name. Where it is empty, a label is a program with its arguments.
	Python string
	// Interpreter runs the text, "" for python3.
	Interpreter string
	// Deadline ends a program; it is killed then.
	Deadline time.Duration
	// Errors gets what programs write to their standard error.
	Errors io.Writer
}

//go:embed shim.py
var shim string

// Run gives a program its input and returns what it writes to its standard output.
func (r *Runner) Run(ctx context.Context, label string, input []byte) ([]byte, error) {
	words := ensemblefile.Words(label)
	if strings.TrimSpace(r.Python) != "" {
		var err error
		if input, err = json.Marshal(map[string]any{"function": label, "python": r.Python, "told": json.RawMessage(input)}); err != nil {
			return nil, err
		}
		interpreter := r.Interpreter
		if interpreter == "" {
			interpreter = "python3"
		}
		words = []string{interpreter, "-c", shim}
	}
	if len(words) == 0 {
		return nil, errors.New("there is no program: the label is empty")
	}
	deadline := r.Deadline
	if deadline <= 0 {
		deadline = DefaultDeadline
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	output := &bounded{}
	command.Stdin, command.Stdout, command.Stderr, command.WaitDelay = bytes.NewReader(input), output, r.Errors, afterKill
	// What it has started, and not waited for, ends with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	err := command.Run()
	if command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // Most often there is nothing left.
	}
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("run %s: it was ended after %s", label, deadline)
	case err != nil:
		return nil, fmt.Errorf("run %s: %w", label, err)
	case output.over:
		return nil, fmt.Errorf("run %s: it has written more than %d bytes", label, maxOutput)
	}
	return output.kept.Bytes(), nil
}

// bounded keeps the beginning of what is written.
type bounded struct {
	kept bytes.Buffer
	over bool
}

// Write takes all, so that the program is not held up.
func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), maxOutput-b.kept.Len())
	b.over = b.over || keep < len(p)
	if _, err := b.kept.Write(p[:keep]); err != nil {
		return 0, err
	}
	return len(p), nil
}

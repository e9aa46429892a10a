package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build makes the programs of a control plane, or finds them in the user's cache directory, where it keeps
// them by the content of their go.mod files, the Go version and the platform. The first build takes about ten
// minutes on two cores; progress then says what is being built, how long it has taken and how long it
// usually takes. When nothing is to be done, Build says nothing and takes a fraction of a second.
//
// Builds of several processes wait for each other, and one that was interrupted is taken up where it ended.
func Build(ctx context.Context, progress io.Writer) (Binaries, error) {
	b, err := newBuilder(ctx, progress)
	if err != nil {
		return Binaries{}, fmt.Errorf("build control plane: %w", err)
	}
	binaries, err := b.build(ctx)
	if err != nil {
		return Binaries{}, fmt.Errorf("build control plane: %w", err)
	}
	return binaries, nil
}

// signOfLife is the time between two lines of progress while something takes long.
const signOfLife = 15 * time.Second

// builder holds what one Build works with.
type builder struct {
	progress  io.Writer
	source    string // this directory on disk
	cache     string
	goVersion string
	heartbeat time.Duration // signOfLife
}

func newBuilder(ctx context.Context, progress io.Writer) (*builder, error) {
	source, err := sourceDirectory()
	if err != nil {
		return nil, err
	}
	userCache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find a place to keep the binaries: %w", err)
	}
	b := &builder{
		progress: progress,
		source:   source,
		cache:    filepath.Join(userCache, "ensemble-autoscaler", "controlplane"),

		heartbeat: signOfLife,
	}
	// Asked in the directory of the module, where a "toolchain" line may choose another Go.
	command := b.goCommand(ctx, "kubernetes", "env", "GOVERSION")
	version, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("ask go for its version: %w", err)
	}
	b.goVersion = strings.TrimSpace(string(version))
	return b, nil
}

func (b *builder) build(ctx context.Context) (Binaries, error) {
	guard, err := b.buildGuard(ctx)
	if err != nil {
		return Binaries{}, err
	}
	if ready := os.Getenv(BinariesVariable); ready != "" {
		if err := readyBinaries(ready); err != nil {
			return Binaries{}, fmt.Errorf("%s=%s: %w", BinariesVariable, ready, err)
		}
		return Binaries{directory: ready, guard: guard}, nil
	}

	directory, err := b.directory(programs(), "kubernetes/go.mod", "kubernetes/go.sum", "kwok/go.mod", "kwok/go.sum")
	if err != nil {
		return Binaries{}, err
	}
	binaries := Binaries{directory: directory, guard: guard}
	if readyBinaries(directory) == nil {
		return binaries, nil
	}
	return binaries, b.locked(ctx, directory, func(lock *os.File) error {
		for _, program := range programs() {
			if err := b.buildProgram(ctx, lock, program, filepath.Join(directory, program.name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// directory is the place in the cache for programs that are made from the files, which are named from the source.
func (b *builder) directory(programs []program, files ...string) (string, error) {
	inputs := []string{b.goVersion, runtime.GOOS, runtime.GOARCH}
	for _, program := range programs {
		inputs = append(inputs, program.name, program.importPath, program.linkerFlags("v0.0.0"))
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(b.source, filepath.FromSlash(file)))
		if err != nil {
			return "", err
		}
		inputs = append(inputs, file, string(content))
	}
	hash := sha256.Sum256([]byte(strings.Join(inputs, "\x00")))
	return filepath.Join(b.cache, hex.EncodeToString(hash[:])[:16]), nil
}

// buildGuard makes the guard, which is ours and small. It lives in a directory of its own, so that a change
// of it does not cost a build of everything else.
func (b *builder) buildGuard(ctx context.Context) (string, error) {
	const source = "guard/main.go"
	directory, err := b.directory(programs(), source)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(directory, guardBinary)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	return binary, b.locked(ctx, directory, func(lock *os.File) error {
		return b.install(ctx, lock, ".", binary, "-ldflags=-s -w", filepath.Join(b.source, filepath.FromSlash(source)))
	})
}

// buildProgram makes one binary unless it is there, and reports on it.
func (b *builder) buildProgram(ctx context.Context, lock *os.File, program program, binary string) error {
	if _, err := os.Stat(binary); err == nil {
		return nil
	}
	goMod, err := os.ReadFile(filepath.Join(b.source, program.module, "go.mod"))
	if err != nil {
		return err
	}
	version, err := requiredVersion(goMod, program.versionOf)
	if err != nil {
		return fmt.Errorf("build %s: %w", program.name, err)
	}
	start := time.Now()
	elapsed := func() time.Duration { return time.Since(start).Round(time.Second) }
	say := func() {
		b.say("building %s %s … %s; first time only, about %s on 2 cores", program.name, version, elapsed(), program.usually)
	}
	say()
	err = b.during(say, func() error {
		return b.install(ctx, lock, program.module, binary, "-ldflags="+program.linkerFlags(version), program.importPath)
	})
	if err != nil {
		return fmt.Errorf("build %s %s: %w", program.name, version, err)
	}
	b.say("built %s %s in %s", program.name, version, elapsed())
	return nil
}

// install builds the package into a temporary file and moves it to its place, so that whoever finds a binary
// finds a whole one. The go command inherits the lock: should it outlive this process, nobody else writes to
// the same file.
func (b *builder) install(ctx context.Context, lock *os.File, module, binary, linkerFlags, importPath string) error {
	unfinished := binary + ".unfinished"
	command := b.goCommand(ctx, module, "build", "-trimpath", "-buildvcs=false", linkerFlags, "-o", unfinished, importPath)
	command.ExtraFiles = []*os.File{lock}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return errors.Join(fmt.Errorf("%w: %s", err, lastLines(output.String())), ctx.Err())
	}
	return os.Rename(unfinished, binary)
}

// goCommand is a call of the go command that does not depend on the user's settings for other work.
func (b *builder) goCommand(ctx context.Context, module string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = filepath.Join(b.source, module)
	command.Env = append(os.Environ(),
		"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	// An interrupt lets go remove its work directory and end its compilers.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = stopWithin
	return command
}

// locked runs the work while no other process works in the directory, which it makes.
func (b *builder) locked(ctx context.Context, directory string, work func(lock *os.File) error) (err error) {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(directory, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	// Closing the file releases the lock, as the end of this process would.
	defer func() { err = errors.Join(err, lock.Close()) }()

	const interval = 200 * time.Millisecond
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var said time.Time
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return work(lock)
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		if time.Since(said) >= b.heartbeat {
			said = time.Now()
			b.say("waiting for another process that builds in %s", directory)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// during calls say at each heartbeat while the work runs.
func (b *builder) during(say func(), work func() error) error {
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(b.heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				say()
			case <-ended:
				return
			}
		}
	})
	err := work()
	close(ended)
	group.Wait()
	return err
}

// say writes a line of progress. A build does not fail because nobody reads about it.
func (b *builder) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", arguments...)
}

// lastLines is the end of a command's output, for an error message.
func lastLines(output string) string {
	const most = 20
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return strings.Join(lines, "\n")
}

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
	"slices"
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
	command := b.goCommand(ctx, components, "env", "GOVERSION")
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

	directory, err := b.inCache()
	if err != nil {
		return Binaries{}, err
	}
	binaries := Binaries{directory: directory, guard: guard}
	if !slices.ContainsFunc(programs(), func(p program) bool { _, err := os.Stat(binaries.path(p.name)); return err != nil }) {
		return binaries, nil
	}
	return binaries, b.buildAll(ctx, directory, programs())
}

// BuildKubectl makes a kubectl beside the components, or finds it there, and returns its path. Few need it.
func BuildKubectl(ctx context.Context, progress io.Writer) (string, error) {
	path, err := buildKubectl(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("build kubectl: %w", err)
	}
	return path, nil
}

func buildKubectl(ctx context.Context, progress io.Writer) (string, error) {
	b, err := newBuilder(ctx, progress)
	if err != nil {
		return "", err
	}
	directory := os.Getenv(BinariesVariable)
	if directory != "" {
		return filepath.Join(directory, kubectlBinary), readyBinaries(directory)
	}
	if directory, err = b.inCache(); err != nil {
		return "", err
	}
	path := filepath.Join(directory, kubectlBinary)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, b.buildAll(ctx, directory, []program{kubectl()})
}

// inCache is the place of the programs in the cache.
func (b *builder) inCache() (string, error) {
	return b.directory(programs(), components+"/go.mod", components+"/go.sum")
}

// buildAll makes those of the programs that are not in a directory.
func (b *builder) buildAll(ctx context.Context, directory string, all []program) error {
	return b.locked(ctx, directory, func(lock *os.File) error {
		var missing []program
		for _, program := range all {
			if _, err := os.Stat(filepath.Join(directory, program.name)); err != nil {
				missing = append(missing, program)
			}
		}
		for i, program := range missing {
			if err := b.buildProgram(ctx, lock, program, missing[i+1:], filepath.Join(directory, program.name)); err != nil {
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

// buildProgram makes one binary, and reports on it and on what is left after it.
func (b *builder) buildProgram(ctx context.Context, lock *os.File, program program, later []program, binary string) error {
	goMod, err := os.ReadFile(filepath.Join(b.source, filepath.FromSlash(program.module), "go.mod"))
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
		b.say("building %s %s … %s; %s", program.name, version, elapsed(), left(program, later, elapsed()))
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

// left says how much there is to build still, by what it usually takes. It is told the first time only.
func left(now program, later []program, elapsed time.Duration) string {
	all := max(0, now.usually-elapsed)
	for _, program := range later {
		all += program.usually
	}
	text := fmt.Sprintf("about %s left on 2 cores", all.Round(signOfLife/3))
	switch len(later) {
	case 0:
	case 1:
		text += ", with " + later[0].name
	default:
		text += fmt.Sprintf(", with %s and %d more", later[0].name, len(later)-1)
	}
	return text + "; the first time only"
}

// install builds the package into a temporary file and moves it to its place, so that whoever finds a binary
// finds a whole one. The go command inherits the lock: should it outlive this process, nobody else writes to
// the same file.
func (b *builder) install(ctx context.Context, lock *os.File, in, binary, linkerFlags, importPath string) error {
	unfinished := binary + ".unfinished"
	command := b.goCommand(ctx, in, "build", "-trimpath", "-buildvcs=false", linkerFlags, "-o", unfinished, importPath)
	command.ExtraFiles = []*os.File{lock}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return errors.Join(fmt.Errorf("%w: %s", err, lastLines(output.String())), ctx.Err())
	}
	return os.Rename(unfinished, binary)
}

// goCommand is a call of the go command that does not depend on the user's settings for other work.
func (b *builder) goCommand(ctx context.Context, in string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = filepath.Join(b.source, in)
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

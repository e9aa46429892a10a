package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Program is a program that runs beside a control plane, built from a module of its own that requires it.
type Program struct {
	// Name is that of the binary.
	Name string
	// Module is the directory of the go.mod, from the root of the repository, with slashes.
	Module string
	// ImportPath is the main package, Required the module that has it, whose version is told to those who wait.
	ImportPath, Required string
	// Variable is the environment variable that names a binary in the place of the one that is built.
	Variable string
	// Usually is how long the first build takes on two cores.
	Usually time.Duration
}

// BuildProgram makes a program, or finds it in the user's cache directory, as Build does, and returns its path. One that its environment
// variable names is taken as it is.
func BuildProgram(ctx context.Context, progress io.Writer, p Program) (string, error) {
	if given := os.Getenv(p.Variable); p.Variable != "" && given != "" {
		return executable(p.Variable, given)
	}
	b, err := newBuilder(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", p.Name, err)
	}
	const up = "../../../" // From this directory to the root.
	from := program{name: p.Name, module: up + p.Module, importPath: p.ImportPath, versionOf: p.Required, usually: p.Usually}
	directory, err := b.directory([]program{from}, from.module+"/go.mod", from.module+"/go.sum")
	if err != nil {
		return "", fmt.Errorf("build %s: %w", p.Name, err)
	}
	binary := filepath.Join(directory, p.Name)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	return binary, b.locked(ctx, directory, func(lock *os.File) error { return b.buildProgram(ctx, lock, from, nil, binary) })
}

// ModuleFile is the path of a file of a module that a Program's module requires, such as a definition that the program needs. name is
// from the root of that module, with slashes.
func ModuleFile(ctx context.Context, p Program, name string) (string, error) {
	b, err := newBuilder(ctx, io.Discard)
	if err != nil {
		return "", fmt.Errorf("find %s of %s: %w", name, p.Required, err)
	}
	output, err := b.goCommand(ctx, "../../../"+p.Module, "list", "-m", "-f", "{{.Dir}}", p.Required).Output()
	if err != nil {
		return "", fmt.Errorf("find %s of %s: %w", name, p.Required, err)
	}
	directory := strings.TrimSpace(string(output))
	if directory == "" {
		return "", fmt.Errorf("find %s: the module %s is not downloaded", name, p.Required)
	}
	return filepath.Join(directory, filepath.FromSlash(name)), nil
}

// executable is the whole path of a program that an environment variable names.
func executable(variable, given string) (string, error) {
	path, err := filepath.Abs(given)
	if err != nil {
		return "", fmt.Errorf("%s=%s: %w", variable, given, err)
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s=%s is not an executable file", variable, given)
	}
	return path, nil
}

const (
	// answersWithin bounds the start of a program, and answersPoll is how often it is asked.
	answersWithin = 5 * time.Minute
	answersPoll   = 100 * time.Millisecond
)

// Answers waits until the process answers its health check, at a URL, with OK. It is an error when the process ends before that.
func (p *Process) Answers(ctx context.Context, url string) error {
	done := p.Done()
	var last error
	if err := wait.PollUntilContextTimeout(ctx, answersPoll, answersWithin, true, func(ctx context.Context) (bool, error) {
		select {
		case <-done:
			return false, fmt.Errorf("%s ended (%w); its last words in %s:\n%s", p.name, p.Wait(ctx), p.logFile, tail(p.logFile))
		default:
			last = probe(ctx, url)
			return last == nil, nil
		}
	}); err != nil {
		return fmt.Errorf("%s was not ready within %s: %w", p.name, answersWithin, errors.Join(err, last))
	}
	return nil
}

// probe asks once.
func probe(ctx context.Context, url string) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}

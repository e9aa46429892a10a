package controlplane

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Program is a program that runs beside a control plane, built from a module of its own that requires it.
type Program struct {
	// Name is that of the binary.
	Name string
	// Module is the directory of the go.mod, from the root of the repository, with slashes.
	Module string
	// ImportPath is the main package, Required the module that has it, whose version is told to those who wait.
	ImportPath, Required string
	// Usually is how long the first build takes on two cores.
	Usually time.Duration
}

// BuildProgram makes a program, or finds it in the user's cache directory, as Build does, and returns its path.
func BuildProgram(ctx context.Context, progress io.Writer, p Program) (string, error) {
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

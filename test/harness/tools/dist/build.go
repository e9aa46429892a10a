package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// program is a binary.
type program struct {
	name     string
	platform v1.Platform
	path     string
}

// build compiles the programs for all platforms, as make build does for one.
func (r *release) build(ctx context.Context, work string) ([]program, error) {
	var built []program
	for _, platform := range r.platforms {
		for _, name := range []string{"provider", "controller"} {
			p := program{name: name, platform: platform, path: filepath.Join(work, platform.OS+"-"+platform.Architecture, name)}
			if _, err := fmt.Fprintf(r.progress, "building %s %s for %s\n", name, r.version, platform.String()); err != nil {
				return nil, err
			}
			command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
				"-ldflags", "-s -w -X main.version="+r.version, "-o", p.path, "./cmd/"+name)
			command.Dir = r.root
			// What the user has set for other work is none of it.
			command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.OS, "GOARCH="+platform.Architecture,
				"GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GODEBUG=")
			command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
			var said bytes.Buffer
			command.Stdout, command.Stderr = &said, &said
			if err := command.Run(); err != nil {
				return nil, fmt.Errorf("build %s for %s: %w: %s", name, platform.String(), err, said.String())
			}
			built = append(built, p)
		}
	}
	return built, nil
}

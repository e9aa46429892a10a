package system

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The environment variables that put real programs in the place of the stand-ins.
const (
	// ClusterAutoscalerVariable names a binary of Cluster Autoscaler.
	ClusterAutoscalerVariable = "CLUSTER_AUTOSCALER"
	// FluxOperatorVariable names a binary of the Flux Operator.
	FluxOperatorVariable = "FLUX_OPERATOR"
	// FluxOperatorCRDVariable names a file with the real definition of the MiniCluster, in place of ours.
	FluxOperatorCRDVariable = "FLUX_OPERATOR_CRD"
)

// programs are the paths of the binaries that a System runs.
type programs struct {
	provider, controller            string
	clusterAutoscaler, fluxOperator string
}

// buildPrograms builds what is ours and finds what is not. The go command's cache makes a repetition cheap.
func buildPrograms(ctx context.Context, root string, progress io.Writer) (programs, error) {
	directory := filepath.Join(root, "bin", "test")
	arguments := []string{"build", "-buildvcs=false"}
	if raceDetector {
		// A race in the binaries is to show in the tests as one in their own packages does.
		directory = filepath.Join(directory, "race")
		arguments = append(arguments, "-race")
	}
	p := programs{
		provider:          filepath.Join(directory, "provider"),
		controller:        filepath.Join(directory, "controller"),
		clusterAutoscaler: os.Getenv(ClusterAutoscalerVariable),
		fluxOperator:      os.Getenv(FluxOperatorVariable),
	}
	packages := []string{"./cmd/provider", "./cmd/controller"}
	for _, given := range []struct {
		path     *string
		standIn  string
		variable string
	}{
		{&p.clusterAutoscaler, "clusterautoscaler", ClusterAutoscalerVariable},
		{&p.fluxOperator, "fluxoperator", FluxOperatorVariable},
	} {
		if *given.path == "" {
			packages = append(packages, "./test/"+given.standIn)
			*given.path = filepath.Join(directory, given.standIn)
			continue
		}
		path, err := filepath.Abs(*given.path)
		if err != nil {
			return programs{}, fmt.Errorf("%s=%s: %w", given.variable, *given.path, err)
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return programs{}, fmt.Errorf("%s=%s is not an executable file", given.variable, *given.path)
		}
		*given.path = path
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return programs{}, fmt.Errorf("make a place for the binaries: %w", err)
	}
	unlock, err := lock(ctx, directory)
	if err != nil {
		return programs{}, err
	}
	defer unlock()

	say := func(format string, arguments ...any) {
		_, _ = fmt.Fprintf(progress, format+"\n", arguments...) // Progress that nobody reads is no error.
	}
	say("building %s (the first time takes a minute or two)", strings.Join(packages, " "))
	started := time.Now()
	command := exec.CommandContext(ctx, "go", append(append(arguments, "-o", directory+string(filepath.Separator)), packages...)...)
	command.Dir = root
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return programs{}, fmt.Errorf("build %s: %w: %s", strings.Join(packages, " "), err, strings.TrimSpace(output.String()))
	}
	say("built them in %s", time.Since(started).Round(100*time.Millisecond))
	return p, nil
}

// moduleRoot is the directory of the go.mod above the working directory.
func moduleRoot() (string, error) {
	working, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for directory := working; ; directory = filepath.Dir(directory) {
		if _, err := os.Stat(filepath.Join(directory, "manifests", "crd")); err == nil {
			return directory, nil
		}
		if directory == filepath.Dir(directory) {
			return "", fmt.Errorf("find the repository: %s is not in it", working)
		}
	}
}

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

// The environment variables that put other programs in the place of those that are built: real ones for the stand-ins, and
// older ones for ours, beside which the other one is of now.
const (
	// PreviousProviderVariable names a binary of the provider of an older release.
	PreviousProviderVariable = "PREVIOUS_PROVIDER"
	// PreviousControllerVariable names a binary of the controller of an older release.
	PreviousControllerVariable = "PREVIOUS_CONTROLLER"
	// PreviousManifestsVariable names the directory manifests of that release, of which then come the rights and policies of
	// the older program: as in an upgrade that has not reached it. Without it they are of now.
	PreviousManifestsVariable = "PREVIOUS_MANIFESTS"
	// ClusterAutoscalerVariable names a binary of Cluster Autoscaler.
	ClusterAutoscalerVariable = "CLUSTER_AUTOSCALER"
	// FluxOperatorVariable names a binary of the Flux Operator.
	FluxOperatorVariable = "FLUX_OPERATOR"
	// FluxOperatorCRDVariable names a file with the real definition of the MiniCluster, in place of our own.
	FluxOperatorCRDVariable = "FLUX_OPERATOR_CRD"
)

// programs are the paths of the binaries that a System runs.
type programs struct {
	provider, controller            string
	clusterAutoscaler, fluxOperator string
}

// buildPrograms builds our programs, with the race detector or without, and finds the others. The go command's cache makes a
// repetition cheap.
func buildPrograms(ctx context.Context, root string, races bool, progress io.Writer) (programs, error) {
	directory := filepath.Join(root, "bin", "test")
	// As everything else of the demo is built: what one build has compiled serves the others.
	arguments := []string{"build", "-trimpath", "-buildvcs=false"}
	if races {
		// A race in the binaries is to show in the tests as one in their own packages does.
		directory = filepath.Join(directory, "race")
		arguments = append(arguments, "-race")
	}
	p := programs{
		provider:          os.Getenv(PreviousProviderVariable),
		controller:        os.Getenv(PreviousControllerVariable),
		clusterAutoscaler: os.Getenv(ClusterAutoscalerVariable),
		fluxOperator:      os.Getenv(FluxOperatorVariable),
	}
	var packages []string
	for _, given := range []struct {
		path     *string
		source   string
		variable string
	}{
		{&p.provider, "./cmd/provider", PreviousProviderVariable},
		{&p.controller, "./cmd/controller", PreviousControllerVariable},
		{&p.clusterAutoscaler, "./test/harness/clusterautoscaler", ClusterAutoscalerVariable},
		{&p.fluxOperator, "./test/harness/fluxoperator", FluxOperatorVariable},
	} {
		if *given.path == "" {
			packages = append(packages, given.source)
			*given.path = filepath.Join(directory, filepath.Base(given.source))
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
	if len(packages) == 0 {
		return p, nil
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

// manifests is the directory manifests that the rights and policies of a program come from: provider or controller.
func manifests(root, program string) string {
	variable := map[string]string{"provider": PreviousProviderVariable, "controller": PreviousControllerVariable}[program]
	if previous := os.Getenv(PreviousManifestsVariable); previous != "" && os.Getenv(variable) != "" {
		if absolute, err := filepath.Abs(previous); err == nil {
			return absolute
		}
	}
	return filepath.Join(root, "manifests")
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

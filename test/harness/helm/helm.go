package helm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

// Helm runs commands of one user, who has neither plugins nor repositories nor a cache.
type Helm struct {
	path string
	env  []string
}

// Build builds Helm, or finds it, and returns its path; progress says what is being built.
func Build(ctx context.Context, progress io.Writer) (path string, err error) {
	return controlplane.BuildProgram(ctx, progress, controlplane.Program{
		Name: "helm", Module: "test/harness/tools/helm", ImportPath: "helm.sh/helm/v4/cmd/helm", Required: "helm.sh/helm/v4",
		Usually: 2 * time.Minute,
	})
}

// New builds Helm, or finds it. kubeconfig is the cluster of its user, empty for none.
func New(t *testing.T, kubeconfig string) *Helm {
	t.Helper()
	path, err := Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if kubeconfig == "" {
		kubeconfig = filepath.Join(home, "none")
	}
	env := append(os.Environ(), "KUBECONFIG="+kubeconfig)
	for _, what := range []string{"CONFIG", "CACHE", "DATA"} {
		env = append(env, "HELM_"+what+"_HOME="+filepath.Join(home, strings.ToLower(what)))
	}
	return &Helm{path: path, env: env}
}

// Run runs a command and returns what it prints. An error has what it says of it. Helm warns of each link that the chart has in the
// repository; these warnings are left out.
func (h *Helm) Run(ctx context.Context, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, h.path, arguments...)
	command.Env = h.env
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	var printed, said bytes.Buffer
	command.Stdout, command.Stderr = &printed, &said
	if err := command.Run(); err != nil {
		var lines []string
		for line := range strings.Lines(said.String()) {
			if !strings.Contains(line, "found symbolic link in path") {
				lines = append(lines, line)
			}
		}
		return printed.String(), fmt.Errorf("helm %s: %w: %s", strings.Join(arguments, " "), err, strings.Join(lines, ""))
	}
	return printed.String(), nil
}

package upgrade

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
)

// TestProviderRefusesKwokMachines: beside simulated machines of an earlier version the provider does not start, and says what to
// do. Beside their definition alone it does. That make deploy refuses them before it changes anything is tested where it is run,
// in test/whole/uninstall.
func TestProviderRefusesKwokMachines(t *testing.T) {
	t.Parallel()
	plane := controlplanetest.Start(t, controlplane.Options{})
	c, transport := connect(t, plane.AdminConfig())
	release := filepath.Join("testdata", "v1alpha1-2026-11")
	before, now := definitions(t, filepath.Join(release, "crd")), definitions(t, filepath.Join("..", "..", "..", "manifests", "crd"))
	install(t, c, transport, plane.URL(), now)
	now[former] = before[former]
	install(t, c, transport, plane.URL(), map[string]*apiextensionsv1.CustomResourceDefinition{former: before[former]})
	var machines []*golden
	for _, object := range read(t, filepath.Join(release, "objects"), before, now) {
		if object.GetKind() == former {
			machines = append(machines, object)
			if err := c.Create(t.Context(), object.Unstructured); err != nil {
				t.Fatal(err)
			}
		}
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, plane.AdminConfig()); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "provider")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../../cmd/provider").CombinedOutput(); err != nil {
		t.Fatalf("build the provider: %v: %s", err, output)
	}
	// start runs the provider until it ends, or says that it starts.
	start := func() (said string, ended error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, program, "--kubeconfig="+kubeconfig, "--grpc-address=127.0.0.1:0", "--expander-address=",
			"--metrics-address=0", "--health-address=0", "--leader-elect=false", "--insecure")
		output := &watched{words: "Starting", seen: cancel}
		command.Stdout, command.Stderr = output, output
		ended = command.Run()
		if output.is {
			ended = nil
		}
		return output.String(), ended
	}

	said, err := start()
	if err == nil {
		t.Fatalf("it runs beside KwokMachines:\n%s", said)
	}
	for _, part := range []string{
		"there are KwokMachines", "does not take over", "delete the NodePools with that version first",
		"kwokmachines.autoscaling.flux-framework.org",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q:\n%s", part, said)
		}
	}
	for _, machine := range machines {
		if err := c.Delete(t.Context(), machine.Unstructured); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
	}
	if said, err := start(); err != nil {
		t.Errorf("it does not start beside the definition alone: %v\n%s", err, said)
	}
}

// watched is the output of a program in which words are waited for.
type watched struct {
	strings.Builder
	words string
	seen  func()
	is    bool
}

// Write implements io.Writer.
func (w *watched) Write(text []byte) (int, error) {
	n, err := w.Builder.Write(text)
	if !w.is && strings.Contains(w.String(), w.words) {
		w.is = true
		w.seen()
	}
	return n, err
}

package system_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

const pluginPoolText = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: by-plugin}
spec: {maxSize: 6, template: {capacity: {cpu: "4", memory: 16Gi, pods: "110"}}, machines: {kwok: {bootDelay: 2s}}}
`

// plugin runs kubectl ensemble as kubectl finds it.
func (d *desk) plugin(ctx context.Context, directory string, arguments ...string) (string, error) {
	kubectl, err := d.Plane.Kubectl(ctx, os.Stderr)
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, kubectl, append([]string{"ensemble"}, arguments...)...)
	command.Args = append(command.Args, "--kubeconfig="+d.Kubeconfig, "--namespace="+d.key.Namespace)
	command.Env = append(os.Environ(), "PATH="+directory+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := command.CombinedOutput()
	return string(out), err
}

// byPlugin grows and shrinks a member with kubectl ensemble, which tells what is waited for until all pods run, and pauses its pool.
func byPlugin(t *testing.T, d *desk) {
	t.Helper()
	directory := t.TempDir()
	build := exec.CommandContext(
		t.Context(), "go", "build", "-o", filepath.Join(directory, "kubectl-ensemble"), "../../../cmd/kubectl-ensemble",
	)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	must := func(arguments ...string) string {
		t.Helper()
		out, err := d.plugin(t.Context(), directory, arguments...)
		if err != nil {
			t.Fatalf("kubectl ensemble %v: %v\n%s", arguments, err, out)
		}
		return out
	}
	if err := system.Write(
		t.Context(), func(ctx context.Context) error { return d.Client.Create(ctx, objectOf(t, pluginPoolText)) },
	); err != nil {
		t.Fatal(err)
	}
	d.apply(t, strings.Replace(d.file("", ""), "node-pools: hpc", "node-pools: by-plugin", 1))
	d.runs(t, 1)

	name := d.key.Name
	out := must("scale", name, "--size=4", "--wait")
	for _, part := range []string{
		"the desired size is 4, it was 1\n", `pods 1/4  [A-Z][A-Za-z]+ \([A-Z][A-Za-z]+\): `, "pods 4/4  all pods run\n",
	} {
		if !regexp.MustCompile(part).MatchString(out) {
			t.Errorf("%q is not in what scale --wait says:\n%s", part, out)
		}
	}
	if running := d.runs(t, 4); len(running) != 4 {
		t.Errorf("%d pods run when the wait is over, want 4", len(running))
	}
	if out := must("explain", "member/"+name); !strings.Contains(out, "it waits for nothing: 4 of 4 pods run") {
		t.Errorf("explain says of a member that waits for nothing\n%s", out)
	}
	must("shrink", name, "2", "--wait")
	d.runs(t, 2)

	must("pause", "by-plugin")
	must("grow", name, "2")
	until(t, func(ctx context.Context) (bool, error) {
		out, err := d.plugin(ctx, directory, "explain", "member/"+name)
		return strings.Contains(
			out, "waits for claim: PoolPaused",
		) && strings.Contains(out, "Do: Resume the pool: kubectl ensemble resume by-plugin"), err
	})
	must("resume", "by-plugin")
	must("scale", name, "--size=4", "--wait")
}

// Package karpenter runs the real Karpenter beside an embedded control plane, with the provider of machines that it has for its own
// tests: nodes are objects that the kwok controller keeps Ready. The tests of this package are about what users of Karpenter see.
package karpenter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

// Variable is the environment variable that names a binary of Karpenter, with its kwok provider, in the place of the one that is built.
const Variable = "KARPENTER"

// What the kwok provider of Karpenter offers (kwok/cloudprovider/instance_types.json and helpers.go of v1.14.1): of each instance type
// 100m of cpu and 10Mi of memory are Karpenter's own.
const (
	// InstanceType has 3900m of cpu, 8182Mi of memory and 64 pods for others.
	InstanceType = "c-4x-amd64-linux"
	// Zone is one of its zones.
	Zone = "test-zone-a"
	// Group is that of its node classes.
	Group = "karpenter.kwok.sh"
	// Kind is theirs.
	Kind = "KWOKNodeClass"
)

// Node classes. One that does not exist is a cloud that has no machine left: the kwok provider says so
// (kwok/cloudprovider/cloudprovider.go, Create).
const (
	// ClassFast is of machines that register at once.
	ClassFast = "fast"
	// ClassSlow is of machines that do not register while tests run.
	ClassSlow = "slow"
	// ClassMissing does not exist.
	ClassMissing = "missing"
)

func program() controlplane.Program {
	return controlplane.Program{
		Name: "karpenter", Module: "test/parts/karpenter/program", ImportPath: "sigs.k8s.io/karpenter/kwok", Required: "sigs.k8s.io/karpenter",
		Variable: Variable, Usually: 4 * time.Minute,
	}
}

// Build makes the program, or finds it where it was built before, and returns its path.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	return controlplane.BuildProgram(ctx, progress, program())
}

// Definitions are the paths of the files that define the kinds of Karpenter. They are in its module: nothing is built for that.
func Definitions(ctx context.Context) ([]string, error) {
	var paths []string
	for _, name := range []string{
		"pkg/apis/crds/karpenter.sh_nodeclaims.yaml", "pkg/apis/crds/karpenter.sh_nodepools.yaml",
		"pkg/apis/crds/karpenter.sh_nodeoverlays.yaml", "kwok/apis/crds/karpenter.kwok.sh_kwoknodeclasses.yaml",
	} {
		path, err := controlplane.ModuleFile(ctx, program(), name)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// Install installs the definitions of Karpenter, and the node classes.
func Install(ctx context.Context, plane *controlplane.ControlPlane) error {
	paths, err := Definitions(ctx)
	if err != nil {
		return err
	}
	config := plane.AdminConfig()
	if _, err := envtest.InstallCRDs(
		config, envtest.CRDInstallOptions{MaxTime: time.Minute, Paths: paths, ErrorIfPathMissing: true},
	); err != nil {
		return fmt.Errorf("install the definitions of Karpenter: %w", err)
	}
	admin, err := client.New(config, client.Options{})
	if err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	return errors.Join(admin.Create(ctx, NodeClass(ClassFast, 0)), admin.Create(ctx, NodeClass(ClassSlow, time.Hour)))
}

// NodeClass is a node class of machines that register after a while.
func NodeClass(name string, delay time.Duration) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": Group + "/v1alpha1", "kind": Kind,
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"nodeRegistrationDelay": delay.String()},
	}}
}

// Karpenter is the program, running.
type Karpenter struct {
	*controlplane.Process
	health string
}

// Run starts Karpenter beside a control plane that has its definitions. It ends with the control plane at the latest.
func Run(ctx context.Context, plane *controlplane.ControlPlane, binary string) (*Karpenter, error) {
	kubeconfig := filepath.Join(plane.Directory(), "karpenter.kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, plane.AdminConfig()); err != nil {
		return nil, err
	}
	metrics, err := plane.Port()
	if err != nil {
		return nil, err
	}
	health, err := plane.Port()
	if err != nil {
		return nil, err
	}
	command := exec.Command(binary) //nolint:noctx // It runs until the control plane ends.
	command.Env = append(os.Environ(),
		"KUBECONFIG="+kubeconfig, "DISABLE_LEADER_ELECTION=true", "SYSTEM_NAMESPACE=kube-system", "KARPENTER_SERVICE=karpenter",
		"METRICS_PORT="+strconv.Itoa(metrics), "HEALTH_PROBE_PORT="+strconv.Itoa(health),
		"FEATURE_GATES=NodeRepair=false,StaticCapacity=true", "LOG_LEVEL=debug")
	process, err := plane.Run("karpenter", command)
	if err != nil {
		return nil, err
	}
	k := &Karpenter{Process: process, health: fmt.Sprintf("http://127.0.0.1:%d/healthz", health)}
	return k, k.Ready(ctx)
}

// Ready waits until it says that it is well.
func (k *Karpenter) Ready(ctx context.Context) error { return k.Answers(ctx, k.health) }

// Restart kills it as a crash would, and starts it again.
func (k *Karpenter) Restart(ctx context.Context) error {
	if err := k.Process.Restart(); err != nil {
		return err
	}
	return k.Ready(ctx)
}

// Command sandbox is a cluster to try an installation in, on this machine: an embedded control plane with the definition of the
// MiniCluster, one simulated node for pods of programs, and nothing else. A person installs as in any cluster. No kubelet runs the
// programs then: they are started here when their ServiceAccounts are there, each with the rights of its own, and so are stand-ins for
// Cluster Autoscaler and the Flux Operator.
//
// It tells what to type. The commands that it prints are those that its test runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/fluxoperator/crd"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/helm"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// logDirectory is where the logs of the last one stay.
const logDirectory = "bin/sandbox-logs"

// install and use are what a person types, before the programs run and afterwards.
const (
	install = `
  helm install ensemble-autoscaler manifests/chart --namespace ensemble-autoscaler-system --create-namespace
  kubectl apply -k examples/cluster-autoscaler
`
	use = `
  kubectl ensemble check
  kubectl apply -f examples/nodepools.yaml -f examples/minicluster.yaml
  kubectl wait --for=create ensemblemember/demo
  kubectl ensemble grow demo 4 --wait
  kubectl get nodepools,ensemblemembers
`
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, logDirectory)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(1)
	}
}

// run starts the cluster, waits for the installation, starts the programs, and keeps all of it until the context ends. The logs of all
// programs are left in a directory, which it empties first.
func run(ctx context.Context, out io.Writer, logs string) (err error) {
	if err := os.RemoveAll(logs); err != nil {
		return fmt.Errorf("remove the logs of the last sandbox: %w", err)
	}
	helm, err := helm.Build(ctx, out)
	if err != nil {
		return err
	}
	s, err := system.Start(ctx, system.Options{
		LogDir: logs, Progress: out, AutoscalerFlags: []string{"--scan-interval=2s"}, WithoutRaces: true,
		Install: func(ctx context.Context, s *system.System) error { return awaitInstallation(ctx, out, s, helm) },
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // It was ended before anything was installed.
		}
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	say(out, "The programs run; their logs are in %s. Then:\n%s\nIt runs until Ctrl-C.\n", logs, use)
	<-ctx.Done()
	return nil
}

// say prints for a person. That nobody reads is no error.
func say(out io.Writer, format string, arguments ...any) {
	_, _ = fmt.Fprintf(out, format, arguments...)
}

// node is where the scheduler puts the pods of programs, which kwok says run.
const node = `
apiVersion: v1
kind: Node
metadata:
  name: sandbox
  annotations: {` + controlplane.NodeAnnotation + `: ` + controlplane.NodeAnnotationValue + `}
  labels: {kubernetes.io/hostname: sandbox}
status:
  allocatable: {cpu: "16", memory: 64Gi, pods: "110"}
  capacity: {cpu: "16", memory: 64Gi, pods: "110"}
`

// awaitInstallation makes the cluster, says what to type, and waits until what the programs need is there.
func awaitInstallation(ctx context.Context, out io.Writer, s *system.System, helm string) error {
	for _, text := range []string{string(crd.MiniClusters), node} {
		objects, err := system.Objects([]byte(text))
		if err != nil {
			return err
		}
		if err := s.Apply(ctx, objects...); err != nil {
			return err
		}
	}
	kubectl, err := s.Plane.Kubectl(ctx, out)
	if err != nil {
		return err
	}
	own, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	path := []string{filepath.Dir(kubectl)}
	if directory := filepath.Dir(helm); directory != path[0] {
		path = append(path, directory)
	}
	say(out, "A cluster runs that has nothing of the ensemble-autoscaler. In another terminal, in this directory:\n\n  export KUBECONFIG=%s\n"+
		"  export PATH=%s:$PATH\n%s\nThe programs start when both are there.\n", s.Kubeconfig, strings.Join(append(path, own), ":"), install)
	return wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		return installed(ctx, s.Client)
	})
}

// installed reports whether the objects of the installation are there, of which Helm and kubectl make Deployments last.
func installed(ctx context.Context, c client.Reader) (bool, error) {
	for _, name := range []string{"provider", "controller", "cluster-autoscaler"} {
		key := client.ObjectKey{Namespace: system.Namespace, Name: name}
		for _, object := range []client.Object{&corev1.ServiceAccount{}, &appsv1.Deployment{}} {
			if err := c.Get(ctx, key, object); err != nil {
				if apierrors.IsNotFound(err) {
					return false, nil
				}
				return false, err
			}
		}
	}
	return true, nil
}

// Command demo shows the main job on an embedded control plane: an ensemble member asks to grow and then to
// shrink, and its nodes come before its pods and go after them. It tells what happens as it happens, measures
// it, and fails when one of the project's promises was broken.
//
// Settings are environment variables: BOOT_DELAY is how long a machine takes to boot (5s), HOLD=1 leaves
// everything running at the end, MACHINES says what makes machines (kwok, karpenter, or cluster-api), KIND=jobset has a JobSet in the place
// of the MiniCluster, with its real controller, and CLUSTER_AUTOSCALER and FLUX_OPERATOR name real programs that take the place of the
// stand-ins.
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

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// logDirectory is where the logs of the last demo stay.
const logDirectory = "bin/demo-logs"

// settings are what the user can choose.
type settings struct {
	bootDelay time.Duration
	hold      bool
	// machines is the name of the backend.
	machines string
	// jobSet has a JobSet in the place of the MiniCluster.
	jobSet bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, logDirectory)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func readSettings() (settings, error) {
	s := settings{bootDelay: 5 * time.Second, machines: os.Getenv("MACHINES")}
	if text := os.Getenv("BOOT_DELAY"); text != "" {
		delay, err := time.ParseDuration(text)
		if err != nil || delay < 0 || delay > time.Hour {
			return s, fmt.Errorf("BOOT_DELAY is %q; it has to be a duration from 0s to 1h, for example 5s", text)
		}
		s.bootDelay = delay
	}
	switch text := os.Getenv("KIND"); strings.ToLower(text) {
	case "", "minicluster":
	case "jobset":
		s.jobSet = true
	default:
		return s, fmt.Errorf("KIND is %q; it has to be minicluster, jobset, or empty", text)
	}
	switch text := os.Getenv("HOLD"); text {
	case "", "0":
	case "1":
		s.hold = true
	default:
		return s, fmt.Errorf("HOLD is %q; it has to be 1, or empty", text)
	}
	return s, nil
}

// run performs the demo, tells it to out and leaves the logs of all programs in a directory, which it empties first.
func run(ctx context.Context, out io.Writer, logs string) (err error) {
	settings, err := readSettings()
	if err != nil {
		return err
	}
	machines, err := backendOf(settings.machines, out)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(logs); err != nil {
		return fmt.Errorf("remove the logs of the last demo: %w", err)
	}
	started := time.Now()
	options := system.Options{
		LogDir: logs, Progress: out, AutoscalerFlags: []string{"--scan-interval=2s"},
		WithoutKwok: settings.machines != "" && settings.machines != "kwok",
		Prepare:     machines.prepare,
	}
	about := ofMiniCluster()
	if settings.jobSet {
		about = ofJobSet()
		options.ControllerFlags = []string{"--kinds=MiniCluster,JobSet"}
		options.Prepare = withJobSets(out, machines.prepare)
	}
	s, err := system.Start(ctx, options)
	defer func() { err = errors.Join(err, machines.stop()) }()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	_, _ = fmt.Fprintf(out, "everything runs after %s; the logs are in %s\n", time.Since(started).Round(100*time.Millisecond), logs)

	narrator := newNarrator(out, about)
	recorder, err := history.Start(ctx, s.Client, narrator.hear)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, recorder.Stop()) }()

	p := &play{system: s, recorder: recorder, narrator: narrator, settings: settings, backend: machines}
	perform := p.perform
	if settings.jobSet {
		perform = p.performJobSet
	}
	figures, err := perform(ctx)
	if err != nil {
		return err
	}
	figures.print(out)
	broken := history.Broken(recorder.Events())
	if figures.waited > 0 {
		broken = append(broken, fmt.Sprintf("grown pods were Pending for want of a node for %s all together", figures.waited))
	}
	if settings.hold {
		if err := hold(ctx, out, s, about.member.Name); err != nil {
			return err
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("promises were broken:\n  %s", strings.Join(broken, "\n  "))
	}
	_, _ = fmt.Fprintln(out, "no promise was broken: no pod before its node, no node after its pods")
	return nil
}

// hold says how to look around and waits for Ctrl-C.
func hold(ctx context.Context, out io.Writer, s *system.System, member string) error {
	kubectl, err := s.Plane.Kubectl(ctx, out)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, `
It runs until Ctrl-C. In another terminal:

  export KUBECONFIG=%s
  export PATH=%s:$PATH

  kubectl get nodepools,ensemblemembers
  kubectl describe ensemblemember %s
  kubectl get nodes -L autoscaling.flux-framework.org/node-pool
  kubectl get pods -o wide
  kubectl get events --sort-by=.metadata.creationTimestamp

`, s.Kubeconfig, filepath.Dir(kubectl), member)
	<-ctx.Done()
	return nil
}

// Package growth is what the benchmarks of a growth share: everything running beside an API server that keeps an audit log,
// and the request of the lead broker.
package growth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/audit"
)

// podsAtOnce is how many pods start at a time.
const podsAtOnce = 16

// Options say what runs.
type Options struct {
	// Logs is the directory for the logs of all processes and the audit log; empty for one that goes away at the end.
	Logs string
	// Policy is what the API server records, as YAML.
	Policy string
	// Scan is the time between two loops of Cluster Autoscaler.
	Scan time.Duration
	// Progress receives what is waited for.
	Progress io.Writer
}

// Bench is everything, running.
type Bench struct {
	System   *system.System
	Recorder *history.Recorder
	Audit    *audit.Log

	progress io.Writer
	// temporary is a directory that goes away at the end, empty for none.
	temporary string
}

// Start starts everything. The context bounds the start only.
func Start(ctx context.Context, o Options) (_ *Bench, err error) {
	b := &Bench{progress: o.Progress}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Stop())
		}
	}()
	directory := o.Logs
	if directory == "" {
		if directory, err = os.MkdirTemp("", "growth-"); err != nil {
			return nil, fmt.Errorf("make a directory for logs: %w", err)
		}
		b.temporary = directory
	} else if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory for logs: %w", err)
	}
	b.Audit = &audit.Log{Path: filepath.Join(directory, "audit.log")}
	policy := filepath.Join(directory, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(o.Policy), 0o600); err != nil {
		return nil, fmt.Errorf("write the policy of the audit log: %w", err)
	}
	b.System, err = system.Start(ctx, system.Options{
		Progress: o.Progress, LogDir: filepath.Join(directory, "logs"),
		// What a MiniCluster leaves is released by its controller, or deleted with its pool. Cluster Autoscaler would only mark the nodes as
		// candidates, some each second, and nothing could be measured for minutes after each MiniCluster.
		AutoscalerFlags:    []string{"--scan-interval=" + o.Scan.String(), "--scale-down-enabled=false"},
		APIServerArguments: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + b.Audit.Path},
		// No kubelet waits for another one. The first pod of a MiniCluster runs before it grows.
		PodsAtOnce: podsAtOnce,
	})
	if err != nil {
		return nil, err
	}
	if b.Recorder, err = history.Start(ctx, b.System.Client, nil); err != nil {
		return nil, err
	}
	return b, nil
}

// Stop ends everything.
func (b *Bench) Stop() (err error) {
	if b.Recorder != nil {
		err = b.Recorder.Stop()
	}
	if b.System != nil {
		err = errors.Join(err, b.System.Stop())
	}
	if b.temporary != "" {
		err = errors.Join(err, os.RemoveAll(b.temporary))
	}
	return err
}

// Say tells progress.
func (b *Bench) Say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", arguments...) // Progress that nobody reads is no error.
}

// Ask asks as the program in the lead broker's pod does.
func (b *Bench) Ask(ctx context.Context, cluster types.NamespacedName, action string, amount int) error {
	var lead *corev1.Pod
	if err := b.Recorder.Until(ctx, func(s *history.State) string {
		if lead = s.Lead(cluster); lead == nil {
			return "the lead broker does not run"
		}
		return ""
	}); err != nil {
		return err
	}
	response, err := b.System.Action(ctx, lead, cluster.Name, action, amount)
	if err != nil {
		return fmt.Errorf("ask to %s: %w", action, err)
	}
	if response.GetStatus() != ensemble.Response_SUCCESS {
		return fmt.Errorf("to %s was answered %s: %s", action, response.GetStatus(), response.GetPayload())
	}
	return nil
}

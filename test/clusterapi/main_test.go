package clusterapi

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/system"
)

// patience is how long anything may take.
var patience = flag.Duration("clusterapi.patience", 6*time.Minute, "how long a test waits for what has to come")

// seeds is how many stories with kills there are.
var seeds = flag.Int("clusterapi.seeds", 3, "how many stories are told in which the provider and Cluster API are killed at random moments")

// shared is what the tests use. TestMain sets it once.
var shared struct {
	*system.System
	capi     *Installation
	recorder *history.Recorder
}

// autoscalerFlags let Cluster Autoscaler be as fast as the tests.
func autoscalerFlags() []string {
	return []string{
		"--scan-interval=1s", "--initial-node-group-backoff-duration=2s", "--max-node-group-backoff-duration=4s",
		"--ok-total-unready-count=1000", "--max-total-unready-percentage=100",
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	if err := allAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, "clusterapi:", err)
		os.Exit(1)
	}
	code, err := withSystem(m.Run)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "clusterapi:", err)
		code = 1
	}
	os.Exit(code)
}

// allAtOnce lets the tests run side by side, unless the command line says how many: they do little but wait.
func allAtOnce() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", "8")
}

// withSystem runs the tests. Logs of a run that failed are kept and named.
func withSystem(run func() int) (code int, err error) {
	directory, err := os.MkdirTemp("", "clusterapi-")
	if err != nil {
		return 1, err
	}
	defer func() {
		if err != nil || code != 0 {
			fmt.Fprintf(os.Stderr, "the logs are in %s\n", directory)
		} else {
			err = os.RemoveAll(directory)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Hour)
	defer cancel()
	s, err := system.Start(ctx, system.Options{
		LogDir: filepath.Join(directory, "logs"), Progress: os.Stderr, AutoscalerFlags: autoscalerFlags(), WithoutKwok: true,
		Prepare: func(ctx context.Context, s *system.System) ([]string, error) {
			var err error
			shared.capi, err = Start(ctx, Options{Plane: s.Plane, Nodes: s.Plane.AdminConfig(), Namespace: Machines, Progress: os.Stderr})
			if err != nil {
				return nil, err
			}
			return []string{"--cluster-api=" + Machines}, shared.capi.Grant(ctx, s)
		},
	})
	if shared.capi != nil {
		defer func() { err = errors.Join(err, shared.capi.Stop()) }()
	}
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	shared.System = s
	if shared.recorder, err = history.Start(ctx, s.Client, nil); err != nil {
		return 1, err
	}
	code = run()
	if err := shared.recorder.Stop(); err != nil {
		return 1, err
	}
	events := shared.recorder.Events()
	if broken := history.Broken(events); len(broken) > 0 {
		broken = append(broken[:min(len(broken), 20)], fmt.Sprintf("%d in all", len(broken)))
		return 1, fmt.Errorf("promises were broken:\n  %s", strings.Join(broken, "\n  "))
	}
	fmt.Fprintf(os.Stderr, "no promise was broken in %d versions of objects\n", len(events))
	return code, nil
}

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/system"
)

// shared is what all tests use. TestMain sets it once, before any test runs.
var shared struct {
	*system.System
	recorder *history.Recorder
	// audit is the path of the API server's record of all requests of provider and controller.
	audit string
	// serving is held for writing while a program is being restarted, for reading while a test speaks to one.
	serving sync.RWMutex
	// kills counts how often a program was killed. The events that it had yet to send are lost then.
	kills atomic.Int32
}

func TestMain(m *testing.M) {
	flag.Parse()
	if err := manyAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code, err := withSystem(m.Run)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// manyAtOnce lets several tests run at a time on each core, unless the command line says how many: they wait far more than they
// work.
func manyAtOnce() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
}

// withSystem runs the tests. Logs of a run that failed are kept and named.
func withSystem(run func() int) (code int, err error) {
	directory, err := os.MkdirTemp("", "e2e-")
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
	shared.audit = filepath.Join(directory, "audit.log")
	policy := filepath.Join(directory, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 70*time.Minute)
	defer cancel()
	s, err := system.Start(ctx, system.Options{
		LogDir:   filepath.Join(directory, "logs"),
		Progress: os.Stderr,
		// A call that is cut off when the provider is killed makes Cluster Autoscaler leave the group alone for a
		// while, five minutes if nothing else is said.
		AutoscalerFlags:    []string{"--scan-interval=1s", "--initial-node-group-backoff-duration=2s", "--max-node-group-backoff-duration=4s"},
		APIServerArguments: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + shared.audit},
	})
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
		return 1, fmt.Errorf("promises were broken:\n  %s", strings.Join(broken, "\n  "))
	}
	fmt.Fprintf(os.Stderr, "no promise was broken in %d versions of objects\n", len(events))
	if code == 0 && flag.Lookup("test.run").Value.String() == "" {
		// Only the whole of the tests uses all rights.
		return code, checkRights()
	}
	return code, nil
}

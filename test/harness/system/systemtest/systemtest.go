// Package systemtest runs the tests of a package on one system, and holds each version of each of its objects against the promises.
package systemtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// Suite is what is special about the tests of a package.
type Suite struct {
	// Name is that of the package.
	Name string
	// AtOnce is how many tests run side by side, unless the command line says how many: they wait far more than they work.
	AtOnce int
	// Within is how long all of them may take.
	Within time.Duration
	// Options are those of the system. Logs are below directory, which is kept where something fails.
	Options func(directory string) (system.Options, error)
	// Begin is given the system, before anything is recorded, and Recorder what records; nil where nobody wants it.
	Begin    func(ctx context.Context, s *system.System) error
	Recorder func(*history.Recorder)
	// Enter is given each event when it is recorded; nil where nobody wants it.
	Enter func(history.Event)
	// Broken are promises that were broken, beside those of package history; nil for no others.
	Broken func([]history.Event) []string
	// End is called after the tests, with their exit code, where no promise was broken; nil for nothing.
	End func(code int) error
	// Stop ends what was started beside the system, whether that has started or not; nil for nothing.
	Stop func() error
}

// Run runs the tests and exits.
func Run(m *testing.M, s *Suite) {
	flag.Parse()
	code, err := 1, s.setParallel()
	if err == nil {
		code, err = s.run(m.Run)
	}
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.Name, err)
		code = 1
	}
	os.Exit(code)
}

func (s *Suite) setParallel() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(s.AtOnce))
}

// run runs the tests. Logs of a run that failed are kept and named.
func (s *Suite) run(tests func() int) (code int, err error) {
	directory, err := os.MkdirTemp("", s.Name+"-")
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
	options, err := s.Options(directory)
	if err != nil {
		return 1, err
	}
	options.LogDir, options.Progress = filepath.Join(directory, "logs"), os.Stderr
	ctx, cancel := context.WithTimeout(context.Background(), s.Within)
	defer cancel()
	started, err := system.Start(ctx, options)
	if s.Stop != nil {
		defer func() { err = errors.Join(err, s.Stop()) }()
	}
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, started.Stop()) }()
	if err := s.Begin(ctx, started); err != nil {
		return 1, err
	}
	recorder, err := history.Start(ctx, started.Client, s.Enter)
	if err != nil {
		return 1, err
	}
	if s.Recorder != nil {
		s.Recorder(recorder)
	}
	code = tests()
	if err := recorder.Stop(); err != nil {
		return 1, err
	}
	return s.judge(code, recorder.Events())
}

// judge holds what was recorded against the promises.
func (s *Suite) judge(code int, events []history.Event) (int, error) {
	broken := history.Broken(events)
	if s.Broken != nil {
		broken = slices.Concat(s.Broken(events), broken)
	}
	if len(broken) > 0 {
		broken = append(broken[:min(len(broken), 20)], fmt.Sprintf("%d in all", len(broken)))
		return 1, fmt.Errorf("promises were broken:\n  %s", strings.Join(broken, "\n  "))
	}
	fmt.Fprintf(os.Stderr, "no promise was broken in %d versions of objects\n", len(events))
	if s.End == nil {
		return code, nil
	}
	return code, s.End(code)
}

// RestlessAutoscaler are flags by which Cluster Autoscaler is as fast as tests, and goes on however many nodes are of no use.
func RestlessAutoscaler() []string {
	return []string{
		"--scan-interval=1s", "--initial-node-group-backoff-duration=2s", "--max-node-group-backoff-duration=4s",
		"--ok-total-unready-count=1000", "--max-total-unready-percentage=100",
	}
}

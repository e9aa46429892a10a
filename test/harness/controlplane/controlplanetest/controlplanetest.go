// Package controlplanetest starts a control plane for a test and ends it with the test.
package controlplanetest

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

// Start starts a control plane that ends with the test. When the test fails, the ends of the logs of the
// programs that it ran are part of its output; `go test -artifacts` keeps all logs of all processes.
func Start(tb testing.TB, options controlplane.Options) *controlplane.ControlPlane {
	tb.Helper()
	if options.LogDir == "" {
		options.LogDir = tb.ArtifactDir()
	}
	if options.Progress == nil {
		options.Progress = os.Stderr
	}
	plane, err := controlplane.Start(tb.Context(), options)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			tb.Errorf("%v", err)
		}
		if tb.Failed() {
			showLogs(tb, options.LogDir)
		}
	})
	return plane
}

// showLogs logs the end of each log but those of the components, which speak much and are seldom to blame.
func showLogs(tb testing.TB, directory string) {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(directory, "*.log"))
	if err != nil {
		tb.Errorf("find the logs: %v", err)
	}
	components := []string{
		controlplane.Etcd, controlplane.KubeAPIServer, controlplane.KubeScheduler,
		controlplane.KubeControllerManager, controlplane.KwokController,
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".log")
		if slices.Contains(components, name) {
			continue
		}
		end, err := tail(file)
		if err != nil {
			tb.Errorf("read the log of %s: %v", name, err)
			continue
		}
		tb.Logf("the end of %s:\n%s", filepath.Base(file), end)
	}
}

// tail is the last part of the file.
func tail(path string) (end string, err error) {
	const most = 8 << 10 // bytes
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	if _, err := file.Seek(max(0, size-most), io.SeekStart); err != nil {
		return "", err
	}
	content, err := io.ReadAll(file)
	return string(content), err
}

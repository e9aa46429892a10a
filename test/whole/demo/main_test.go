package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// logsVariable makes the program of the tests the demo: it names the directory for the logs.
const logsVariable = "ENSEMBLE_AUTOSCALER_DEMO_LOGS"

// loggerWithin is how long controller-runtime waits for a logger before it prints a stack trace, and a little more.
const loggerWithin = 31 * time.Second

func TestMain(m *testing.M) {
	logs := os.Getenv(logsVariable)
	if logs == "" {
		os.Exit(m.Run())
	}
	patience := time.After(loggerWithin)
	err := run(context.Background(), os.Stdout, logs)
	// The trace comes with the first line that is logged after that time, which is one of a demo that has much to build first.
	<-patience
	ctrllog.Log.Info("the demo has ended")
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestDemo runs the demo, as the README says first and with each other thing that makes machines, and finds what the README shows, and
// nothing that looks like a fault.
func TestDemo(t *testing.T) {
	for _, row := range []struct{ machines, kind string }{{"kwok", ""}, {"cluster-api", ""}, {"kwok", "jobset"}} {
		t.Run(row.machines+row.kind, func(t *testing.T) { demonstrate(t, row.machines, row.kind) })
	}
}

func demonstrate(t *testing.T, machines, kind string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program)
	command.Env = append(os.Environ(), logsVariable+"="+filepath.Join(t.ArtifactDir(), "logs"), "BOOT_DELAY=1s", "HOLD=", "MACHINES="+machines,
		"KIND="+kind)
	var told, complaints bytes.Buffer
	command.Stdout, command.Stderr = &told, &complaints
	if err := command.Run(); err != nil {
		t.Fatalf("%v: %s\n%s", err, complaints.String(), told.String())
	}
	if complaints.Len() > 0 {
		t.Errorf("the demo prints to standard error:\n%s", complaints.String())
	}
	for _, label := range figuresInReadme(t) {
		if kind != "" {
			// By other numbers of pods.
			_, label, _ = strings.Cut(label, ": ")
		}
		if !strings.Contains(told.String(), label) {
			t.Errorf("the README shows %q, and the demo does not:\n%s", label, told.String())
		}
	}
}

func TestUnknownMachinesAreRefused(t *testing.T) {
	if _, err := backendOf("cloud", io.Discard); err == nil || !strings.Contains(err.Error(), "cluster-api") {
		t.Errorf("MACHINES=cloud: %v", err)
	}
}

// figuresInReadme returns what the README says that the demo measures.
func figuresInReadme(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "and ends with what it measured:\n\n```\n")
	table, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the README does not say what the demo measures")
	}
	var labels []string
	for line := range strings.Lines(table) {
		label, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		labels = append(labels, label)
	}
	if len(labels) < 5 {
		t.Fatalf("the README shows %q", labels)
	}
	return labels
}

// TestProgramsSetTheLogger: after 30 s without one, controller-runtime prints a stack trace with the first line that is logged.
// So each program that has it, and each test that runs a control plane, reaches code that sets one.
func TestProgramsSetTheLogger(t *testing.T) {
	packages := list(t, "-test", "-f", `{{.ImportPath}}|{{.Name}}|{{join .Deps ","}}`, "./...")
	directories := map[string]string{}
	for _, line := range list(t, "-f", "{{.ImportPath}}|{{.Dir}}", "./...") {
		path, directory, _ := strings.Cut(line, "|")
		directories[path] = directory
	}
	const plane = "github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	looked := 0
	for _, line := range packages {
		parts := strings.SplitN(line, "|", 3)
		path, name := parts[0], parts[1]
		var needs []string
		for _, need := range append(strings.Split(parts[2], ","), path) {
			need, _, _ = strings.Cut(need, " [") // as it is compiled for a test
			needs = append(needs, strings.TrimSuffix(need, "_test"))
		}
		if name != "main" || strings.Contains(path, " [") || !slices.Contains(needs, "sigs.k8s.io/controller-runtime/pkg/log") ||
			strings.HasSuffix(path, ".test") && !slices.Contains(needs, plane) {
			continue
		}
		looked++
		own, isTest := strings.CutSuffix(path, ".test")
		if !slices.ContainsFunc(needs, func(need string) bool { return setsLogger(t, directories[need], isTest && need == own) }) {
			t.Errorf("%s has controller-runtime, and nothing that it is made of calls SetLogger", path)
		}
	}
	// The programs with controller-runtime, and the tests on a control plane.
	if looked < 20 {
		t.Errorf("looked at %d programs", looked)
	}
}

// setsLogger reports whether a file of the directory, and among these one of its tests if they count, calls SetLogger.
func setsLogger(t *testing.T, directory string, tests bool) bool {
	t.Helper()
	if directory == "" {
		return false // not of this module
	}
	files, err := filepath.Glob(filepath.Join(directory, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		if strings.HasSuffix(file, "_test.go") && !tests {
			return false
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(content, []byte(".SetLogger("))
	})
}

// list runs go list and returns its lines.
func list(t *testing.T, args ...string) []string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	command.Dir = filepath.Join("..", "..", "..")
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

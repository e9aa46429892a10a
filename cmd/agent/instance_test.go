package main

import (
	"strings"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
)

// TestRunAndStatus runs the program on a Flux instance, its child included, and shows what is left.
func TestRunAndStatus(t *testing.T) {
	t.Parallel()
	instance, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Size: 4, Online: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := instance.Close(); err != nil {
			t.Error(err)
		}
	})
	uri := "--flux-uri=" + instance.URI()
	path := file(t, `
jobs: [{name: wait, command: sleep 0.1, count: 3}, {name: long, command: sleep 3600, count: 3, tasks: 4}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: start, action: {name: grow}}
- {trigger: metric, name: count.wait.success, when: 3, action: {name: submit, label: long}}
- {trigger: job-run, name: long, action: {name: terminate}}
`)
	if out, err := execute(t, "run", path, uri, "--", "sh", "-c", "while :; do sleep 0.05; done"); err != nil {
		t.Fatalf("it ended with %v: %s", err, out)
	}
	for _, want := range []string{
		"broker   rank 0 of 4, flux-core", "nodes    2 up, ", "inactive 3\n",
	} {
		out, err := execute(t, "status", uri)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, want) {
			t.Errorf("the status has no %q:\n%s", want, out)
		}
	}
}

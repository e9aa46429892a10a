package main

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestLint: all that the binaries register is named and described as Prometheus wants it.
func TestLint(t *testing.T) {
	t.Parallel()
	for _, binary := range binaries {
		t.Run(binary.name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewPedanticRegistry()
			if err := binary.register(registry); err != nil {
				t.Fatal(err)
			}
			problems, err := testutil.GatherAndLint(registry)
			if err != nil {
				t.Fatal(err)
			}
			for _, problem := range problems {
				t.Errorf("%s: %s", problem.Metric, problem.Text)
			}
			if count, err := testutil.GatherAndCount(registry); err != nil || count < 10 {
				t.Errorf("only %d metrics were looked at (%v)", count, err)
			}
		})
	}
}

// TestDocument: the page in docs is up to date.
func TestDocument(t *testing.T) {
	t.Parallel()
	if err := run("../../../docs/metrics.md", true); err != nil {
		t.Error(err)
	}
}

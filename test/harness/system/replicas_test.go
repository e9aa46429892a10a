package system_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// TestReplicas: with leader election, under the rights of manifests/, one provider reconciles, both are ready, and
// the other takes over when the first is killed.
func TestReplicas(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := system.Start(ctx, system.Options{Progress: os.Stderr, LogDir: t.ArtifactDir(), LeaderElection: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	first := leader(t, s, "ensemble-autoscaler-provider", "")
	leader(t, s, "ensemble-autoscaler-controller", "")
	for address, metrics := range map[string][]string{
		s.ProviderMetrics: {
			`ensemble_autoscaler_grpc_server_handled_total{grpc_code="OK",grpc_method="NodeGroups",`,
			"ensemble_autoscaler_grpc_panics_recovered_total 0",
			"ensemble_autoscaler_grpc_server_handling_seconds_bucket{",
		},
		s.ControllerMetrics: {
			`ensemble_autoscaler_grpc_server_handled_total{grpc_code="OK",grpc_method="RequestAction",`,
			"ensemble_autoscaler_resize_pass_duration_seconds_count",
		},
	} {
		text, err := s.Metrics(ctx, address)
		if err != nil {
			t.Errorf("metrics: %v", err)
		}
		documented(t, s, map[string]string{s.ProviderMetrics: "provider", s.ControllerMetrics: "controller"}[address], text)
		for _, metric := range metrics {
			if !strings.Contains(text, metric) {
				t.Errorf("the metrics lack %s", metric)
			}
		}
	}
	if _, err := s.AddReplica(ctx, "provider-2", ""); err != nil {
		t.Fatalf("a replica that does not lead: %v", err)
	}
	if err := s.Provider.Kill(); err != nil {
		t.Fatal(err)
	}
	leader(t, s, "ensemble-autoscaler-provider", first)

	// It does the work of the first.
	objects, err := s.ObjectsOf("examples/nodepools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(ctx, objects...); err != nil {
		t.Fatal(err)
	}
	until(t, func(ctx context.Context) (bool, error) {
		var pool v1alpha1.NodePool
		err := s.Client.Get(ctx, client.ObjectKey{Name: "hpc-a"}, &pool)
		return len(pool.Status.Conditions) > 0, err
	})
	for _, name := range []string{"provider", "provider-2", "controller"} {
		log, err := os.ReadFile(s.Plane.LogDir() + "/" + name + ".log")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "forbidden") {
				t.Errorf("%s lacks a right: %s", name, line)
			}
		}
	}
}

// documented checks that docs/metrics.md says of each of our metrics what the running binary does, and that Prometheus
// would have it so.
func documented(t *testing.T, s *system.System, binary, text string) {
	t.Helper()
	page, err := s.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(page, "\n## "+binary+"\n")
	if !found {
		t.Fatalf("docs/metrics.md has nothing about the %s; run: make generate", binary)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	help := ""
	count := 0
	for line := range strings.Lines(text) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(words) < 4 || !strings.HasPrefix(words[2], "ensemble_autoscaler_") {
			continue
		}
		switch words[1] {
		case "HELP":
			help = words[3]
		case "TYPE":
			count++
			row := regexp.MustCompile(`\n\| ` + "`" + words[2] + "` \\| " + words[3] + ` \| [^|]*\| ` + regexp.QuoteMeta(help) + ` \|\n`)
			if !row.MatchString(section) {
				t.Errorf("docs/metrics.md does not say of the %s that %s is a %s: %s", binary, words[2], words[3], help)
			}
		}
	}
	if count < 5 {
		t.Errorf("the %s has %d metrics of its own only", binary, count)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "ensemble_autoscaler_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
}

// leader waits until somebody other than not holds the lease.
func leader(t *testing.T, s *system.System, name, not string) (holder string) {
	t.Helper()
	until(t, func(ctx context.Context) (bool, error) {
		var lease coordinationv1.Lease
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: system.Namespace, Name: name}, &lease); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		if lease.Spec.HolderIdentity != nil {
			holder = *lease.Spec.HolderIdentity
		}
		return holder != "" && holder != not, nil
	})
	return holder
}

func until(t *testing.T, condition wait.ConditionWithContextFunc) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 5*time.Minute, true, condition); err != nil {
		t.Fatal(err)
	}
}

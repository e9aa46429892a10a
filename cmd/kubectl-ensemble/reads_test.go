package main

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/facts"
)

// reads are the requests of a reader, as the last part of their paths with what selects.
type reads struct {
	mu  sync.Mutex
	all []string
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newReads is a reader whose requests are noted.
func newReads(t *testing.T, d *desk) (*reads, *cluster.Reader) {
	t.Helper()
	r := &reads{}
	config := rest.CopyConfig(server.Config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			if parts := strings.Split(request.URL.Path, "/"); !strings.HasSuffix(request.URL.Path, "/apis") && len(parts) > 4 {
				r.mu.Lock()
				r.all = append(r.all, strings.TrimSuffix(strings.Join(parts[4:], "/")+"?"+request.URL.RawQuery, "?"))
				r.mu.Unlock()
			}
			return next.RoundTrip(request)
		})
	})
	reader, err := cluster.New(config, []string{d.namespace})
	if err != nil {
		t.Fatal(err)
	}
	return r, reader
}

// TestReadsWhatItNeeds: a member that waits for nothing costs a list of its pods, and one that waits for machines those of its pool.
func TestReadsWhatItNeeds(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, pool("reads-a", 8))
	for name, row := range map[string]struct {
		edit func(*v1alpha1.EnsembleMember)
		want []string
	}{
		"at rest": {
			func(m *v1alpha1.EnsembleMember) { m.Status.Conditions = conditions("", "", "") },
			[]string{"NS/pods?labelSelector=batch.kubernetes.io%2Fjob-name%3Ddemo"},
		},
		"waits for machines": {
			func(*v1alpha1.EnsembleMember) {},
			[]string{
				"NS/configmaps/cluster-autoscaler-status", "NS/pods?labelSelector=batch.kubernetes.io%2Fjob-name%3Ddemo", "nodepools/reads-a",
				"poolmachines?labelSelector=autoscaling.flux-framework.org%2Fnode-pool%3Dreads-a",
			},
		},
		"waits for a claim": {
			func(m *v1alpha1.EnsembleMember) {
				m.Status.Conditions = conditions(v1alpha1.ConditionCapacityReserved, v1alpha1.ReasonPoolFull, "full")
			},
			[]string{"NS/pods?labelSelector=batch.kubernetes.io%2Fjob-name%3Ddemo", "ensemblemembers", "nodepools/reads-a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, reader := newReads(t, d)
			m := d.member("demo", "reads-a")
			row.edit(m)
			if _, err := facts.Member(t.Context(), reader, time.Now(), m); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, path := range r.all {
				// Which API groups there are is asked once.
				if path = strings.TrimPrefix(path, "namespaces/"); !strings.HasPrefix(path, "v1") || strings.Contains(path, "/") {
					got = append(got, strings.ReplaceAll(path, d.namespace, "NS"))
				}
			}
			slices.Sort(got)
			// An API server that has just been given a definition has some reads of it repeated.
			got = slices.Compact(got)
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("what is read differs (-want +got):\n%s", diff)
			}
		})
	}
}

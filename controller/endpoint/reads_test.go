package endpoint

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// TestReadsOfMembers: what the callers of a namespace make the server ask the API server is bounded, and who is turned away hears why. What
// costs no question is answered all the same.
func TestReadsOfMembers(t *testing.T) {
	t.Parallel()
	m, err := budget.NewMetrics(prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	job, pod := podFor(demo, demo, demoUID)
	member := memberFor(demoUID)
	// Less than one comes back while the test runs.
	scarce := budget.Rate{PerNamespace: 0.001}
	e := newEstate(t, Options{
		Reads: budget.New("member-reads", scarce, m), Reviews: budget.New("token-reviews", scarce, m),
		RefusedTokens: Rate{PerSecond: 1, Burst: 100},
	}, nil, job, pod, member)
	if status, reason := e.ask(t, podIP, "grow", demo); status != ensemble.Response_SUCCESS {
		t.Fatalf("the first is answered %s: %s", status, reason)
	}
	for range 20 {
		status, reason := e.ask(t, podIP, "grow", demo)
		if status != ensemble.Response_DENIED || !strings.HasPrefix(
			reason, "namespace default causes more than 0.001 member reads in a second (--member-reads-per-second)",
		) {
			t.Fatalf("the next is answered %s: %s", status, reason)
		}
	}
	if status, reason := e.ask(t, podIP, "status", demo); status != ensemble.Response_SUCCESS {
		t.Errorf("the status is answered %s: %s", status, reason)
	}
	if size := e.desire(t); size != 2 {
		t.Errorf("the desired size is %d", size)
	}
	// What tokens cost is a budget of its own, for each address.
	for i, want := range []string{"", "address 203.0.113.9 causes more than 0.001 token reviews in a second (--token-reviews-per-second)"} {
		_, reason := e.ask(t, "203.0.113.9", "status", demo, "good")
		if want != "" && !strings.HasPrefix(reason, want) {
			t.Errorf("request %d with a token is answered %s", i, reason)
		}
	}
	if e.reviews != 2 {
		t.Errorf("%d reviews were made", e.reviews)
	}
	for _, line := range e.log {
		if strings.Contains(line, "member reads") || strings.Contains(line, "token reviews") {
			t.Errorf("a flood fills the log: %s", line)
		}
	}
}

// TestSizesOfMembers: how often the members of a namespace have sizes written is bounded, and who is turned away hears why; nothing is
// written then.
func TestSizesOfMembers(t *testing.T) {
	t.Parallel()
	m, err := budget.NewMetrics(prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	job, pod := podFor(demo, demo, demoUID)
	e := newEstate(t, Options{Sizes: budget.New("member-sizes", budget.Rate{PerNamespace: 0.001}, m)}, nil, job, pod, memberFor(demoUID))
	if status, reason := e.ask(t, podIP, "grow", demo); status != ensemble.Response_SUCCESS {
		t.Fatalf("the first is answered %s: %s", status, reason)
	}
	status, reason := e.ask(t, podIP, "grow", demo)
	if status != ensemble.Response_DENIED || !strings.HasPrefix(
		reason, "namespace default causes more than 0.001 member sizes in a second (--member-sizes-per-second)",
	) {
		t.Errorf("the next is answered %s: %s", status, reason)
	}
	if size := e.desire(t); size != 2 {
		t.Errorf("the desired size is %d", size)
	}
}

package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// leader is the address of a running pod of a scene, empty when there is none or the endpoint does not know it yet.
func (x *scene) leader(p *process) (ip string) {
	x.Helper()
	x.until(func(s *seen) string {
		if missing := notAtSize(s, s.size); missing != "" {
			return missing
		}
		var pods corev1.PodList
		if err := cluster.Client.List(x.Context(), &pods, client.InNamespace(x.key.Namespace)); err != nil {
			return err.Error()
		}
		for i := range pods.Items {
			if strings.HasPrefix(pods.Items[i].Name, x.key.Name+"-0-") {
				ip = pods.Items[i].Status.PodIP
			}
		}
		response, err := p.server.RequestStatus(from(x.Context(), ip), &ensemble.StatusRequest{Member: "miniclusters", Name: x.key.Name})
		if err != nil || response.GetStatus() != ensemble.Response_SUCCESS {
			return fmt.Sprintf("the status is %v, %v", response, err)
		}
		return ""
	}, nil)
	return ip
}

// TestQueueIsTold: what a member tells of its queue is in the status that it asks for, with its age, and in the metrics.
// It is not parallel: two controllers would do each other's work.
func TestQueueIsTold(t *testing.T) {
	x := newScene(t, "queue", 1)
	p := start(t, -1)
	defer p.Stop()
	ip := x.leader(p)
	update := func(payload string) *ensemble.Response {
		response, err := p.server.RequestUpdate(
			from(t.Context(), ip), &ensemble.UpdateRequest{Member: "minicluster", Name: "queue", Payload: payload},
		)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	type told struct {
		Queue    map[string]int64
		Waiting  map[string]int64
		Counts   map[string]int64
		QueueAge *float64 `json:"queueAgeSeconds"`
	}
	status := func() (s told) {
		response, err := p.server.RequestStatus(from(t.Context(), ip), &ensemble.StatusRequest{Member: "minicluster", Name: "queue"})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(response.GetPayload()), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := status(); s.QueueAge != nil || s.Queue["run"] != 0 {
		t.Errorf("before the member has told anything, the status is %+v", s)
	}
	if response := update(`{"queue": {"running": 1}}`); response.GetStatus() != ensemble.Response_ERROR || !strings.Contains(
		response.GetPayload(), "running",
	) {
		t.Errorf("a state that there is not: %s", response)
	}
	for _, run := range []int64{5, 0} {
		payload := fmt.Sprintf(`{"queue": {"sched": 7, "run": %d}, "waiting": {"4": 2}, "counts": {"sleep": 3}, "nodes": {}}`, run)
		response := update(payload)
		if response.GetStatus() != ensemble.Response_SUCCESS || !strings.Contains(response.GetPayload(), `"notUsed":["nodes"]`) {
			t.Errorf("the answer to %s is %s", payload, response)
		}
		x.until(func(*seen) string {
			s := status()
			if s.QueueAge == nil || *s.QueueAge < 0 || s.Queue["sched"] != 7 || s.Queue["run"] != run || s.Waiting["4"] != 2 ||
				s.Counts["sleep"] != 3 {
				return fmt.Sprintf("%d jobs run, and the status is %+v", run, s)
			}
			return ""
		}, nil)
		want := fmt.Sprintf(`
			# HELP ensemble_autoscaler_member_queue_jobs Jobs in the Flux queue of a member, as it last reported them: those that wait (pending) and those that run (running, with those that are cleaned up after).
			# TYPE ensemble_autoscaler_member_queue_jobs gauge
			ensemble_autoscaler_member_queue_jobs{member="queue",namespace="default",state="pending"} 7
			ensemble_autoscaler_member_queue_jobs{member="queue",namespace="default",state="running"} %d
		`, run)
		registry := prometheus.NewRegistry()
		registry.MustRegister(&endpoint.Collector{Members: p.GetClient(), Clock: clock.RealClock{}, Log: logr.Discard()})
		x.until(func(*seen) string {
			if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "ensemble_autoscaler_member_queue_jobs"); err != nil {
				return err.Error()
			}
			return ""
		}, nil)
	}
}

// TestCoalesce: with that policy a growth that is asked for again while it is under way is answered EXISTS and is the
// growth that it was; the other direction is open.
// It is not parallel: two controllers would do each other's work.
func TestCoalesce(t *testing.T) {
	const name = "coalesce"
	x := newScene(t, name, 2)
	object := minicluster.New()
	object.SetNamespace(x.key.Namespace)
	object.SetName(name)
	patch := fmt.Appendf(nil, `{"metadata": {"annotations": {%q: "Coalesce"}}}`, v1alpha1.AnnotationRequestPolicy)
	if err := cluster.Client.Patch(t.Context(), object, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		t.Fatal(err)
	}
	p := start(t, -1)
	defer p.Stop()
	ip := x.leader(p)
	ask := func(action string, amount int, want ensemble.Response_ResultType, says string) {
		t.Helper()
		response, err := p.server.RequestAction(from(t.Context(), ip), &ensemble.ActionRequest{
			Member: "miniclusters", Name: name, Action: action, Payload: fmt.Sprintf(`{%q: %d}`, action, amount),
		})
		if err != nil {
			t.Fatal(err)
		}
		if response.GetStatus() != want || !strings.Contains(response.GetPayload(), says) {
			t.Errorf("%s %d is answered %s, not %s with %s", action, amount, response, want, says)
		}
	}
	x.outOfStock = true
	ask("grow", 2, ensemble.Response_SUCCESS, `"wants":4`)
	ask("grow", 2, ensemble.Response_EXISTS, `a grow to 4 is under way, and the size is 2`)
	ask("shrink", 1, ensemble.Response_SUCCESS, `"wants":3`)
	x.outOfStock = false
	x.until(func(s *seen) string { return notAtSize(s, 3) }, nil)
	ask("grow", 1, ensemble.Response_SUCCESS, `"wants":4`)
	x.until(func(s *seen) string { return notAtSize(s, 4) }, nil)
}

// TestAskedAgain: a request that has a name and is asked again, because its reply was lost, is answered as it was and changes nothing, also
// by a controller that was started since; one of another name counts.
// It is not parallel: two controllers would do each other's work.
func TestAskedAgain(t *testing.T) {
	const name = "asked-again"
	x := newScene(t, name, 1)
	p := start(t, -1)
	ip := x.leader(p)
	ask := func(action string, amount int, id string, says ...string) {
		t.Helper()
		response, err := p.server.RequestAction(from(t.Context(), ip), &ensemble.ActionRequest{
			Member: "miniclusters", Name: name, Action: action, Payload: fmt.Sprintf(`{%q: %d, "id": %q}`, action, amount, id),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range append(says, `"nodePools"`) {
			if response.GetStatus() != ensemble.Response_SUCCESS || !strings.Contains(response.GetPayload(), part) {
				t.Errorf("%s %d, called %s, is answered %s, not SUCCESS with %s", action, amount, id, response, part)
			}
		}
	}
	ask("grow", 1, "first", `"from":1,"wants":2`)
	ask("grow", 1, "first", `"from":2,"wants":2`, "this request was accepted at", "led to the size 2")
	x.until(func(s *seen) string { return notAtSize(s, 2) }, nil)
	p.Stop()
	p = start(t, -1)
	defer p.Stop()
	ip = x.leader(p)
	ask("grow", 1, "first", `"from":2,"wants":2`, "led to the size 2")
	ask("grow", 2, "second", `"from":2,"wants":4`)
	ask("shrink", 2, "third", `"from":4,"wants":2`)
	ask("shrink", 2, "third", `"from":2,"wants":2`, "led to the size 2")
	x.until(func(s *seen) string { return notAtSize(s, 2) }, nil)
}

// TestFlood: a member that asks without pause is denied what is too much, and the other one is served as before.
// It is not parallel: two controllers would do each other's work.
func TestFlood(t *testing.T) {
	x, other := newScene(t, "flood", 1), newScene(t, "no-flood", 1)
	p := startWith(t, -1, endpoint.Rate{PerSecond: 0.01, Burst: 5})
	defer p.Stop()
	flooder, ip := x.address(), other.address()
	status := func(ip, name string) *ensemble.Response {
		response, err := p.server.RequestStatus(
			from(context.WithoutCancel(t.Context()), ip), &ensemble.StatusRequest{Member: "minicluster", Name: name},
		)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	x.until(func(*seen) string {
		if response := status(flooder, "flood"); !strings.Contains(response.GetPayload(), "asks more often than 0.01 times a second, 5 at once") {
			return response.String()
		}
		return ""
	}, nil)
	if response := status(ip, "no-flood"); strings.Contains(response.GetPayload(), "asks more often") {
		t.Errorf("the other member is answered %s", response)
	}
}

// address is that of the first pod of a scene.
func (x *scene) address() (ip string) {
	x.Helper()
	x.until(func(s *seen) string {
		var pods corev1.PodList
		if err := cluster.Client.List(x.Context(), &pods, client.InNamespace(x.key.Namespace)); err != nil {
			return err.Error()
		}
		for i := range pods.Items {
			if strings.HasPrefix(pods.Items[i].Name, x.key.Name+"-0-") && pods.Items[i].Status.PodIP != "" {
				ip = pods.Items[i].Status.PodIP
			}
		}
		if ip == "" {
			return "the first pod has no address"
		}
		return notAtSize(s, 1)
	}, nil)
	return ip
}

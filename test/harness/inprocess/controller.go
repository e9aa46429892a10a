package inprocess

import (
	"slices"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/resize"
)

// ControllerOptions say what of the controller runs, and how.
type ControllerOptions struct {
	// Kinds are those of the workloads that are managed.
	Kinds member.Kinds
	// Rate is how often one member may ask; without it there is no limit.
	Rate endpoint.Rate
	// Audience is the one that tokens have to be for.
	Audience string
}

// Controller is a controller that runs in this process: the reconciler of sizes and the endpoint of members.
type Controller struct {
	*Mortal
	Server *endpoint.Server
	// Metrics has those of the reconciler.
	Metrics *prometheus.Registry
}

// StartController starts a controller that dies when it is about to make the write after so many; a negative number is none. It returns
// when the controller knows all that there is.
func (c *Cluster) StartController(t testing.TB, most int64, o ControllerOptions) *Controller {
	t.Helper()
	mgr := c.NewMortal(t, most, manager.Options{Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}}})
	store := pods.New(o.Kinds.PodLabels()...)
	registry := prometheus.NewRegistry()
	metrics, err := resize.NewMetrics(registry, clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	counts, err := endpoint.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	recorder := mgr.GetEventRecorder("controller-test")
	reconciler := &resize.Reconciler{
		Kinds: o.Kinds, Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: recorder, Clock: clock.RealClock{}, Metrics: metrics,
		Pods: store,
	}
	if err := reconciler.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	if err := pods.Follow(mgr, o.Kinds, store); err != nil {
		t.Fatal(err)
	}
	members := endpoint.New(endpoint.Options{
		Kinds: o.Kinds, Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Pods: store, Events: recorder, Log: logr.Discard(),
		Clock: clock.RealClock{}, Metrics: counts, Rate: o.Rate, Audience: o.Audience,
	})
	mgr.Run(t, members.Run, slices.Concat(resize.Watched(o.Kinds), endpoint.Kinds())...)
	select {
	case <-store.Filled():
	case <-t.Context().Done():
		t.Fatal("the pods were not listed")
	}
	return &Controller{Mortal: mgr, Server: members, Metrics: registry}
}

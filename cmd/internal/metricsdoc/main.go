// Command metricsdoc writes docs/metrics.md: what the binaries tell Prometheus, from the metrics that they register.
// With -check it writes nothing, and fails when the file is not what it would write. A test compares the file with what
// the running binaries serve, so that none can be forgotten here.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/metricsauth"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/mutualtls"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/admission"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/resize"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

func main() {
	path := flag.String("output", "docs/metrics.md", "file to write")
	check := flag.Bool("check", false, "write nothing, and fail when the file is out of date")
	flag.Parse()
	// What is registered here never runs, and has nothing to log.
	ctrllog.SetLogger(logr.Discard())
	if err := run(*path, *check); err != nil {
		fmt.Fprintf(os.Stderr, "metricsdoc: %v\n", err)
		os.Exit(1)
	}
}

func run(path string, check bool) error {
	page, err := document()
	if err != nil {
		return err
	}
	if !check {
		return os.WriteFile(path, page, 0o644) //nolint:gosec // Documentation is for everybody.
	}
	there, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, page) {
		return fmt.Errorf("%s is not what the registered metrics generate; run: make generate", path)
	}
	return nil
}

// example is the name of a pool. Metrics that have a label show only with a value of it.
const example = "example"

// binaries are the programs, each with what registers its metrics.
var binaries = []struct {
	name, about string
	register    func(prometheus.Registerer) error
}{
	{
		"provider",
		"Every replica serves them. The gauges of NodePools are the same on each; counters and histograms are each replica's own and have to " +
			"be summed.",
		provider,
	},
	{"controller", "Only the replica that leads resizes; every one serves requests.", controller},
}

func provider(registerer prometheus.Registerer) error {
	if err := registerer.Register(
		&pool.Collector{Pools: one{}, Machines: noMachines{}, Log: logr.Discard(), Clock: clock.RealClock{}},
	); err != nil {
		return err
	}
	m, err := pool.NewMetrics(registerer)
	if err != nil {
		return err
	}
	m.Released(example, pool.ByMember, 1)
	m.Failed(example, nodegroup.CodeProvisionTimeout)
	ordered := time.Unix(0, 0)
	machine := nodegroup.Machine{Name: example, OrderedAt: ordered}
	for range 2 {
		m.Observe(&nodegroup.Group{Name: example, Machines: []nodegroup.Machine{machine}}, ordered.Add(time.Second))
		machine.Node = &nodegroup.Node{Ready: true}
	}
	if err := contact(registerer); err != nil {
		return err
	}
	if err := process.NewWatches(&rest.Config{}, clock.RealClock{}).Register(registerer); err != nil {
		return err
	}
	if err := mutualtls.Describe(registerer); err != nil {
		return err
	}
	if _, err := server.NewExpander(nil, wire.DefaultLimits(), registerer, logr.Discard()); err != nil {
		return err
	}
	return (&serving.Server{Name: example, Metrics: registerer, Log: logr.Discard(), Register: func(r grpc.ServiceRegistrar) {
		externalgrpc.RegisterCloudProviderServer(r, externalgrpc.UnimplementedCloudProviderServer{})
		expander.RegisterExpanderServer(r, expander.UnimplementedExpanderServer{})
	}}).Describe()
}

// contact registers the metric of the contact with the API server, and that of who asks for metrics.
func contact(registerer prometheus.Registerer) error {
	// Nothing is asked of this address: the manager is never started.
	mgr, err := manager.New(&rest.Config{Host: "https://127.0.0.1:1"}, manager.Options{
		Scheme: runtime.NewScheme(), Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	if _, err := process.NewContact(mgr, time.Second, registerer); err != nil {
		return err
	}
	_, err = (&metricsauth.Authorization{Required: true}).Guard(nil, nil, clock.RealClock{}, registerer, logr.Discard())
	return err
}

func controller(registerer prometheus.Registerer) error {
	if err := contact(registerer); err != nil {
		return err
	}
	if _, err := resize.NewMetrics(registerer, clock.RealClock{}); err != nil {
		return err
	}
	if _, err := endpoint.NewMetrics(registerer); err != nil {
		return err
	}
	reviews, err := admission.NewMetrics(registerer)
	if err != nil {
		return err
	}
	admission.Webhooks(runtime.NewScheme(), nil, reviews)
	if _, err := admission.NewDoors(admission.ShippedBounds, registerer); err != nil {
		return err
	}
	budgets, err := budget.NewMetrics(registerer)
	if err != nil {
		return err
	}
	budget.New(example, budget.Rate{}, budgets)
	if err := registerer.Register(&endpoint.Collector{Members: one{}, Clock: clock.RealClock{}, Log: logr.Discard()}); err != nil {
		return err
	}
	if err := mutualtls.Describe(registerer); err != nil {
		return err
	}
	if err := process.NewWatches(&rest.Config{}, clock.RealClock{}).Register(registerer); err != nil {
		return err
	}
	return (&serving.Server{Name: example, Metrics: registerer, Log: logr.Discard(), Register: func(r grpc.ServiceRegistrar) {
		ensemble.RegisterEnsembleOperatorServer(r, ensemble.UnimplementedEnsembleOperatorServer{})
	}}).Describe()
}

// one is a cache with one NodePool, and one MemberQueue.
type one struct{ client.Reader }

// List implements client.Reader.
func (one) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch list := list.(type) {
	case *v1alpha1.NodePoolList:
		list.Items = []v1alpha1.NodePool{{ObjectMeta: metav1.ObjectMeta{Name: example}}}
	case *v1alpha1.MemberQueueList:
		list.Items = []v1alpha1.MemberQueue{{ObjectMeta: metav1.ObjectMeta{Namespace: example, Name: example}}}
	default:
		return fmt.Errorf("there is no list of %T here", list)
	}
	return nil
}

// noMachines is a store without machines.
type noMachines struct{}

// List implements pool.Machines.
func (noMachines) List(context.Context, string, record.Freshness) ([]nodegroup.Machine, error) {
	return nil, nil
}

// document is the page.
func document() ([]byte, error) {
	var page bytes.Buffer
	page.WriteString(`# Metrics

<!-- Generated by cmd/internal/metricsdoc from the metrics that the binaries register; run: make generate -->

Both binaries serve these at ` + "`/metrics`" + ` of ` + "`--metrics-address`" + `, beside those of controller-runtime, client-go and the Go
runtime, which their own documentation describes.
`)
	for _, binary := range binaries {
		registry := prometheus.NewPedanticRegistry()
		if err := binary.register(registry); err != nil {
			return nil, fmt.Errorf("register the metrics of the %s: %w", binary.name, err)
		}
		families, err := registry.Gather()
		if err != nil {
			return nil, fmt.Errorf("gather the metrics of the %s: %w", binary.name, err)
		}
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n", binary.name, binary.about)
		slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
		for _, family := range families {
			fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n",
				family.GetName(), strings.ToLower(family.GetType().String()), labels(family), strings.ReplaceAll(family.GetHelp(), "|", `\|`))
		}
	}
	return page.Bytes(), nil
}

// labels are the names of the labels of a family, in order.
func labels(family *dto.MetricFamily) string {
	names := map[string]bool{}
	for _, metric := range family.GetMetric() {
		for _, label := range metric.GetLabel() {
			names["`"+label.GetName()+"`"] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

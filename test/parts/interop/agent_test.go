package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr/testr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	queue "github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/broker"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/report"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// growing has four jobs on two nodes, and asks for two more because two of them wait.
const growing = `
logging: {heartbeat: 1}
jobs: [{name: hold, command: sleep 3600, count: 4, nodes: 1, tasks: 4}]
rules:
- {trigger: start, action: {name: submit, label: hold}}
- {trigger: metric, name: mean.hold-pending, when: "> 0.5", action: {name: grow, value: 2}}
`

// TestAgent: the agent, on a queue in which jobs wait, has its member grow from the address of its lead, once, and the queue is known.
func TestAgent(t *testing.T) {
	x := start(t)
	x.atSize(t, asking, 2)
	lead := x.lead(t)
	instance, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Size: 6, Online: 2})
	if err != nil {
		t.Fatal(err)
	}
	client, err := flux.New(flux.Options{URI: instance.URI()})
	if err != nil {
		t.Fatal(err)
	}
	operator, err := report.New(report.Options{
		Address: forward(t, net.ParseIP(lead.Status.PodIP), x.EndpointAddress), Member: "miniclusters", Name: asking.Name,
	})
	if err != nil {
		t.Fatal(err)
	}
	file, faults := ensemblefile.ParseFor(ensemblefile.Agent, growing, field.NewPath("ensemble"))
	if len(faults) > 0 {
		t.Fatal(faults.ToAggregate())
	}
	log := testr.New(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- agent.Run(ctx, agent.Config{
			File: file, Queue: &queue.Queue{Client: client, Log: log}, Operator: operator,
			Store: agent.FileStore{Path: filepath.Join(t.TempDir(), "progress.json")}, Log: log, Clock: clock.RealClock{},
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the agent has ended with %v", err)
		}
		if err := errors.Join(client.Close(), operator.Close(), instance.Close()); err != nil {
			t.Error(err)
		}
	})

	x.atSize(t, asking, 4)
	x.queued(t, v1alpha1.QueueJobs{Sched: 2, Run: 2}, 2)
	for rank := 2; rank < 4; rank++ {
		if err := instance.Add(ctx, rank); err != nil {
			t.Fatal(err)
		}
	}
	x.queued(t, v1alpha1.QueueJobs{Run: 4}, 4)
	x.atSize(t, other, 2)
}

// queued waits until the controller knows these jobs and nodes of the queue of the member that asks.
func (x *scene) queued(t *testing.T, jobs v1alpha1.QueueJobs, up int64) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		told := &v1alpha1.MemberQueue{}
		if err := x.Client.Get(ctx, asking, told); apierrors.IsNotFound(err) {
			return "nothing is known of the queue", nil
		} else if err != nil {
			return "", err
		}
		if told.Queue.Jobs != jobs || told.Queue.Counts["nodes_up"] != up {
			return fmt.Sprintf("the queue is known as %+v, not as %+v on %d nodes", told.Queue, jobs, up), nil
		}
		return "", nil
	})
}

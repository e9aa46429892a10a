package broker_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/broker"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
	harness "github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what should not take long, on a machine that may be busy.
const patience = 2 * time.Minute

// member is an instance whose operator lets brokers join it.
type member struct {
	t        *testing.T
	instance harness.Instance
	client   *flux.Client
	config   agent.Config

	mu      sync.Mutex
	size    rules.Size
	granted []string
	reports int
	waiting map[int32]int64
	adding  sync.WaitGroup
}

func start(t *testing.T, text string, options harness.Options) *member {
	t.Helper()
	options.Dir = t.TempDir()
	instance, err := harness.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	client, err := flux.New(flux.Options{URI: instance.URI(), MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	m := &member{t: t, instance: instance, client: client}
	t.Cleanup(func() {
		m.adding.Wait()
		if err := errors.Join(client.Close(), instance.Close()); err != nil {
			t.Error(err)
		}
	})
	file, faults := ensemblefile.ParseFor(ensemblefile.Agent, text, field.NewPath("file"))
	if len(faults) > 0 {
		t.Fatal(faults.ToAggregate())
	}
	online, most := int32(options.Online), int32(options.Size)
	m.size = rules.Size{Has: online, Wants: online, Max: most}
	log := testr.New(t)
	m.config = agent.Config{
		File: file, Queue: &broker.Queue{Client: client, Log: log, Environment: broker.Environment()}, Operator: m,
		Store: agent.FileStore{Path: filepath.Join(t.TempDir(), "progress.json")}, Log: log, Clock: clock.RealClock{},
	}
	return m
}

func (m *member) Resize(_ context.Context, request agent.Resize) (agent.Reply, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if request.Verb != rules.Grow || m.size.Wants+request.Nodes > m.size.Max {
		size := m.size
		return agent.Reply{Size: &size, Reason: "it is the largest already"}, nil
	}
	first := int(m.size.Wants)
	m.size.Wants += request.Nodes
	m.granted = append(m.granted, fmt.Sprintf("%s %d", request.Verb, request.Nodes))
	wants := m.size.Wants
	ctx := m.t.Context()
	m.adding.Go(func() {
		for rank := first; rank < int(wants); rank++ {
			if err := m.instance.Add(ctx, rank); err != nil {
				m.t.Errorf("add rank %d: %v", rank, err)
			}
		}
		m.mu.Lock()
		m.size.Has = wants
		m.mu.Unlock()
	})
	size := m.size
	return agent.Reply{Granted: true, Size: &size}, nil
}

func (m *member) Status(context.Context) (rules.Size, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size, nil
}

func (m *member) Report(_ context.Context, report agent.Report) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = report.Waiting
	m.reports++
	return nil
}

// run runs the agent, and again when it was told to end after a time.
func (m *member) run(restarts ...time.Duration) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	for _, after := range restarts {
		part, end := context.WithTimeout(ctx, after)
		err := agent.Run(part, m.config)
		end()
		if err == nil {
			return
		}
	}
	if err := agent.Run(ctx, m.config); err != nil {
		m.t.Fatalf("the agent has ended: %v", err)
	}
}

// jobs are the commands of the jobs that the instance has seen, with their states.
func (m *member) jobs() []string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	listed, err := m.client.Jobs(ctx, flux.JobFilter{})
	if err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for i := range listed {
		out = append(out, fmt.Sprintf("%s of %d %s", listed[i].Name, listed[i].Nodes, listed[i].Result))
	}
	slices.Sort(out)
	return out
}

const grows = `
logging: {heartbeat: 0.3}
jobs: [{name: wait, command: sleep 1, count: 10, nodes: 1, tasks: 4}, {name: last, command: "true", count: 2, nodes: 2, tasks: 8}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: metric, name: mean.wait-pending, when: "> 0.5", action: {name: grow, value: 2, repetitions: 2}}
- {trigger: metric, name: count.wait.success, when: 10, action: {name: submit, label: last}}
- {trigger: metric, name: count.last.success, when: 2, action: {name: terminate}}
`

func (m *member) check() {
	m.t.Helper()
	got := strings.Join(m.jobs(), ", ")
	want := strings.Repeat("sleep of 1 completed, ", 10) + "true of 2 completed, true of 2 completed"
	if got != want {
		m.t.Errorf("the jobs are %s, want %s", got, want)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.granted) == 0 || m.granted[0] != "grow 2" {
		m.t.Errorf("granted was %v, want growths", m.granted)
	}
	if m.reports == 0 {
		m.t.Error("nothing was reported")
	}
}

// TestGrowth: jobs wait, the member grows, and the ensemble ends.
func TestGrowth(t *testing.T) {
	t.Parallel()
	m := start(t, grows, harness.Options{Size: 6, Online: 2})
	m.run()
	m.check()
}

// TestRestarts: the agent is told to end again and again, and its connections are cut, and each job is submitted once.
func TestRestarts(t *testing.T) {
	t.Parallel()
	m := start(t, grows, harness.Options{Size: 6, Online: 2})
	if b, is := m.instance.(*harness.StandIn); is {
		ctx, stop := context.WithCancel(t.Context())
		var cutting sync.WaitGroup
		cutting.Go(func() {
			for ticker := time.NewTicker(170 * time.Millisecond); ; {
				select {
				case <-ticker.C:
					b.Cut()
				case <-ctx.Done():
					ticker.Stop()
					return
				}
			}
		})
		defer cutting.Wait()
		defer stop()
	}
	m.run(50*time.Millisecond, 300*time.Millisecond, 700*time.Millisecond, 400*time.Millisecond)
	m.check()
}

// TestALostLead: the broker is started again and knows no jobs. The ensemble begins again, and ends.
func TestALostLead(t *testing.T) {
	t.Parallel()
	m := start(t, grows, harness.Options{Size: 6, Online: 6})
	var restarting sync.WaitGroup
	restarting.Go(func() {
		select {
		case <-time.After(700 * time.Millisecond):
			if err := m.instance.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		case <-t.Context().Done():
		}
	})
	defer restarting.Wait()
	m.run()
	if got := len(m.jobs()); got != 12 {
		t.Errorf("the instance has had %d jobs, want 12: %v", got, m.jobs())
	}
}

// TestNodes counts what jobs leave.
func TestNodes(t *testing.T) {
	t.Parallel()
	m := start(t, "jobs: []\nrules: []\n", harness.Options{Size: 6, Online: 4})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := m.config.Queue.Nodes(ctx); err != nil || got != (agent.Nodes{Up: 4, Free: 4, IdleTail: 3}) {
		t.Errorf("of four idle nodes it counts %+v, %v", got, err)
	}
	order := rules.Order{Job: &ensemblefile.Job{Name: "a", Command: "sleep 600", Nodes: 2, Tasks: 2}}
	if err := m.config.Queue.Submit(ctx, order); err != nil {
		t.Fatal(err)
	}
	for got := (agent.Nodes{}); got != (agent.Nodes{Up: 4, Free: 2, IdleTail: 2}); {
		var err error
		if got, err = m.config.Queue.Nodes(ctx); err != nil {
			t.Fatalf("of four nodes with a job on two it counts %+v: %v", got, err)
		}
	}
}

// TestWhatIsRefused: a job counts as refused only when Flux would never take it as it is.
func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	m := start(t, "jobs: []\nrules: []\n", harness.Options{Size: 2, Online: 2})
	b, is := m.instance.(*harness.StandIn)
	if !is {
		t.Skip("flux-core does not fail on request")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	order := rules.Order{Job: &ensemblefile.Job{Name: "a", Command: "true", Nodes: 1}}
	for _, row := range []struct {
		errno   syscall.Errno
		text    string
		refused bool
	}{
		{syscall.EINVAL, "jobspec: Missing key 'resources'", true},
		{syscall.EINVAL, "job submission is disabled: maintenance", false},
		{syscall.EPERM, "", true},
		{syscall.E2BIG, "", true},
		{syscall.EPROTO, "validator killed by signal 9", false},
		{syscall.ENOSPC, "", false},
		{syscall.ENOMEM, "", false},
		{syscall.EAGAIN, "", false},
		{syscall.ENOSYS, "", false},
	} {
		b.FailSubmissions(row.errno, row.text)
		err := m.config.Queue.Submit(ctx, order)
		if _, refused := errors.AsType[*agent.RefusedError](err); err == nil || refused != row.refused {
			t.Errorf("%s %q is %v; refused for good has to be %v", row.errno.Error(), row.text, err, row.refused)
		}
	}
	b.FailSubmissions(0, "")
	if err := m.config.Queue.Submit(ctx, order); err != nil {
		t.Error(err)
	}
}

// TestARejectedJob: a plugin rejects a job of which the journal has told already. It counts as failed, once, and does not wait.
func TestARejectedJob(t *testing.T) {
	t.Parallel()
	m := start(t, `
jobs: [{name: a, command: "true", count: 3}, {name: b, command: "true"}]
rules:
- {trigger: start, action: {name: submit, label: a}}
- {trigger: metric, name: count.a.failed, when: 3, action: {name: submit, label: b}}
- {trigger: metric, name: count.b.finished, when: 1, action: {name: terminate}}
`, harness.Options{Size: 2, Online: 2})
	b, is := m.instance.(*harness.StandIn)
	if !is {
		t.Skip("flux-core rejects nothing on request")
	}
	b.RejectJobs("the account has expired")
	m.run()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) > 0 {
		t.Errorf("jobs are reported to wait: %v", m.waiting)
	}
}

// TestNodesThatCome: the agent is told of a node that comes.
func TestNodesThatCome(t *testing.T) {
	t.Parallel()
	m := start(t, "jobs: []\nrules: []\n", harness.Options{Size: 3, Online: 2})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	told := make(chan struct{}, 100)
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() {
		if err := m.config.Queue.FollowNodes(ctx, func() { told <- struct{}{} }); !errors.Is(err, context.Canceled) {
			t.Errorf("it has ended with %v", err)
		}
	})
	defer cancel()
	<-told
	if err := m.instance.Add(ctx, 2); err != nil {
		t.Fatal(err)
	}
	for up := 2; up != 3; {
		select {
		case <-told:
		case <-ctx.Done():
			t.Fatal("nobody tells of the third node")
		}
		nodes, err := m.config.Queue.Nodes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		up = nodes.Up
	}
}

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

func parse(t *testing.T, text string) *ensemblefile.File {
	t.Helper()
	file, faults := ensemblefile.ParseFor(ensemblefile.Agent, text, field.NewPath("file"))
	if len(faults) > 0 {
		t.Fatal(faults.ToAggregate())
	}
	return file
}

// queue is a Flux instance that runs jobs, first in first out, each for as long as its command sleeps.
type queue struct {
	mu       sync.Mutex
	instance string
	nodes    int
	busy     int
	journal  []rules.Job
	waiting  []*running
	lastID   uint64
	// byTag counts the submissions of each tag, byGroup of each group.
	byTag   map[rules.Tag]int
	byGroup map[string]int
	// changed is closed and made again with each event, cut when the streams are cut.
	changed, cut chan struct{}
	// submitting is called before a job is taken; what it returns is the answer, and whether the job is taken all the same.
	submitting func(order rules.Order) (err error, taken bool)
	// slow is how long a submission takes to be carried out, whether its caller waits or not.
	slow func(order rules.Order) time.Duration
	// cancelled are the jobs that were.
	cancelled []uint64
	// nodesChanged is called when the number of nodes has changed.
	nodesChanged func()
}

type running struct {
	id    uint64
	nodes int
	runs  time.Duration
}

func newQueue(nodes int) *queue {
	return &queue{
		instance: "first", nodes: nodes, byTag: map[rules.Tag]int{}, byGroup: map[string]int{}, changed: make(chan struct{}),
		cut: make(chan struct{}),
	}
}

func (q *queue) Instance(context.Context) (string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.instance, nil
}

func (q *queue) Follow(ctx context.Context, listener agent.Listener) error {
	for ctx.Err() == nil {
		if err := q.stream(ctx, listener); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// stream is one stream of the journal, until it is cut.
func (q *queue) stream(ctx context.Context, listener agent.Listener) error {
	q.mu.Lock()
	told, cut := len(q.journal), q.cut
	q.mu.Unlock()
	if err := listener.Opened(ctx); err != nil {
		return err
	}
	hand := func(from, to int) error {
		for ; from < to; from++ {
			q.mu.Lock()
			event := q.journal[from]
			q.mu.Unlock()
			if err := listener.Events(ctx, []rules.Event{event}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := hand(0, told); err != nil {
		return err
	}
	if err := listener.Events(ctx, []rules.Event{rules.CaughtUp{}}); err != nil {
		return err
	}
	for {
		q.mu.Lock()
		now, changed := len(q.journal), q.changed
		q.mu.Unlock()
		if err := hand(told, now); err != nil {
			return err
		}
		told = now
		select {
		case <-changed:
		case <-cut:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lose cuts the streams of the journal.
func (q *queue) lose() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.cut)
	q.cut = make(chan struct{})
}

func (q *queue) Submit(ctx context.Context, order rules.Order) error {
	if q.slow == nil {
		return q.take(order)
	}
	done := make(chan error, 1)
	time.AfterFunc(q.slow(order), func() { done <- q.take(order) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (q *queue) Cancel(_ context.Context, id uint64, _ string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cancelled = append(q.cancelled, id)
	q.event(&running{id: id}, rules.Job{Name: rules.EventException, Type: "cancel"})
	return nil
}

func (q *queue) take(order rules.Order) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var err error
	if q.submitting != nil {
		var taken bool
		if err, taken = q.submitting(order); !taken {
			return err
		}
	}
	q.byTag[order.Tag]++
	q.byGroup[order.Job.Name]++
	q.lastID++
	job := &running{id: q.lastID, nodes: int(order.Job.Nodes), runs: time.Millisecond}
	if words := ensemblefile.Words(order.Job.Command); words[0] == "sleep" {
		seconds, err := strconv.Atoi(words[1])
		if err != nil {
			return &agent.RefusedError{Err: err}
		}
		job.runs = time.Duration(seconds) * time.Second
	}
	q.event(job, rules.Job{Name: rules.EventSubmit, Submission: &rules.Submission{
		Group: order.Job.Name, Nodes: order.Job.Nodes, Tag: order.Tag,
	}})
	q.waiting = append(q.waiting, job)
	q.schedule()
	return err
}

func (q *queue) event(job *running, e rules.Job) {
	e.ID, e.At = job.id, time.Now()
	q.journal = append(q.journal, e)
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) schedule() {
	for len(q.waiting) > 0 && q.busy+q.waiting[0].nodes <= q.nodes {
		job := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.busy += job.nodes
		q.event(job, rules.Job{Name: rules.EventAlloc})
		q.event(job, rules.Job{Name: rules.EventStart})
		instance := q.instance
		time.AfterFunc(job.runs, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			if q.instance != instance {
				return
			}
			q.event(job, rules.Job{Name: rules.EventFinish})
			q.event(job, rules.Job{Name: rules.EventClean})
			q.busy -= job.nodes
			q.schedule()
		})
	}
}

func (q *queue) resize(nodes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nodes = nodes
	if q.nodesChanged != nil {
		q.nodesChanged()
	}
	q.schedule()
}

func (q *queue) FollowNodes(ctx context.Context, changed func()) error {
	q.mu.Lock()
	q.nodesChanged = changed
	q.mu.Unlock()
	<-ctx.Done()
	return context.Cause(ctx)
}

func (q *queue) Nodes(context.Context) (agent.Nodes, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return agent.Nodes{Up: q.nodes, Free: q.nodes - q.busy}, nil
}

// twice names the jobs that were submitted more than once.
func (q *queue) twice() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []string
	for tag, n := range q.byTag {
		if n != 1 {
			out = append(out, fmt.Sprintf("%+v: %d times", tag, n))
		}
	}
	return out
}

// boot is how long a growth takes.
const boot = 9 * time.Second

// operator resizes a queue.
type operator struct {
	queue *queue
	// answers says what becomes of a request at a time; nil is that it is answered.
	answers func() way
	// resizing is answers for Resize alone, where it is not nil.
	resizing func() way

	mu    sync.Mutex
	size  rules.Size
	asked []string
	// known is the name of the last request that was accepted.
	known   string
	granted []string
	reports []reported
}

type reported struct {
	at     time.Time
	report agent.Report
}

// way is what becomes of a request.
type way int

const (
	answered way = iota
	// swallowed: no answer comes, and nothing is done.
	swallowed
	// lost: it is done, and the answer is lost.
	lost
	denied
	// broken: an error comes at once, and nothing is done.
	broken
)

var errLost = errors.New("the connection is lost")

func (o *operator) now() way {
	if o.answers == nil {
		return answered
	}
	return o.answers()
}

func (o *operator) Resize(ctx context.Context, request agent.Resize) (agent.Reply, error) {
	how := o.now()
	if o.resizing != nil {
		how = o.resizing()
	}
	o.mu.Lock()
	o.asked = append(o.asked, request.ID)
	o.mu.Unlock()
	if how == swallowed {
		<-ctx.Done()
		return agent.Reply{}, context.Cause(ctx)
	}
	if how == broken {
		return agent.Reply{}, errLost
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	change := request.Nodes
	if request.Verb == rules.Shrink {
		change = -change
	}
	size := o.size
	if size.Max > 0 && request.ID == o.known {
		if how == lost {
			return agent.Reply{}, errLost
		}
		return agent.Reply{Granted: true, Size: &size, Reason: "it is known"}, nil
	}
	if how == denied || size.Max > 0 && size.Wants+change > size.Max || size.Wants+change < 1 {
		return agent.Reply{Size: &size, Reason: "it is refused"}, nil
	}
	o.known = request.ID
	o.size.Wants += change
	o.granted = append(o.granted, fmt.Sprintf("%s %d", request.Verb, request.Nodes))
	wants := o.size.Wants
	time.AfterFunc(map[bool]time.Duration{true: boot}[change > 0], func() {
		o.mu.Lock()
		o.size.Has = wants
		o.mu.Unlock()
		o.queue.resize(int(wants))
	})
	if how == lost {
		return agent.Reply{}, errLost
	}
	size = o.size
	return agent.Reply{Granted: true, Size: &size, Reason: "as was asked"}, nil
}

func (o *operator) Status(ctx context.Context) (rules.Size, error) {
	if o.now() == swallowed {
		<-ctx.Done()
		return rules.Size{}, context.Cause(ctx)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size, nil
}

func (o *operator) Report(ctx context.Context, report agent.Report) error {
	if o.now() == swallowed {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reports = append(o.reports, reported{time.Now(), report})
	return nil
}

// programs answers with texts, one after the other.
type programs struct {
	outputs []string
	inputs  []string
}

func (p *programs) Run(_ context.Context, label string, input []byte) ([]byte, error) {
	p.inputs = append(p.inputs, label+" "+string(input))
	if len(p.outputs) == 0 {
		return nil, errors.New("there is no such program")
	}
	out := p.outputs[0]
	p.outputs = p.outputs[1:]
	return []byte(out), nil
}

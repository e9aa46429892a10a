package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// Config is what an agent is made of.
type Config struct {
	File  *ensemblefile.File
	Queue Queue
	// Operator is nil where there is none: rules that grow or shrink are not run then.
	Operator Operator
	Programs Programs
	Store    Store
	Log      logr.Logger
	Clock    clock.Clock
}

const (
	// callTimeout bounds each call of the queue and of the operator.
	callTimeout = 10 * time.Second
	// beginTimeout bounds the question for the size at the beginning, which jobs wait for.
	beginTimeout = 2 * time.Second
	// minPause and maxPause are between two attempts at what has failed.
	minPause = 100 * time.Millisecond
	maxPause = 10 * time.Second
)

// Run runs the rules until one of them terminates the ensemble, and returns nil then, or until the context ends, and returns its cause.
func Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	a := &agent{
		Config: c, inbox: make(chan func()), submitter: newSubmitter(c), pokes: make(chan struct{}, 1), reporter: newReporter(c),
		reopen: make(chan struct{}, 1), kept: newKeeper(c),
	}
	a.submitter.reopen = func() { poke(a.reopen) }
	a.submitter.refused = func(order *rules.Order) {
		a.tell(ctx, rules.Rejected{Group: order.Job.Name, Tag: order.Tag})
	}
	a.tasks.Go(func() { a.follow(ctx) })
	a.tasks.Go(func() { a.submitter.run(ctx) })
	a.tasks.Go(func() { a.kept.retry(ctx, c.Clock) })
	if c.Operator != nil {
		a.tasks.Go(func() { a.watchSize(ctx) })
		a.tasks.Go(func() { a.reporter.run(ctx) })
		a.tasks.Go(func() { a.reporter.followNodes(ctx) })
	}
	err := a.loop(ctx)
	cancel()
	a.tasks.Wait()
	return err
}

// agent is a run of the rules. What is not said to be for all goroutines is for that of loop alone.
type agent struct {
	Config
	// inbox has what others want done by loop.
	inbox     chan func()
	tasks     sync.WaitGroup
	submitter *submitter
	reporter  *reporter
	// pokes has the size asked for at once.
	pokes chan struct{}
	// reopen has the journal read again from its beginning.
	reopen chan struct{}
	// growing says that a growth is under way. It is for all.
	growing atomic.Bool

	instance string
	state    *rules.State
	size     rules.Size
	notRun   bool
	// fresh are the jobs of which the journal has nothing yet but their submission.
	fresh map[uint64]rules.Tag

	// asking is held by the goroutine that asks for another size.
	asking sync.Mutex
	kept   *keeper
}

func (a *agent) loop(ctx context.Context) error {
	for {
		var alarm <-chan time.Time
		stop := func() bool { return true }
		if a.state != nil {
			if at, ok := a.state.Next(); ok {
				timer := a.Clock.NewTimer(max(0, at.Sub(a.Clock.Now())))
				alarm, stop = timer.C(), timer.Stop
			}
		}
		select {
		case <-ctx.Done():
			stop()
			return context.Cause(ctx)
		case do := <-a.inbox:
			stop()
			do()
		case <-alarm:
			a.apply(ctx, nil)
		}
		if a.state != nil && a.state.Ended() {
			return nil
		}
	}
}

// do has loop do something and waits until it is done. It reports false when the context ended first.
func (a *agent) do(ctx context.Context, what func()) bool {
	done := make(chan struct{})
	select {
	case a.inbox <- func() { defer close(done); what() }:
		<-done
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *agent) tell(ctx context.Context, event rules.Event) {
	a.do(ctx, func() {
		if a.state != nil {
			a.apply(ctx, event)
		}
	})
}

// follow reads the journal for as long as the agent runs.
func (a *agent) follow(ctx context.Context) {
	for pause := minPause; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		stream, end := context.WithCancelCause(ctx)
		watching := make(chan struct{})
		go func() {
			defer close(watching)
			select {
			case <-a.reopen:
				end(errReopen)
			case <-stream.Done():
			}
		}()
		err := a.Queue.Follow(stream, Listener{
			Opened: func(context.Context) error { return a.opened(ctx) },
			// What comes of it goes on when this stream ends.
			Events: func(_ context.Context, events []rules.Event) error {
				if !a.do(ctx, func() { a.happened(ctx, events) }) {
					return context.Cause(ctx)
				}
				return nil
			},
		})
		again := errors.Is(context.Cause(stream), errReopen)
		end(nil)
		<-watching
		if again {
			pause = minPause
			continue
		}
		if ctx.Err() == nil {
			a.Log.Error(err, "The journal of the queue cannot be read; it is tried again")
			wait(ctx, a.Clock, pause)
		}
	}
}

// errReopen ends the reading of a journal so that it is read from its beginning.
var errReopen = errors.New("the journal is read again")

// poke fills a channel that has room for one, if it is empty.
func poke(channel chan<- struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// opened begins again: what is known of the queue is in the journal that follows.
func (a *agent) opened(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	instance, err := a.Queue.Instance(bounded)
	if err != nil {
		return fmt.Errorf("ask for the instance: %w", err)
	}
	progress, lost := a.kept.load(instance)
	size := a.sizeNow(ctx)
	if !a.do(ctx, func() {
		submitted := a.submitter.opened(instance == a.instance)
		a.instance, a.fresh = instance, map[uint64]rules.Tag{}
		a.state = rules.New(a.File, rules.Options{
			CannotResize: a.Operator == nil, Progress: progress, ProgressLost: lost, Submitted: submitted,
		})
		if size != nil {
			a.size = *size
		}
		a.apply(ctx, a.size)
		if !a.notRun {
			a.notRun = true
			for _, sentence := range a.state.NotRun() {
				a.Log.Info("A rule is not run", "reason", sentence)
			}
		}
	}) {
		return context.Cause(ctx)
	}
	return nil
}

// sizeNow is the size of the member, nil where it is not to be had.
func (a *agent) sizeNow(ctx context.Context) *rules.Size {
	if a.Operator == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	size, err := a.Operator.Status(bounded)
	if err != nil {
		a.Log.Info("The size of the member is not known yet", "reason", err.Error())
		return nil
	}
	return &size
}

func (a *agent) happened(ctx context.Context, events []rules.Event) {
	for _, event := range events {
		switch e := event.(type) {
		case rules.Job:
			a.saw(&e)
		case rules.CaughtUp:
			a.submitter.caughtUp()
		}
		a.apply(ctx, event)
	}
}

// saw tells the submitter which of its jobs are in the queue.
func (a *agent) saw(job *rules.Job) {
	tag, fresh := a.fresh[job.ID]
	delete(a.fresh, job.ID)
	switch {
	case job.Submission != nil && job.Submission.Tag != (rules.Tag{}):
		a.fresh[job.ID] = job.Submission.Tag
		a.submitter.saw(job.Submission.Tag)
	case fresh && job.Name == rules.EventInvalidate:
		a.submitter.rejected(tag)
	}
}

// apply tells the state and does what comes of it.
func (a *agent) apply(ctx context.Context, event rules.Event) {
	switch e := event.(type) {
	case rules.Size:
		a.resized(e)
	case rules.Answer:
		if e.Size != nil {
			a.resized(*e.Size)
		}
	}
	actions := a.state.Apply(event, a.Clock.Now())
	if !a.state.CaughtUp() {
		return
	}
	// It is kept before anything is done of which it tells.
	a.kept.grant(a.state.Progress())
	for i := range actions {
		a.act(ctx, &actions[i])
	}
	a.reporter.set(a.state.Report())
}

func (a *agent) resized(size rules.Size) {
	if size.Max == 0 {
		size.Max = a.size.Max
	}
	a.size = size
	a.growing.Store(size.Wants > size.Has)
}

func (a *agent) act(ctx context.Context, action *rules.Action) {
	log := a.Log.WithValues("rule", action.Rule, "reason", action.Reason)
	switch action.Verb {
	case rules.Submit:
		log.Info("Submit", "jobs", len(action.Jobs), "name", action.Jobs[0].Job.Name)
		a.submitter.add(action.Jobs)
	case rules.Cancel:
		log.Info("Cancel", "job", action.Job)
		a.tasks.Go(func() { a.cancelJob(ctx, log, action.Job, action.Reason) })
	case rules.Terminate:
		log.Info("Terminate")
	case rules.Custom:
		log.Info("Run", "program", action.Label)
		input, err := json.Marshal(programInput{
			Rule: action.Rule, Reason: action.Reason, Metrics: a.state.Metrics(), Queue: a.state.Report().Queue,
		})
		a.tasks.Go(func() { a.runProgram(ctx, log, action, input, err) })
	default:
		log.Info("Ask", "action", action.Verb, "nodes", action.Nodes, "id", action.ID)
		instance, known := a.instance, a.size
		a.tasks.Go(func() { a.tell(ctx, a.resize(ctx, log, action, instance, known)) })
	}
}

// cancelJob tries until the job is cancelled or has ended.
func (a *agent) cancelJob(ctx context.Context, log logr.Logger, id uint64, note string) {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err := a.Queue.Cancel(call, id, note)
		cancel()
		if err == nil {
			return
		}
		log.Info("A job could not be cancelled; it is tried again", "job", id, "error", err.Error())
		if !wait(ctx, a.Clock, pause) {
			return
		}
	}
}

// programInput is what the program of a custom action reads.
type programInput struct {
	// Rule is the place of the rule in the file, Reason why it was run.
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
	// Metrics are those of ensemble-python: {"count": {"sleep": {"success": 3}}, "mean": {"sleep-duration": 1.5}}.
	Metrics map[string]map[string]any `json:"metrics"`
	// Queue counts jobs by their state.
	Queue map[string]int64 `json:"queue"`
}

func (a *agent) runProgram(ctx context.Context, log logr.Logger, action *rules.Action, input []byte, err error) {
	answer := rules.Answer{ID: action.ID, Outcome: rules.Granted}
	var output []byte
	if err == nil {
		output, err = a.Programs.Run(ctx, action.Label, input)
	}
	if err == nil {
		answer.Actions, err = rules.ReadActions(a.File, output)
	}
	if err != nil {
		log.Error(err, "A custom action has come to nothing", "program", action.Label)
	}
	a.tell(ctx, answer)
}

// wait waits, and reports false when the context ended first.
func wait(ctx context.Context, c clock.Clock, d time.Duration) bool {
	timer := c.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

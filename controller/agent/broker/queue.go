package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// The attributes of a job that say for what it was submitted: attributes.user. The first is that of ensemble-python.
const (
	attributeGroup = "group"
	attributeTag   = "ensemble"
)

// Queue is a Flux instance.
type Queue struct {
	Client *flux.Client
	Log    logr.Logger
	// Environment is that of jobs, and Directory where those start that name none.
	Environment map[string]string
	Directory   string
}

var _ agent.Queue = (*Queue)(nil)

// Environment is the environment of this process for jobs: without what Flux says of the process itself.
func Environment() map[string]string {
	own := []string{
		flux.EnvURI, "FLUX_JOB_ID", "FLUX_JOB_NNODES", "FLUX_JOB_SIZE", "FLUX_JOB_TMPDIR", "FLUX_KVS_NAMESPACE", "FLUX_PROXY_REMOTE",
		"FLUX_TASK_LOCAL_ID", "FLUX_TASK_RANK",
	}
	out := map[string]string{}
	for _, entry := range os.Environ() {
		if name, value, is := strings.Cut(entry, "="); is && name != "" && !slices.Contains(own, name) {
			out[name] = value
		}
	}
	return out
}

// Instance names this life of the broker.
func (q *Queue) Instance(ctx context.Context) (string, error) {
	broker, err := q.Client.Broker(ctx)
	if err != nil {
		return "", err
	}
	return broker.Instance, nil
}

// events are those that rules are about.
var events = []string{
	rules.EventSubmit, rules.EventDepend, rules.EventPriority, rules.EventAlloc, rules.EventStart, rules.EventFinish, rules.EventException,
	rules.EventClean, rules.EventInvalidate,
}

// Follow reads the journal.
func (q *Queue) Follow(ctx context.Context, listener agent.Listener) error {
	return flux.Follow(ctx, q.Client, func(ctx context.Context) (*flux.Stream[flux.JournalEntry], error) {
		return q.Client.Journal(ctx, flux.JournalOptions{Full: true, Allow: events})
	}, flux.Follower[flux.JournalEntry]{
		Opened: func() error { return listener.Opened(ctx) },
		Each: func(entry flux.JournalEntry) error {
			told := q.translate(&entry)
			if len(told) == 0 {
				return nil
			}
			return listener.Events(ctx, told)
		},
		Ended: func(err error) {
			q.Log.Info("The journal of the queue has ended; it is read again", "reason", err.Error())
		},
	})
}

// translate makes of an entry of the journal what rules are told.
func (q *Queue) translate(entry *flux.JournalEntry) []rules.Event {
	if entry.CaughtUp() {
		return []rules.Event{rules.CaughtUp{}}
	}
	var out []rules.Event
	for i := range entry.Events {
		e := &entry.Events[i]
		if !slices.Contains(events, e.Name) {
			continue
		}
		job := rules.Job{ID: uint64(entry.ID), At: e.Time, Name: e.Name}
		switch e.Name {
		case rules.EventSubmit:
			job.Submission = submission(entry.Jobspec)
		case rules.EventFinish:
			status, err := e.Finished()
			if err != nil {
				q.Log.Info("The end of a job is not understood and counts as a failure", "job", entry.ID.String(), "reason", err.Error())
				status = 255 << 8
			}
			job.Status = int(status)
		case rules.EventException:
			exception, err := e.Exception()
			if err != nil {
				q.Log.Info("An exception of a job is not understood and passed over", "job", entry.ID.String(), "reason", err.Error())
				continue
			}
			job.Type, job.Severity = exception.Type, exception.Severity
		}
		out = append(out, job)
	}
	return out
}

// submission is what a jobspec says, which may be absent.
func submission(spec *flux.Jobspec) *rules.Submission {
	if spec == nil {
		return &rules.Submission{}
	}
	out := &rules.Submission{Group: spec.UserText(attributeGroup), Nodes: int32(min(spec.Nodes, math.MaxInt32))} //nolint:gosec // See min.
	if err := json.Unmarshal(spec.User[attributeTag], &out.Tag); err != nil {
		// Nobody but the agent writes it, and what somebody else has written there is none of its tags.
		out.Tag = rules.Tag{}
	}
	return out
}

// Submit submits a job.
func (q *Queue) Submit(ctx context.Context, order rules.Order) error {
	command := q.command(order)
	spec, err := command.Jobspec()
	if err != nil {
		return &agent.RefusedError{Err: err}
	}
	_, err = q.Client.Submit(ctx, spec, flux.SubmitOptions{})
	if answer, is := errors.AsType[*flux.Error](err); is {
		if forGood(answer) {
			return &agent.RefusedError{Err: answer}
		}
		return &agent.NotNowError{Err: answer}
	}
	return err
}

// Cancel cancels a job.
func (q *Queue) Cancel(ctx context.Context, id uint64, note string) error {
	err := q.Client.Cancel(ctx, flux.JobID(id), note)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// forGood says of the answer to a submission that it would be the same at any time: the job is not as Flux takes jobs. All else passes: a
// queue that an administrator has disabled, which has the errno of a wrong job, a validator that was killed, a store that is full.
func forGood(answer *flux.Error) bool {
	if answer.Errno == syscall.EINVAL {
		return !strings.Contains(answer.Text, "is disabled")
	}
	return answer.Errno == syscall.EPERM || answer.Errno == syscall.E2BIG
}

func (q *Queue) command(order rules.Order) *flux.Command {
	job := order.Job
	command := &flux.Command{
		Args: ensemblefile.Words(job.Command), Nodes: int(job.Nodes), Tasks: int(max(job.Tasks, job.Nodes)),
		Duration: time.Duration(float64(job.Duration) * float64(time.Second)), Environment: q.Environment, Directory: q.Directory,
		User: map[string]any{attributeGroup: job.Name, attributeTag: order.Tag},
	}
	if job.Workdir != "" {
		command.Directory = job.Workdir
	}
	return command
}

// FollowNodes reads the journal of resources. flux-core before 0.72 has none.
func (q *Queue) FollowNodes(ctx context.Context, changed func()) error {
	return flux.Follow(ctx, q.Client, q.Client.ResourceJournal, flux.Follower[flux.ResourceEntry]{
		Each: func(flux.ResourceEntry) error {
			changed()
			return nil
		},
		Misread: func(err error) {
			q.Log.V(1).Info("An event of nodes is not understood", "reason", err.Error())
			changed()
		},
	})
}

// Nodes counts nodes: what is drained or torpid is up as long as a job is on it.
func (q *Queue) Nodes(ctx context.Context) (agent.Nodes, error) {
	status, err := q.Client.ResourceStatus(ctx)
	if err != nil {
		return agent.Nodes{}, fmt.Errorf("count nodes: %w", err)
	}
	allocated, err := q.Client.Allocated(ctx)
	if err != nil {
		return agent.Nodes{}, fmt.Errorf("count nodes: %w", err)
	}
	busy := allocated.Ranks()
	usable := status.Online.Minus(status.Torpid).Minus(status.Excluded).Minus(status.Drained())
	free := usable.Minus(busy)
	nodes := agent.Nodes{Up: usable.Union(busy.Intersect(status.Online)).Count(), Free: free.Count()}
	highest, occupied := busy.Max()
	for rank := range free.All() {
		// Rank 0 is the lead's, which does not leave.
		if rank > 0 && (!occupied || rank > highest) {
			nodes.IdleTail++
		}
	}
	return nodes, nil
}

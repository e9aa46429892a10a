package flux

import (
	"context"
	"encoding/json"
	"fmt"
	"syscall"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// DefaultMaxJobs is what JobFilter.Max is where it is 0.
const DefaultMaxJobs = 1000

// JobFilter says which jobs to list.
type JobFilter struct {
	// States is a set of them; 0 is all.
	States State
	// Max is how many to list at most: those that are served first, then those that run, then those that ended last. 0 is DefaultMaxJobs.
	Max int
	// Since leaves out the jobs that ended before.
	Since time.Time
	// UserID leaves out the jobs of others.
	UserID *uint32
}

// Job is what the instance says of a job. What it does not say, because the job has not come so far, is zero.
type Job struct {
	ID     JobID
	State  State
	UserID uint32
	Name   string
	Queue  string
	// Urgency is what was asked for, and Priority what came of it: a larger one is served first.
	Urgency  int
	Priority uint32
	// Nodes, Tasks and Cores are what it asked for or, once it runs, what it has. Each is 0 where that is not known.
	Nodes, Tasks, Cores int
	// Ranks are those it runs, or ran, on.
	Ranks idset.Set
	// Duration is how long it may run, 0 for as long as it likes.
	Duration time.Duration
	// Submitted, Started and Ended are when it came into the instance, got its resources, and was over.
	Submitted, Started, Ended time.Time
	// Result is how it ended.
	Result Result
	// WaitStatus is that of its shells, where HasWaitStatus says that it has one.
	WaitStatus    syscall.WaitStatus
	HasWaitStatus bool
	// Exception is the one that ended it, nil for none.
	Exception *Exception
}

// jobAttributes are what job-list is asked for. It refuses one that it does not know, so all of them are old.
var jobAttributes = []string{
	"userid", "urgency", "priority", "t_submit", "t_run", "t_inactive", "state", "name", "queue", "ntasks", "ncores", "duration", "nnodes",
	"ranks", "waitstatus", "exception_occurred", "exception_severity", "exception_type", "exception_note", "result",
}

// Jobs lists jobs: those that wait in the order in which they are served, then those that run, then those that have ended, the last first.
func (c *Client) Jobs(ctx context.Context, filter JobFilter) ([]Job, error) {
	most := filter.Max
	switch {
	case most < 0:
		return nil, fmt.Errorf("JobFilter.Max is %d: it has to be positive, or 0 for %d", most, DefaultMaxJobs)
	case most == 0:
		most = DefaultMaxJobs
	}
	request := map[string]any{"max_entries": most, "attrs": jobAttributes}
	if !filter.Since.IsZero() {
		request["since"] = float64(filter.Since.UnixMicro()) / 1e6
	}
	var constraints []any
	if filter.States != 0 {
		constraints = append(constraints, map[string]any{"states": []int{int(filter.States)}})
	}
	if filter.UserID != nil {
		constraints = append(constraints, map[string]any{"userid": []uint32{*filter.UserID}})
	}
	if len(constraints) > 0 {
		request["constraint"] = map[string]any{"and": constraints}
	}
	var response jobList
	if err := c.Call(ctx, AnyRank, "job-list.list", request, &response); err != nil {
		return nil, err
	}
	return response.jobs, nil
}

// Job reads one job. ENOENT says that there is none of that id. A job that was just submitted is waited for.
func (c *Client) Job(ctx context.Context, id JobID) (*Job, error) {
	var response oneJob
	if err := c.Call(ctx, AnyRank, "job-list.list-id", map[string]any{"id": id, "attrs": jobAttributes}, &response); err != nil {
		return nil, err
	}
	return &response.job, nil
}

type jobList struct{ jobs []Job }

// UnmarshalJSON reads the response of job-list.list.
func (l *jobList) UnmarshalJSON(text []byte) error {
	var read struct {
		Jobs *[]Job `json:"jobs"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	if read.Jobs == nil {
		return missing("jobs")
	}
	l.jobs = *read.Jobs
	return nil
}

type oneJob struct{ job Job }

// UnmarshalJSON reads the response of job-list.list-id.
func (o *oneJob) UnmarshalJSON(text []byte) error {
	var read struct {
		Job *Job `json:"job"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	if read.Job == nil {
		return missing("job")
	}
	o.job = *read.Job
	return nil
}

// UnmarshalJSON reads a job as job-list describes it.
func (j *Job) UnmarshalJSON(text []byte) error {
	var read struct {
		ID         *JobID    `json:"id"`
		State      *State    `json:"state"`
		UserID     uint32    `json:"userid"`
		Name       string    `json:"name"`
		Queue      string    `json:"queue"`
		Urgency    int       `json:"urgency"`
		Priority   uint32    `json:"priority"`
		Nodes      int       `json:"nnodes"`
		Tasks      int       `json:"ntasks"`
		Cores      int       `json:"ncores"`
		Ranks      idset.Set `json:"ranks"`
		Duration   float64   `json:"duration"`
		Submitted  float64   `json:"t_submit"`
		Started    float64   `json:"t_run"`
		Ended      float64   `json:"t_inactive"`
		Result     Result    `json:"result"`
		WaitStatus *uint32   `json:"waitstatus"`
		Occurred   bool      `json:"exception_occurred"`
		Severity   int       `json:"exception_severity"`
		Type       string    `json:"exception_type"`
		Note       string    `json:"exception_note"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	switch {
	case read.ID == nil:
		return fmt.Errorf("job: %w", missing("id"))
	case read.State == nil:
		return fmt.Errorf("job %s: %w", *read.ID, missing("state"))
	}
	*j = Job{
		ID: *read.ID, State: *read.State, UserID: read.UserID, Name: read.Name, Queue: read.Queue, Urgency: read.Urgency,
		Priority: read.Priority, Nodes: read.Nodes, Tasks: read.Tasks, Cores: read.Cores, Ranks: read.Ranks,
		Duration: seconds(read.Duration), Submitted: unixTime(read.Submitted), Started: unixTime(read.Started),
		Ended: unixTime(read.Ended), Result: read.Result,
	}
	if read.WaitStatus != nil {
		j.WaitStatus, j.HasWaitStatus = syscall.WaitStatus(*read.WaitStatus), true
	}
	if read.Occurred {
		j.Exception = &Exception{Type: read.Type, Severity: read.Severity, Note: read.Note}
	}
	return nil
}

// JobStats counts the jobs of an instance. Those that have ended are counted until they are purged.
type JobStats struct {
	// How many are in each state.
	Depend, Priority, Sched, Run, Cleanup, Inactive int
	// How many of those that have ended did so how.
	Successful, Failed, Canceled, TimedOut int
	// Purged is how many that have ended were forgotten.
	Purged int
}

// Waiting is how many wait.
func (s *JobStats) Waiting() int { return s.Depend + s.Priority + s.Sched }

// JobStats counts the jobs.
func (c *Client) JobStats(ctx context.Context) (*JobStats, error) {
	var stats JobStats
	if err := c.Call(ctx, AnyRank, jobStatsTopic, nil, &stats); err != nil {
		return nil, err
	}
	return &stats, nil
}

const jobStatsTopic = "job-list.job-stats"

// WatchJobStats streams the counts of jobs: first what they are, then again at most 0.2 s after a change.
func (c *Client) WatchJobStats(ctx context.Context) (*Stream[JobStats], error) {
	return openStream(ctx, c, AnyRank, jobStatsTopic, nil, decodeJobStats)
}

func decodeJobStats(payload []byte) (JobStats, error) {
	var stats JobStats
	err := decodeJSON(payload, &stats)
	return stats, err
}

// UnmarshalJSON reads the response of job-list.job-stats.
func (s *JobStats) UnmarshalJSON(text []byte) error {
	var read struct {
		States *struct {
			Depend   int  `json:"depend"`
			Priority int  `json:"priority"`
			Sched    *int `json:"sched"`
			Run      *int `json:"run"`
			Cleanup  int  `json:"cleanup"`
			Inactive int  `json:"inactive"`
		} `json:"job_states"`
		Successful int `json:"successful"`
		Failed     int `json:"failed"`
		Canceled   int `json:"canceled"`
		Timeout    int `json:"timeout"`
		Purged     int `json:"inactive_purged"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	switch {
	case read.States == nil:
		return missing("job_states")
	case read.States.Sched == nil:
		return missing("job_states.sched")
	case read.States.Run == nil:
		return missing("job_states.run")
	}
	*s = JobStats{
		Depend: read.States.Depend, Priority: read.States.Priority, Sched: *read.States.Sched, Run: *read.States.Run,
		Cleanup: read.States.Cleanup, Inactive: read.States.Inactive,
		Successful: read.Successful, Failed: read.Failed, Canceled: read.Canceled, TimedOut: read.Timeout, Purged: read.Purged,
	}
	return nil
}
